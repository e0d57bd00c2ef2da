"""A model over drives: the same answers however the work is cut, and bad shards that keep nobody up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.errors import ModelError, TransientError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.evidence.segments import FolderSegments
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.inference.feeding import ahead, cut
from av_assets.domain.inference.ledger import Ledger, Origin, totals
from av_assets.domain.inference.pace import bottleneck_png, progress
from av_assets.domain.inference.predicting import Predictor, predict_drive
from av_assets.domain.inference.rows import NO_PICTURE, read_rows, span_s
from av_assets.domain.inference.seeing import look_of
from av_assets.domain.loading.sample_index import SampleIndex
from av_assets.domain.loading.sources import FolderSource, ShardRef
from av_assets.domain.models.runtime import OnnxPerception
from av_assets.policies.inference import InferencePolicy
from tests.domain.inference.pool_rig import (
    CAMERA,
    HEIGHT,
    STEP_NS,
    WIDTH,
    jpeg,
    ref_of,
    write_drive,
    write_model,
    write_shard,
)

POLICY = InferencePolicy.load().model_copy(update={"batch_size": 4})
ORIGIN = Origin("w20250602-0badcafe", "content", "calibration", "1", "policy", "environment")
DRIVE = "veh001-20250601t080000z"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return predictor_of(write_model(tmp_path_factory.mktemp("model")))


def predictor_of(folder: Path, policy: InferencePolicy = POLICY) -> Predictor:
    model = OnnxPerception(folder, policy.num_threads)
    return Predictor(model, policy, look_of(model.config, CAMERA, policy.lidars, policy.radars))


def predict(
    predictor: Predictor, refs: list[ShardRef], folder: Path, out: Path, segments: Any = None, **more: Any
) -> Ledger:
    out.mkdir(parents=True, exist_ok=True)
    kept = segments or FolderSegments(out.with_name(f"{out.name}.segments"))
    arguments = {"origin": ORIGIN, "known": {}, "watch": Stopwatch()} | more
    return predict_drive(
        refs, FolderSource(folder, "sha256"), {}, predictor, out=out, segments=kept, **arguments
    )


def test_every_frame_gets_what_the_network_says_of_it(predictor: Predictor, tmp_path: Path) -> None:
    refs = write_drive(tmp_path, DRIVE)
    ledger = predict(predictor, refs, tmp_path, tmp_path / "out")
    assert ledger.note() == ""
    assert [(e.status, e.frames, e.predicted, e.boxes) for e in ledger.entries] == [("done", 10, 10, 20)] * 3
    assert totals(ledger.entries)["span_s"] == pytest.approx(3.0)
    rows = read_rows(tmp_path / "out" / ledger.entries[1].output, "")
    assert [row["ref_ns"] for row in rows] == [(10 + n) * STEP_NS for n in range(10)]
    for number, row in enumerate(rows):
        bgr = cv2.imdecode(np.frombuffer(jpeg(1000 + number), np.uint8), cv2.IMREAD_COLOR)
        assert row["scores"][0] == pytest.approx(bgr.mean() / 255, abs=0.01)
        assert row["boxes"][:4] == [
            0,
            0,
            WIDTH,
            2 * HEIGHT,
        ]  # in pixels of the camera, which has twice the size
        assert (row["width"], row["height"], row["classes"], row["reason"]) == (
            2 * WIDTH,
            2 * HEIGHT,
            [0, 1],
            None,
        )
        assert row["boxes3d"] is None
        assert 0 < row["uncertainty"] <= 1


def test_the_ledger_names_the_bytes_of_every_output(predictor: Predictor, tmp_path: Path) -> None:
    refs = write_drive(tmp_path, DRIVE)
    ledger = predict(predictor, refs, tmp_path, tmp_path / "out")
    written = Ledger.from_json((tmp_path / "out" / "ledger.json").read_bytes())
    assert written == ledger
    assert [e.sha256 for e in ledger.entries] == [ref.sha256 for ref in refs]
    assert [e.key for e in ledger.entries] == [ORIGIN.key(ref.sha256) for ref in refs]
    for entry in ledger.entries:
        assert sha256_file(tmp_path / "out" / entry.output) == entry.output_sha256


@pytest.mark.parametrize("field", ["model", "calibration", "code_version", "policy", "environment"])
def test_another_origin_is_another_key_but_for_the_name(field: str) -> None:
    assert replace(ORIGIN, **{field: "other"}).key("sha") != ORIGIN.key("sha")
    assert replace(ORIGIN, release="other").key("sha") == ORIGIN.key("sha")
    assert ORIGIN.key("other") != ORIGIN.key("sha")


@pytest.mark.parametrize("workers", [0, 1])
def test_answers_do_not_depend_on_who_reads_or_where_work_begins(
    predictor: Predictor, tmp_path: Path, workers: int
) -> None:
    refs = write_drive(tmp_path, DRIVE, frames=7)
    whole = predict(predictor, refs, tmp_path, tmp_path / "whole")
    slow = POLICY.model_copy(update={"workers": workers, "prefetch": 1})
    other = replace(predictor, policy=slow, streams=3)
    segments = FolderSegments(tmp_path / "half")
    predict(other, refs[:1], tmp_path, tmp_path / "first", segments)
    again = predict(other, refs, tmp_path, tmp_path / "again", segments)
    assert [e.output_sha256 for e in again.entries] == [e.output_sha256 for e in whole.entries]


def test_what_is_finished_is_not_made_again(predictor: Predictor, tmp_path: Path) -> None:
    refs, segments = write_drive(tmp_path, DRIVE), FolderSegments(tmp_path / "segments")
    first = predict(predictor, refs, tmp_path, tmp_path / "out", segments)
    for ref in refs:
        (tmp_path / ref.path).unlink()
    again = predict(predictor, refs, tmp_path, tmp_path / "again", segments)
    assert again == first


def test_known_outputs_are_taken_over_under_the_name_of_their_shard(
    predictor: Predictor, tmp_path: Path
) -> None:
    refs = write_drive(tmp_path, DRIVE)
    first = predict(predictor, refs, tmp_path, tmp_path / "out")
    moved = replace(refs[1], path="clips/00007.parquet")
    again = predict(
        predictor,
        [refs[0], moved],
        tmp_path,
        tmp_path / "again",
        known={first.entries[1].key: first.entries[1]},
    )
    assert (again.entries[1].shard, again.entries[1].output) == (
        "clips/00007.parquet",
        "predictions/00007.parquet",
    )
    assert again.entries[1].output_sha256 == first.entries[1].output_sha256
    assert not (tmp_path / "again" / again.entries[1].output).exists()  # the caller has it


def garbage(path: Path) -> None:
    path.write_bytes(b"no parquet at all")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [garbage, cut_off, flipped, Path.unlink])
@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_bad_shard_is_named_and_the_others_are_done(
    predictor: Predictor, tmp_path: Path, damage: Callable[[Path], None], bad: int
) -> None:
    refs = write_drive(tmp_path, DRIVE)
    damage(tmp_path / refs[bad].path)
    ledger = predict(predictor, refs, tmp_path, tmp_path / "out")
    assert [e.status for e in ledger.entries] == ["failed" if n == bad else "done" for n in range(3)]
    assert ledger.entries[bad].code in ("shard_changed", "missing_shard")
    assert ledger.note().startswith(f"partial: 1 of 3 shards are not done (clips/{bad:05d}.parquet: ")
    assert not (tmp_path / "out" / "predictions" / f"{bad:05d}.parquet").exists()
    assert ledger.entries[bad].key not in ledger.reusable()


def test_a_shard_that_was_published_bad_is_named(predictor: Predictor, tmp_path: Path) -> None:
    """Its bytes are those of its digest, and no shard."""
    refs = write_drive(tmp_path, DRIVE)
    garbage(tmp_path / refs[1].path)
    refs[1] = ref_of(tmp_path / refs[1].path, tmp_path)
    ledger = predict(predictor, refs, tmp_path, tmp_path / "out")
    assert [e.status for e in ledger.entries] == ["done", "failed", "done"]
    assert ledger.entries[1].code == "bad_shard"


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_shard_without_sensible_columns_is_named(predictor: Predictor, tmp_path: Path, bad: int) -> None:
    """Opening its times works; what the camera's column holds is found out while the shards before it are predicted."""
    import pyarrow.parquet as pq

    refs = write_drive(tmp_path, DRIVE)
    path = tmp_path / refs[bad].path
    table = pq.read_table(path)
    pq.write_table(table.set_column(4, CAMERA, [[1] * table.num_rows]), path)
    refs[bad] = ref_of(path, tmp_path)
    ledger = predict(predictor, refs, tmp_path, tmp_path / "out")
    assert [e.status for e in ledger.entries] == ["failed" if n == bad else "done" for n in range(3)]
    clean = write_drive(tmp_path / "clean", DRIVE)
    whole = predict(predictor, clean, tmp_path / "clean", tmp_path / "whole")
    for number, entry in enumerate(ledger.entries):
        assert entry.output_sha256 == ("" if number == bad else whole.entries[number].output_sha256)


def test_frames_that_do_not_decode_are_told_and_counted(predictor: Predictor, tmp_path: Path) -> None:
    refs = [
        ref_of(
            write_shard(tmp_path / "clips" / "00000.parquet", DRIVE, 0, broken=(3, 4), missing=(6,)), tmp_path
        )
    ]
    ledger = predict(predictor, refs, tmp_path, tmp_path / "out")
    entry = ledger.entries[0]
    assert (entry.status, entry.frames, entry.predicted, entry.unreadable) == ("damaged", 10, 7, 2)
    assert "2 of 10 frames cannot be read" in entry.reason
    rows = read_rows(tmp_path / "out" / entry.output, "")
    assert rows[3]["reason"].startswith("undecodable_frame")
    assert rows[6]["reason"] == NO_PICTURE
    assert [row["scores"] is None for row in rows] == [n in (3, 4, 6) for n in range(10)]


def test_a_drive_without_the_camera_says_so(predictor: Predictor, tmp_path: Path) -> None:
    refs = write_drive(tmp_path, DRIVE, camera="camera_rear")
    ledger = predict(predictor, refs, tmp_path, tmp_path / "out")
    assert ledger.note() == "no picture of camera_front in this drive: nothing to predict"
    assert [(e.status, e.predicted) for e in ledger.entries] == [("done", 0)] * 3


def test_a_drive_without_shards_says_so(predictor: Predictor, tmp_path: Path) -> None:
    ledger = predict(predictor, [], tmp_path, tmp_path / "out")
    assert ledger.note() == "no shard in this drive: nothing to predict"


def test_a_network_that_does_not_fit_is_no_fault_of_the_shards(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    config = json.loads((folder / "inference_config.json").read_text())
    config["inputs"][0]["shape"] = [None, 5, HEIGHT, 2 * WIDTH]
    config["layout"]["width"] = 2 * WIDTH
    (folder / "inference_config.json").write_text(json.dumps(config))
    with pytest.raises(Exception, match=r"(?i)dimension|shape") as refused:
        predict(predictor_of(folder), write_drive(tmp_path, DRIVE), tmp_path, tmp_path / "out")
    assert not isinstance(refused.value, TransientError)


def test_inputs_that_nobody_can_draw_are_refused(tmp_path: Path) -> None:
    config = json.loads((write_model(tmp_path) / "inference_config.json").read_text())
    del config["layout"]
    assert look_of(config, CAMERA, (), ()).make.layout.lidar  # a picture alone says enough
    config["inputs"].append({"name": "bev", "dtype": "uint8", "shape": [None, 4, 8, 8]})
    with pytest.raises(ModelError, match="layout"):
        look_of(config, CAMERA, (), ())


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 7), st.integers(1, 5))
def test_batches_are_cut_at_shards_and_lose_nothing(sizes: list[int], coming: int, size: int) -> None:
    shard = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    n = len(shard)
    index = SampleIndex(
        (),
        ("d",),
        ("c",),
        shard,
        np.zeros(n, np.int32),
        np.arange(n),
        np.zeros(n, np.int32),
        np.zeros(n, np.int32),
    )
    batches = [
        {"sample": np.arange(a, min(a + coming, n)), "x": np.arange(a, min(a + coming, n))}
        for a in range(0, n, coming)
    ]
    chunks = list(cut(batches, index, list(range(10, 10 + len(sizes))), size))
    assert [v for chunk in chunks for v in chunk.arrays["x"].tolist()] == list(range(n))
    for chunk in chunks:
        assert {int(shard[key.ref_ns]) + 10 for key in chunk.keys} == {chunk.shard}
    # How a shard is cut depends on its own rows alone.
    for number, rows in enumerate(sizes):
        lengths = [len(c.keys) for c in chunks if c.shard == number + 10]
        assert lengths == [size] * (rows // size) + ([rows % size] if rows % size else [])


def test_reading_ahead_raises_at_its_place_and_ends() -> None:
    def items() -> Any:
        yield 1
        yield 2
        raise ValueError("third")

    with ahead(items(), 1) as held:
        assert [next(held), next(held)] == [1, 2]
        with pytest.raises(ValueError, match="third"):
            next(held)
    with ahead(iter(range(10**9)), 2) as held:
        assert next(held) == 0  # and nobody waits for the rest


def test_the_bottleneck_is_named() -> None:
    assert progress(10, 10, {"compute": 9.0, "wait": 0.5}, 0.8).bottleneck == "compute"
    assert (
        progress(10, 10, {"compute": 3.0, "wait": 6.0, "decode": 8.0, "write": 1}, 0.8).bottleneck == "decode"
    )
    assert progress(10, 10, {"compute": 3.0, "wait": 1.0, "write": 5.0}, 0.8).bottleneck == "write"
    assert progress(10, 10, {"read": 7.0, "compute": 2.0}, 0.8).bottleneck == "read"
    nothing = progress(0, 0, {}, 0.8)
    assert (nothing.bottleneck, nothing.realtime) == ("", None)
    assert progress(30, 10, {"compute": 9.0}, 0.8).realtime == pytest.approx(3.0)
    assert bottleneck_png(progress(30, 10, {"compute": 9.0}, 0.8), DRIVE).startswith(b"\x89PNG")


def test_seconds_that_rows_stand_for() -> None:
    assert span_s([]) == span_s([5]) == 0.0
    assert span_s([0, 10**8, 3 * 10**8, 4 * 10**8]) == pytest.approx(0.5)
