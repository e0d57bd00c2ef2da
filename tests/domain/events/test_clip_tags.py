"""Tags of clips out of the events that touch them."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.events.detectors import EVENT_SCHEMA
from av_assets.domain.events.tags import TAG_SCHEMA, clip_tags

CLIPS = pa.table({"clip_id": ["d/0", "d/1", "d/2"], "start_ns": [0, 50, 100], "end_ns": [49, 99, 149]})


def _event(kind: str, start_ns: int, end_ns: int, *tags: str, level: int = 1) -> dict[str, object]:
    return {
        "kind": kind, "level": level, "start_ns": start_ns, "end_ns": end_ns, "clip_id": "d/0", "peak": 1.0,
        "evidence": "{}", "policy_digest": "p", "tags": list(tags),
    }  # fmt: skip


def _tags(*events: dict[str, object]) -> dict[str, list[str]]:
    table = clip_tags(pa.Table.from_pylist(list(events), schema=EVENT_SCHEMA), CLIPS)
    assert table.schema == TAG_SCHEMA
    return {row["clip_id"]: row["tags"] for row in table.to_pylist()}


def test_an_event_tags_every_clip_that_it_touches() -> None:
    found = _tags(_event("cut_in", 49, 60, "left", "critical", level=3), _event("turn", 99, 99, "right"))
    cut_in = ["cut_in", "cut_in:critical", "cut_in:left", "cut_in:level_3"]
    assert found == {"d/0": cut_in, "d/1": [*cut_in, "turn", "turn:level_1", "turn:right"], "d/2": []}


def test_without_events_or_clips_there_are_no_tags() -> None:
    assert _tags() == {"d/0": [], "d/1": [], "d/2": []}
    nothing = clip_tags(pa.Table.from_pylist([], schema=EVENT_SCHEMA), CLIPS.slice(0, 0))
    assert nothing.num_rows == 0


@given(st.lists(st.tuples(st.sampled_from(["turn", "cut_in"]), st.integers(0, 149), st.integers(0, 60))))
def test_tags_are_sorted_unlike_and_independent_of_the_order(spans: list[tuple[str, int, int]]) -> None:
    events = [_event(kind, start, start + length, "left") for kind, start, length in spans]
    found = _tags(*events)
    assert found == _tags(*reversed(events))
    for clip, tags in found.items():
        low = 50 * int(clip[-1])
        assert tags == sorted(set(tags))
        for kind in ("turn", "cut_in"):
            touched = any(k == kind and a <= low + 49 and a + n >= low for k, a, n in spans)
            assert (kind in tags) is touched
