"""A clip written for viewers and read back by their own readers: redacted pictures, boxes, tracks, events, the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mcap.reader import make_reader

from av_assets.domain.errors import LabelError, RedactionError
from av_assets.domain.labels.schema import AUTO_LABELS
from av_assets.domain.sync.exporters.clips import Clip, Shards
from av_assets.domain.viewing.mcap_view import write_excerpt
from av_assets.domain.viewing.overlay import Overlay, overlay_of
from av_assets.domain.viewing.rerun_view import write_rrd
from tests.domain.sync.exported_shards import DRIVE, ROWS, START_NS, jpeg, write_shards

CLIP = f"{DRIVE}/00000"
STEP_NS = 100_000_000


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    """The known shards without the camera whose video units are no video."""
    folder = write_shards(tmp_path / "shards")
    for path in sorted((folder / "clips").glob("*.parquet")):
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["camera_side"]), path)
    return Shards.open(folder)


@pytest.fixture
def clip(shards: Shards) -> Clip:
    return next(iter(shards.clips()))


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    def row(clip_id: str, frame: int, cls: str) -> dict[str, object]:
        box = {"x1": 1.0, "y1": 2.0, "x2": 11.0, "y2": 12.0, "score": 0.5}
        where = {"clip_id": clip_id, "ref_ns": START_NS + frame * STEP_NS, "camera": "camera_front"}
        return {**where, **box, "label_id": f"l{frame}", "cls": cls, "source": "lidar"}

    rows = [
        row(CLIP, 0, "vehicle"),
        row(CLIP, 0, "pedestrian"),
        row(CLIP, 3, "tram"),
        row("other/00000", 0, "cone"),
    ]
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=AUTO_LABELS), path)
    return path


@pytest.fixture
def overlay(labels: Path) -> Overlay:
    events = [
        {"clip_id": CLIP, "kind": "cut_in", "level": 2, "start_ns": START_NS, "end_ns": START_NS + 10**9},
        {"clip_id": "other/00000", "kind": "turn", "level": 1, "start_ns": START_NS, "end_ns": START_NS},
    ]
    return overlay_of(CLIP, labels, events, "A vehicle cuts in.")


def entities(path: Path) -> dict[str, list[pa.RecordBatch]]:
    from rerun.chunk import RrdReader

    found: dict[str, list[pa.RecordBatch]] = {}
    for chunk in RrdReader(str(path)).stream().to_chunks():
        found.setdefault(str(chunk.entity_path), []).append(chunk.to_record_batch())
    return found


def cells(batches: list[pa.RecordBatch], ending: str) -> list[object]:
    return [
        value
        for batch in batches
        for name in batch.schema.names
        if name.endswith(ending)
        for value in batch[name].to_pylist()
        if value is not None
    ]


def test_an_overlay_holds_what_belongs_to_the_clip(overlay: Overlay) -> None:
    assert {key: [box.cls for box in boxes] for key, boxes in overlay.boxes.items()} == {
        ("camera_front", START_NS): ["vehicle", "pedestrian"],
        ("camera_front", START_NS + 3 * STEP_NS): ["tram"],
    }
    assert [span.kind for span in overlay.events] == ["cut_in"]


def test_a_file_that_holds_no_labels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(LabelError, match="labels"):
        overlay_of(CLIP, path, [])


def test_a_rerun_recording_holds_the_redacted_pictures_as_they_are(
    shards: Shards, clip: Clip, overlay: Overlay, tmp_path: Path
) -> None:
    write_rrd(shards, clip, overlay, tmp_path / "clip.rrd")
    found = entities(tmp_path / "clip.rrd")
    blobs = cells(found["/ego/camera_front"], "blob")
    assert [bytes(blob[0]) for blob in blobs] == [jpeg(row) for row in range(ROWS)]  # type: ignore[index]
    assert {"/ego/camera_rear", "/ego/lidar_top", "/ego/radar_front", "/events", "/description"} <= set(found)


def test_a_rerun_recording_holds_boxes_events_and_signals_at_their_times(
    shards: Shards, clip: Clip, overlay: Overlay, tmp_path: Path
) -> None:
    write_rrd(shards, clip, overlay, tmp_path / "clip.rrd")
    found = entities(tmp_path / "clip.rrd")
    captions = cells(found["/ego/camera_front/boxes"], "labels")
    assert ["vehicle 0.50 (lidar)", "pedestrian 0.50 (lidar)"] in captions
    assert cells(found["/events"], "text") == [["cut_in level 2, 1.0 s"]]
    speed = cells(found["/signals/speed_mps"], "scalars")
    known = clip.signals()["speed_mps"]
    assert [value for (value,) in speed] == known[np.isfinite(known)].tolist()  # type: ignore[misc]


def test_an_excerpt_is_one_clip_with_annotations_on_the_stamps_of_the_pictures(
    shards: Shards, clip: Clip, overlay: Overlay, tmp_path: Path
) -> None:
    counts = write_excerpt(shards, clip, overlay, tmp_path / "clip.mcap")
    assert counts["/camera_front/image/compressed"] == ROWS
    assert counts["/camera_front/annotations"] == 2
    assert counts["/events"] == 1
    with (tmp_path / "clip.mcap").open("rb") as file:
        read = [
            (schema.name, message.publish_time, json.loads(message.data))
            for schema, channel, message in make_reader(file).iter_messages(["/camera_front/annotations"])
        ]
    name, publish_ns, drawn = read[0]
    assert name == "foxglove.ImageAnnotations"
    assert publish_ns == clip.times("camera_front").sensor_ns[0]
    assert drawn["points"][0]["points"][2] == {"x": 11.0, "y": 12.0}
    assert [text["text"] for text in drawn["texts"]] == ["vehicle 0.50 (lidar)", "pedestrian 0.50 (lidar)"]


def test_tracks_of_an_excerpt_stand_in_the_frame_of_the_vehicle(
    shards: Shards, clip: Clip, overlay: Overlay, tmp_path: Path
) -> None:
    write_excerpt(shards, clip, overlay, tmp_path / "clip.mcap")
    with (tmp_path / "clip.mcap").open("rb") as file:
        updates = [json.loads(m.data) for _, _, m in make_reader(file).iter_messages(["/radar_front/scene"])]
    first = updates[0]["entities"][0]
    assert first["frame_id"] == "base_link"
    assert first["cubes"][0]["pose"]["position"]["x"] == 1.5


def test_pictures_without_the_mark_of_redaction_are_not_shown(
    shards: Shards, overlay: Overlay, tmp_path: Path
) -> None:
    path = shards.paths[0]
    table = pq.read_table(path)
    kept = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"redacted"}
    pq.write_table(table.replace_schema_metadata(kept), path)
    bare = next(iter(shards.clips()))
    with pytest.raises(RedactionError):
        write_rrd(shards, bare, overlay, tmp_path / "clip.rrd")
    with pytest.raises(RedactionError):
        write_excerpt(shards, bare, overlay, tmp_path / "clip.mcap")
    assert not (tmp_path / "clip.mcap").exists()
