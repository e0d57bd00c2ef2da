"""A code location with the shape of the real one and nothing to do: orchestration is what is left.

Eleven assets per drive in the real order, five of them with a check, made by the real loop over drives. The
real definitions are imported as well, so that a run process starts as slowly as a real one.
Belongs here: that location. Does not belong here: measuring it.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

import av_assets.definitions  # noqa: F401  what a real run loads
from av_assets.gates import checked_drives
from av_assets.production import Work, each_drive
from partitions.drives import BATCH, drives
from resources.environment import environment
from resources.lake import Lake
from sensors.conditions import on_changed_content

CHAIN: dict[str, tuple[str, ...]] = {
    "raw_logs": (),
    "log_reports": ("raw_logs",),
    "redacted_clips": ("raw_logs", "log_reports"),
    "synced_shards": ("raw_logs", "redacted_clips"),
    "drive_catalog": ("log_reports", "synced_shards"),
    "event_windows": ("synced_shards",),
    "clip_embeddings": ("synced_shards",),
    "auto_labels": ("synced_shards",),
    "label_tasks": ("auto_labels",),
    "label_submissions": ("auto_labels", "label_tasks"),
    "verified_labels": ("auto_labels", "label_tasks", "label_submissions"),
}
CHECKED = ("raw_logs", "log_reports", "redacted_clips", "synced_shards", "verified_labels")
WORK = "work"
"""The part of the stopwatch that holds the work itself; it comes back as the metadata seconds/work."""


def trivial(work: Work) -> str:
    """The work itself: read the inputs, write one small file."""
    with work.watch(WORK):
        read = [next(work.checkout(asset).iterdir()).read_text() for asset in work.inputs]
        (work.out / "made.txt").write_text(f"{work.partition} {len(read)}\n")
    return ""


def _asset(name: str, reads: Sequence[str]) -> dg.AssetsDefinition:
    @dg.asset(
        name=name, deps=list(reads), partitions_def=drives, output_required=False, backfill_policy=BATCH,
        code_version="1", automation_condition=on_changed_content,
    )  # fmt: skip
    def made(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
        yield from each_drive(context, lake, reads, [], trivial, lambda _lake, _manifest: {})

    return made


def _check(name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=name, name=f"{name}_are_there")
    def there(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
        passed = all(lake.manifest(name, drive) for drive in checked_drives(context))
        return dg.AssetCheckResult(passed=passed)

    return there


_here = environment()
defs = dg.Definitions(
    assets=[_asset(name, reads) for name, reads in CHAIN.items()],
    asset_checks=[_check(name) for name in CHECKED],
    resources={"lake": Lake(uri=_here.lake, scratch=str(_here.scratch))},
    executor=dg.in_process_executor,
)
