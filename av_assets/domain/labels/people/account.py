"""Whether published bundles of labels keep what they promise, told from their files alone.

Belongs here: recounts. Does not belong here: making the bundles (handing_in, verify).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.people.handing_in import REJECTED_FILE, RETURNED, UNREADABLE, ReadReturned
from av_assets.domain.labels.people.states import ADJUDICATE, ANNOTATE, FINAL, REVIEW, REWORK
from av_assets.domain.labels.people.submission_rules import WHOLE
from av_assets.domain.labels.people.submissions import SIMULATED, read_submissions

if TYPE_CHECKING:
    from pathlib import Path


def miscounted(bundle: Path, read: ReadReturned) -> dict[str, str]:
    """Returned files of a bundle of submissions whose rows are not all accepted or rejected, with the reason.

    The files are read again from the bundle's own copies. A file that nobody could read is one of them.
    """
    went: dict[str, Counter[str]] = defaultdict(Counter)
    for one in read_submissions(bundle):
        if one.origin != SIMULATED:
            went[one.origin].update(submissions=1, boxes=len(one.boxes))
    found = {}
    for row in pq.read_table(bundle / REJECTED_FILE).to_pylist():
        if row["submission"] == UNREADABLE:
            found[row["origin"]] = f"cannot be read: {row['constraint']}: {row['value']}"
        else:
            went[row["origin"]]["submissions" if row["row"] == WHOLE else "boxes"] += 1
    for path in sorted((bundle / RETURNED).glob("*")):
        if path.name not in found and (reason := _difference(path, read, went.pop(path.name, Counter()))):
            found[path.name] = reason
    return found | dict.fromkeys(went, "no such file came back")


def _difference(path: Path, read: ReadReturned, went: Counter[str]) -> str:
    try:
        content = read(path)
    except LabelError as error:
        return f"cannot be read any more: {error.code}"
    came = Counter(submissions=len(content), boxes=sum(len(one.boxes) for one in content))
    return "" if +came == +went else f"{dict(came)} came in, {dict(went)} are accounted for"


def own_reviews(audit: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    """Tasks of an audit in which somebody worked on their own work, or that are final with one person only."""
    tasks: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in audit:
        tasks[row["task_id"]].append(row)
    for task, rows in sorted(tasks.items()):
        rows = sorted(rows, key=lambda r: r["step"])
        work = [(row["by"], row["role"]) for row in rows if row["role"] in (ANNOTATE, REVIEW, ADJUDICATE)]
        twice = sorted(name for name, n in Counter(name for name, _ in work).items() if n > 1)
        if twice:
            yield task, f"{', '.join(twice)} worked on it more than once"
        # What came before rework does not count.
        since = max((row["step"] for row in rows if row["state_to"] == REWORK), default=-1)
        people = {r["by"] for r in rows if r["step"] > since and r["role"] in (ANNOTATE, REVIEW, ADJUDICATE)}
        if rows[-1]["state_to"] == FINAL and len(people) < 2:
            yield task, "it is final and one person alone worked on it"
