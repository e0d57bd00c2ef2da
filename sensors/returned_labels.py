"""When people hand labels in: judge and verify those drives again, once for each change, and no other drive.

What is outdated is derived from the lake: a bundle of submissions says which files it was made from. The cursor holds
how the files of each drive looked when they were last compared (name, size, time), so that a look that finds nothing
new reads no file. With a Label Studio server its new annotations are brought into the same folder first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg

from av_assets.domain.errors import AvError
from av_assets.domain.evidence.digests import sha256_json
from partitions.drives import drives
from resources import quarantine
from resources.environment import environment
from resources.label_studio import TOOL, LabelStudio, configured
from resources.labeling import Annotators, file_facts
from resources.lake import Lake
from resources.tool_environments import installed

SUBMISSIONS = "label_submissions"
JUDGED = (SUBMISSIONS, "verified_labels")
PLANNED = "label_tasks"
LOOKED_AT = 50
"""Drives whose files one look reads."""
PULL_EVERY_S = 180
PULLING_S = 20.0
"""What one look may spend on the server: a sensor has a minute."""


@dg.sensor(
    asset_selection=dg.AssetSelection.assets(PLANNED, *JUDGED)
    | dg.AssetSelection.checks_for_assets(*(dg.AssetKey(asset) for asset in (PLANNED, *JUDGED))),
    minimum_interval_seconds=environment().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def returned_labels(
    context: dg.SensorEvaluationContext, lake: Lake, annotators: Annotators
) -> dg.SensorResult | dg.SkipReason:
    """Starts label_submissions and verified_labels of the drives whose returned files or known answers changed."""
    cursor = {"seen": {}, "number": time.time_ns(), "pull": {}} | json.loads(context.cursor or "{}")
    live = set(context.instance.get_dynamic_partitions(drives.name or ""))
    folder = Path(annotators.labels)
    if annotators.labels and (studio := configured()):
        cursor["pull"] = _pull(context, studio, folder / "returned", live, cursor["pull"])
    requests = []
    for drive, state in islice(_changed(lake, annotators, live, cursor["seen"]), LOOKED_AT):
        cursor["seen"][drive] = state
        if assets := _due(lake, annotators, drive):
            cursor["number"] += 1
            requests.append(
                dg.RunRequest(
                    partition_key=drive,
                    run_key=f"returned_labels:{drive}:{cursor['number']}",
                    asset_selection=[dg.AssetKey(asset) for asset in assets],
                    tags={"drive": drive},
                )
            )
    skipped = None if requests else dg.SkipReason("nobody has handed in other labels")
    return dg.SensorResult(run_requests=requests, skip_reason=skipped, cursor=json.dumps(cursor))


def _changed(
    lake: Lake, annotators: Annotators, live: set[str], seen: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Drives whose files look otherwise than when they were last compared, with how they look now.

    A drive that has no submissions yet is left for later: its first bundle reads the files that are there then.
    """
    for drive in sorted(_named(Path(annotators.labels)) & live | seen.keys() & live):
        state = sha256_json([_looks(path) for path in _files(annotators, drive)])
        if seen.get(drive) != state and lake.manifest(SUBMISSIONS, drive) is not None:
            yield drive, state


def _named(folder: Path) -> set[str]:
    """Drives that the folder holds anything of."""
    if not folder.is_absolute():
        return set()
    returned = {path.name for path in folder.glob("returned/*")}
    return returned | {path.stem for path in folder.glob("gold/*.json")}


def _files(annotators: Annotators, drive: str) -> list[Path]:
    gold = annotators.gold_of(drive)
    return [*annotators.returned(drive), *([gold] if gold else [])]


def _looks(path: Path) -> list[Any]:
    found = path.stat()
    return [path.parent.name, path.name, found.st_size, found.st_mtime_ns]


def _due(lake: Lake, annotators: Annotators, drive: str) -> tuple[str, ...]:
    """Assets of the drive that were made from other files than there are; known answers are part of the plan."""
    gold = annotators.gold_of(drive)
    now = {
        "returned_labels": _digest(annotators.returned(drive)),
        "gold": _digest([gold] if gold else []),
    }
    made = lake.require(SUBMISSIONS, drive).made_from.rows
    if made.get("gold") != now["gold"] or _stopped(lake, drive):
        return (PLANNED, *JUDGED)
    return JUDGED if made.get("returned_labels") != now["returned_labels"] else ()


def _stopped(lake: Lake, drive: str) -> bool:
    """Whether files that could not be used put the drive aside: taking them away leads to what was made before."""
    held = (row["stage"] for row in quarantine.listing(lake) if row["drive"] == drive)
    return any(stage in (PLANNED, *JUDGED) for stage in held)


def _digest(files: list[Path]) -> str:
    """As production stamps the rows that a bundle was made from."""
    return sha256_json([file_facts(path) for path in files])


def _pull(
    context: dg.SensorEvaluationContext,
    studio: LabelStudio,
    folder: Path,
    live: set[str],
    last: dict[str, Any],
) -> dict[str, Any]:
    """Bring annotations of the next drives into the folder; where the look's time ends, the next one goes on."""
    now, after = time.time(), last.get("after", "")
    if not after and now - last.get("at_s", 0.0) < PULL_EVERY_S:
        return last
    if not installed(TOOL):
        context.log.info("Label Studio is not asked: its SDK is not installed; av labels pull installs it")
        return {"at_s": now, "after": ""}
    studio, end = replace(studio, timeout_s=PULLING_S), time.monotonic() + PULLING_S
    try:
        # A title is what somebody typed: only names of drives become folders.
        for drive in [name for name in studio.drives() if name in live and name > after]:
            if time.monotonic() > end:
                return {"at_s": now, "after": after}
            studio.pull(drive, folder / drive)
            after = drive
    except AvError as error:
        context.log.warning(f"Label Studio was not asked: {error}")
    return {"at_s": now, "after": ""}
