"""What the index knows of a clip: one row per clip and camera, put together from vectors, catalog and scenes.

Belongs here: the columns, and how a drive's rows come about. Does not belong here: storing or searching them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_TEXT, _FLOAT, _INT, _LIST = pa.string(), pa.float64(), pa.int32(), pa.list_(pa.string())
FACTS: Final = {
    **dict.fromkeys(("clip_id", "camera", "drive"), _TEXT),
    "start_ns": pa.int64(),
    **dict.fromkeys(("light", "weather", "road_class", "speed_band"), _TEXT),
    **dict.fromkeys(("speed", "max_decel_mps2", "sensor_health", "latitude_deg", "longitude_deg"), _FLOAT),
    **dict.fromkeys(("max_level", "vehicles", "pedestrians", "occluded_pedestrians"), _INT),
    **dict.fromkeys(("kinds", "tags"), _LIST),
    **dict.fromkeys(("h3_cell", "text", "content"), _TEXT),
}
"""Column -> type of all but the vector. `speed` is the mean in m/s; `text` describes the scenes around the clip;
`content` is the digest of what the drive's rows were made from."""

FILTERS: Final = tuple(name for name in FACTS if name not in ("text", "content"))
_OF_CLIP: Final = {"speed": "mean_speed_mps", "start_ns": "start_ns"} | {
    name: name
    for name in ("light", "max_decel_mps2", "sensor_health", "latitude_deg", "longitude_deg", "h3_cell")
}
_FIRST: Final = ("light", "weather", "road_class", "speed_band", "h3_cell")
_MOST: Final = ("max_level", "vehicles", "pedestrians", "occluded_pedestrians")


def index_schema(dimension: int) -> pa.Schema:
    """`FACTS` and a vector of this length."""
    vector = pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False)
    return pa.schema([*(pa.field(name, kind) for name, kind in FACTS.items()), vector])


def index_rows(
    drive: str,
    embeddings: pa.Table,
    clips: Iterable[Mapping[str, Any]],
    scenes: Sequence[Mapping[str, Any]],
    content: str,
) -> pa.Table:
    """The drive's rows, sorted by clip and camera. What catalog or scenes do not know is null.

    Args:
        embeddings: rows of `embeddings.parquet`, of one maker.
        clips: rows of the table `clips`.
        scenes: rows of the table `scenes`.
        content: digest of all of the above.
    """
    column = embeddings["embedding"].combine_chunks()
    known = {clip["clip_id"]: clip for clip in clips}
    around: dict[str, list[Mapping[str, Any]]] = {}
    for scene in sorted(scenes, key=lambda s: (s.get("start_ns") or 0, str(s.get("scene_id")))):
        for clip_id in scene.get("clip_ids") or ():
            around.setdefault(clip_id, []).append(scene)
    keys = embeddings.select(["clip_id", "camera"]).to_pylist()
    facts = [
        {"drive": drive, "content": content}
        | key
        | _facts(known.get(key["clip_id"], {}), around.get(key["clip_id"], []))
        for key in keys
    ]
    arrays = [pa.array([fact.get(name) for fact in facts], kind) for name, kind in FACTS.items()]
    schema = index_schema(column.type.list_size)
    return pa.table([*arrays, column], schema=schema).sort_by(
        [("clip_id", "ascending"), ("camera", "ascending")]
    )


def _facts(clip: Mapping[str, Any], scenes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {name: clip.get(source) for name, source in _OF_CLIP.items()}
    for name in _FIRST:
        found[name] = found.get(name) or next((s[name] for s in scenes if s.get(name)), None)
    for name in _MOST:
        found[name] = max((s[name] for s in scenes if s.get(name) is not None), default=None)
    for name in ("kinds", "tags"):
        found[name] = sorted({value for scene in scenes for value in scene.get(name) or ()})
    said = dict.fromkeys(scene["description"] for scene in scenes if scene.get("description"))
    return found | {"text": " ".join(said)}
