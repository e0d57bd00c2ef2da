"""What changed between two versions of a dataset, and why, by their manifests.

Belongs here: comparing specs, members, frames, boxes and lineage. Does not belong here: reading them, showing them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from av_assets.domain.labels.matching import iou_matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pyarrow as pa

    from av_assets.domain.evidence.manifest import MadeFrom

ALIKE_IOU: Final = 0.5  # boxes that overlap less are two objects, as in the matching of annotators
BOX_KINDS: Final = ("same", "moved", "class_changed", "added", "removed")
_CONTENT: Final = ("synced_shards", "verified_labels")
_SHOWN: Final = 12  # characters of a digest


def compare_datasets(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Members, spec, objects per class and slices of two dataset.json."""
    a, b = ({m["drive"]: m for m in d["members"]} for d in (before, after))
    both = sorted(a.keys() & b.keys())
    return {
        "members": {
            "added": sorted(b.keys() - a.keys()),
            "removed": {d: after.get("left_out", {}).get(d, "not said") for d in sorted(a.keys() - b.keys())},
            "moved": {
                d: [a[d]["split"], b[d]["split"]] for d in both if a[d]["split"] != b[d]["split"]
            },
            "changed": {d: changed for d in both if (changed := _changed(a[d], b[d]))},
            "same": sum(not _changed(a[d], b[d]) and a[d]["split"] == b[d]["split"] for d in both),
        },
        "spec": _differing(before["spec"], after["spec"]),
        "objects": _pairs(_objects(before), _objects(after)),
        "slices": _pairs(_slices(before), _slices(after)),
    }  # fmt: skip


def compare_frames(before: pa.Table, after: pa.Table) -> dict[str, int]:
    """Frames of two indices: added, removed, changed (split, boxes, slices or shard), same."""
    a, b = (
        {
            (r["clip_id"], r["ref_ns"], r["camera"]): (r["split"], r["boxes"], r["slices"], r["shard_sha256"])
            for r in t.to_pylist()
        }
        for t in (before, after)
    )
    both = a.keys() & b.keys()
    changed = sum(a[key] != b[key] for key in both)
    return {
        "added": len(b.keys() - a.keys()),
        "removed": len(a.keys() - b.keys()),
        "changed": changed,
        "same": len(both) - changed,
    }


def compare_boxes(before: pa.Table, after: pa.Table) -> dict[str, int]:
    """Boxes of one drive: equal ones are the same; of the others those that overlap most are one object each.

    Pairs are taken by falling IoU, at least ALIKE_IOU, within one frame; every box of `before` is same, moved,
    class_changed or removed, every one of `after` same, moved, class_changed or added.
    """
    counts = Counter(dict.fromkeys(BOX_KINDS, 0))
    a, b = _by_frame(before), _by_frame(after)
    for frame in sorted(a.keys() | b.keys()):
        _count_frame(a.get(frame, []), b.get(frame, []), counts)
    return dict(counts)


def why_member(
    drive: str,
    before: MadeFrom,
    after: MadeFrom,
    made_from: Callable[[str, str], MadeFrom | None],
    steps: int = 2,
) -> list[dict[str, Any]]:
    """The inputs of a drive that changed, each with the reasons that its own manifest gives.

    Args:
        made_from: (bundle, manifest digest) -> what it was made from; None where the lake has it no more.
        steps: how far to look above the inputs of the dataset.
    """
    names = sorted(n for n in before.inputs.keys() | after.inputs.keys() if n.rpartition("/")[2] == drive)
    return [_step(n, before.inputs.get(n), after.inputs.get(n), made_from, steps)
            for n in names if before.inputs.get(n) != after.inputs.get(n)]  # fmt: skip


def why_dataset(before: MadeFrom, after: MadeFrom) -> list[str]:
    """Reasons of the dataset's own step: its code, policies and environment."""
    return _own_reasons(before, after)


def _step(
    name: str,
    before: str | None,
    after: str | None,
    made_from: Callable[[str, str], MadeFrom | None],
    steps: int,
) -> dict[str, Any]:
    if before is None or after is None:
        return {"bundle": name, "because": ["it is new" if before is None else "it is gone"], "above": []}
    a, b = made_from(name, before), made_from(name, after)
    if a is None or b is None:
        return {"bundle": name, "because": ["its former manifest is not in the lake"], "above": []}
    inputs = sorted(n for n in a.inputs.keys() | b.inputs.keys() if a.inputs.get(n) != b.inputs.get(n))
    above = (
        [_step(n, a.inputs.get(n), b.inputs.get(n), made_from, steps - 1) for n in inputs] if steps else []
    )
    because = _own_reasons(a, b) + [f"input {n}" for n in inputs]
    return {"bundle": name, "because": because or ["other bytes from the same inputs"], "above": above}


def _own_reasons(a: MadeFrom, b: MadeFrom) -> list[str]:
    found = [f"code version {a.code_version} -> {b.code_version}"] if a.code_version != b.code_version else []
    for what, x, y in (("policy", a.policies, b.policies), ("rows of", a.rows, b.rows)):
        found += [f"{what} {name} {_short(was)} -> {_short(now)}" for name, (was, now) in _pairs(x, y).items()
                  if was != now]  # fmt: skip
    if a.environment != b.environment:
        found.append(f"environment {_short(a.environment)} -> {_short(b.environment)}")
    return found


def _short(digest: str | None) -> str:
    return (digest or "none")[:_SHOWN]


def _changed(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    names = ("frames", "objects", "tags", "left_out", *_CONTENT)
    return {n: [a.get(n), b.get(n)] for n in names if a.get(n) != b.get(n)}


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    return {name: [was, now] for name, (was, now) in _pairs(a, b).items() if was != now}


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys())}


def _objects(dataset: Mapping[str, Any]) -> dict[str, int]:
    found: Counter[str] = Counter(dict.fromkeys(dataset["classes"], 0))
    for split in dataset["counts"].values():
        found.update(split["objects"])
    return dict(found)


def _slices(dataset: Mapping[str, Any]) -> dict[str, int]:
    """Slice -> frames of all splits; None of one is that the slice was not cut."""
    return {
        name: sum(split["frames"] for split in counts.values())
        for name, counts in dataset.get("slice_counts", {}).items()
    }


def _by_frame(labels: pa.Table) -> dict[tuple[str, int, str], list[tuple[str, tuple[float, ...]]]]:
    found: dict[tuple[str, int, str], list[tuple[str, tuple[float, ...]]]] = defaultdict(list)
    for r in labels.select(["clip_id", "ref_ns", "camera", "cls", "x1", "y1", "x2", "y2"]).to_pylist():
        found[r["clip_id"], r["ref_ns"], r["camera"]].append((r["cls"], (r["x1"], r["y1"], r["x2"], r["y2"])))
    return found


def _count_frame(
    a: list[tuple[str, tuple[float, ...]]], b: list[tuple[str, tuple[float, ...]]], counts: Counter[str]
) -> None:
    equal = Counter(a) & Counter(b)
    counts["same"] += equal.total()
    a, b = _minus(a, equal), _minus(b, equal)
    taken = 0
    if a and b:
        overlap = np.asarray(iou_matrix([box for _, box in a], [box for _, box in b]))
        for row, column in _greedy(overlap):
            counts["moved" if a[row][0] == b[column][0] else "class_changed"] += 1
            taken += 1
    counts["removed"] += len(a) - taken
    counts["added"] += len(b) - taken


def _minus(boxes: Iterable[Any], equal: Counter[Any]) -> list[Any]:
    left, rest = Counter(equal), []
    for box in boxes:
        if left[box]:
            left[box] -= 1
        else:
            rest.append(box)
    return rest


def _greedy(overlap: Any) -> list[tuple[int, int]]:
    order = np.argsort(-overlap, axis=None, kind="stable")
    rows, columns = set(), set()
    found = []
    for place in order:
        row, column = divmod(int(place), overlap.shape[1])
        if overlap[row, column] < ALIKE_IOU:
            break
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            found.append((row, column))
    return found
