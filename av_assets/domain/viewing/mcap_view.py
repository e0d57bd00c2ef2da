"""A clip as an MCAP excerpt: what the exporter of shards writes, with boxes as image annotations and tracks as cubes.

The overlay is JSON by Foxglove's schemas `foxglove.ImageAnnotations` and `foxglove.SceneUpdate`, so that players draw
it over the pictures without being told how.
Belongs here: those messages. Does not belong here: the messages of the sensors (sync/exporters/mcap_export).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from av_assets.domain.geometry.calibration import EGO_FRAME
from av_assets.domain.logs.files.mcap_writer import McapChannel
from av_assets.domain.sync.exporters.mcap_export import export_mcap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av_assets.domain.sync.exporters.clips import Clip, Shards
    from av_assets.domain.sync.exporters.mcap_export import Note
    from av_assets.domain.viewing.overlay import RGB, Box, Overlay

_NS: Final = 1_000_000_000
_LINE_LOOP: Final = 2
_TRACK_SIZE_M: Final = {
    "x": 4.0,
    "y": 1.8,
    "z": 1.5,
}  # radar gives no extent: a car's, so that a cube can be seen
_LIFETIME: Final = {"sec": 0, "nsec": 200_000_000}
_TIME: Final = {
    "type": "object",
    "title": "time",
    "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}},
}


def write_excerpt(shards: Shards, clip: Clip, overlay: Overlay, out: Path) -> dict[str, int]:
    """Write one clip to the MCAP file `out`; gives messages per topic.

    Topics: those of `export_mcap`, `/<camera>/annotations`, `/<radar>/scene` and `/events`.

    Raises:
        SyncError: bad_shard.
        LogError: output_exists.
        TransientError: disk_full or cannot_write.
    """
    notes = [*_annotations(shards, clip, overlay), *_scenes(shards, clip), *_events(overlay)]
    return export_mcap(shards.folder, out, only=clip.number, notes=notes)


def _annotations(shards: Shards, clip: Clip, overlay: Overlay) -> Iterator[Note]:
    ref_ns = clip.numbers("ref_ns")
    for role in shards.of("camera"):
        channel = _channel(f"/{role}/annotations", "foxglove.ImageAnnotations", ("points", "texts"))
        times, last_ns = clip.times(role), -1
        for row, sensor_ns in enumerate(times.sensor_ns):
            if not times.valid[row] or sensor_ns == last_ns:
                continue
            last_ns = sensor_ns
            boxes = overlay.boxes.get((role, int(ref_ns[row])))
            if boxes:
                drawn = _drawn(int(sensor_ns), boxes)
                yield int(times.log_ns[row]), int(sensor_ns), channel, _encoded(drawn)


def _drawn(sensor_ns: int, boxes: tuple[Box, ...]) -> dict[str, Any]:
    stamp = _stamp(sensor_ns)
    loops, texts = [], []
    for box in boxes:
        corners = [(box.x1, box.y1), (box.x2, box.y1), (box.x2, box.y2), (box.x1, box.y2)]
        loops.append(
            {
                "timestamp": stamp,
                "type": _LINE_LOOP,
                "points": [{"x": x, "y": y} for x, y in corners],
                "outline_color": _colour(box.colour),
                "outline_colors": [],
                "fill_color": _colour(box.colour, 0.0),
                "thickness": 2.0,
            }
        )
        texts.append(
            {
                "timestamp": stamp,
                "position": {"x": box.x1, "y": max(0.0, box.y1 - 4.0)},
                "text": box.caption,
                "font_size": 12.0,
                "text_color": _colour((255, 255, 255)),
                "background_color": _colour(box.colour, 0.7),
            }
        )
    return {"circles": [], "points": loops, "texts": texts}


def _scenes(shards: Shards, clip: Clip) -> Iterator[Note]:
    """Tracks of each radar as cubes in the frame of the vehicle."""
    for role in shards.of("radar"):
        channel = _channel(f"/{role}/scene", "foxglove.SceneUpdate", ("deletions", "entities"))
        times, last_ns = clip.times(role), -1
        for row, tracks in enumerate(clip.tracks(role)):
            sensor_ns = int(times.sensor_ns[row])
            if not tracks or sensor_ns == last_ns:
                continue
            last_ns = sensor_ns
            entities = [_entity(role, sensor_ns, track) for track in tracks]
            yield (
                int(times.log_ns[row]),
                sensor_ns,
                channel,
                _encoded({"deletions": [], "entities": entities}),
            )


def _entity(role: str, sensor_ns: int, track: dict[str, Any]) -> dict[str, Any]:
    position = {"x": track["x_m"], "y": track["y_m"], "z": _TRACK_SIZE_M["z"] / 2}
    still = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
    cube = {
        "pose": {"position": position, "orientation": still},
        "size": _TRACK_SIZE_M,
        "color": _colour((213, 94, 0), 0.5),
    }
    none: dict[str, list[Any]] = {
        kind: [] for kind in ("arrows", "spheres", "cylinders", "lines", "triangles", "texts", "models")
    }
    return {
        "timestamp": _stamp(sensor_ns),
        "frame_id": EGO_FRAME,
        "id": f"{role}-{track['track_id']}",
        "lifetime": _LIFETIME,
        "frame_locked": True,
        "metadata": [
            {"key": "vx_mps", "value": f"{track['vx_mps']:.2f}"},
            {"key": "vy_mps", "value": f"{track['vy_mps']:.2f}"},
        ],
        "cubes": [cube],
        **none,
    }


def _events(overlay: Overlay) -> Iterator[Note]:
    channel = _channel("/events", "foxglove.Log", ("message", "name"))
    for span in overlay.events:
        message = f"{span.kind} level {span.level}, {(span.end_ns - span.start_ns) / _NS:.1f} s"
        log = {"timestamp": _stamp(span.start_ns), "level": 3, "message": message, "name": "events"}
        yield span.start_ns, span.start_ns, channel, _encoded(log | {"file": "", "line": 0})


def _channel(topic: str, name: str, fields: tuple[str, ...]) -> McapChannel:
    properties: dict[str, Any] = {
        field: {"type": "string"}
        if name == "foxglove.Log"
        else {"type": "array", "items": {"type": "object"}}
        for field in fields
    }
    if name == "foxglove.Log":
        properties |= {"timestamp": _TIME, "level": {"type": "integer"}}
    schema = {"title": name, "type": "object", "properties": properties}
    return McapChannel(topic, "json", name, "jsonschema", json.dumps(schema, sort_keys=True).encode())


def _encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode()


def _stamp(ns: int) -> dict[str, int]:
    return {"sec": ns // _NS, "nsec": ns % _NS}


def _colour(rgb: RGB, alpha: float = 1.0) -> dict[str, float]:
    return {**{name: value / 255 for name, value in zip("rgb", rgb, strict=True)}, "a": alpha}
