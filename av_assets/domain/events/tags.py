"""Words by which a clip is found, out of the events that touch it.

Belongs here: tags of clips. Does not belong here: tags of one event (the detectors), scenes and their text.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

TAG_SCHEMA: Final = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
    ]
)


def clip_tags(events: pa.Table, clips: pa.Table) -> pa.Table:
    """Tags of every clip of one drive, sorted, without repeats, by TAG_SCHEMA; an empty list where nothing happens.

    An event gives its kind, `kind:level_n` and `kind:tag` for each of its tags to every clip that it overlaps (ends
    included).

    Args:
        events: kind, level, start_ns, end_ns and tags.
        clips: clip_id, start_ns and end_ns of the first and the last frame.
    """
    starts, ends = (events[name].to_numpy().astype(np.int64) for name in ("start_ns", "end_ns"))
    words = [
        [row["kind"], f"{row['kind']}:level_{row['level']}", *(f"{row['kind']}:{tag}" for tag in row["tags"])]
        for row in events.select(["kind", "level", "tags"]).to_pylist()
    ]
    rows = []
    for clip in clips.select(["clip_id", "start_ns", "end_ns"]).to_pylist():
        touching = np.flatnonzero((starts <= clip["end_ns"]) & (ends >= clip["start_ns"]))
        found = {word for index in touching.tolist() for word in words[index]}
        rows.append({"clip_id": clip["clip_id"], "tags": sorted(found)})
    return pa.Table.from_pylist(rows, schema=TAG_SCHEMA)
