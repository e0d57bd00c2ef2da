"""The part of `av` that runs the production model over drives, and shows where it fails.

Belongs here: arguments and printing. Does not belong here: running models, finding failures (av_assets/mining).
"""

from __future__ import annotations

import json
from typing import Any

import click

from av_assets.cli.lake import open_instance, open_lake
from av_assets.cli.logs import json_option
from av_assets.cli.tables import print_table
from av_assets.domain.errors import AvError

PACE = "pace/"


@click.command()
@click.argument("drives", nargs=-1, required=True, metavar="DRIVE...")
@json_option
def infer(drives: tuple[str, ...], as_json: bool) -> None:
    """Run the production model over DRIVES now, in one run that loads it once; what is done already is not done again.

    Exits 1 where a drive is not whole: the shards that could not be read are named.
    """
    from av_assets.mining.pool import ASSET, ledger_of, uncovered

    lake, shown = open_lake(), []
    facts = _predict(drives)
    for drive in drives:
        made = lake.manifest(ASSET, drive)
        if made is None:
            shown.append({"drive": drive, "state": "failed", "note": "see av status"})
            continue
        bad, ledger = uncovered(lake, drive), ledger_of(lake, made)
        shown.append(
            {
                "drive": drive,
                "state": "partial" if bad else "whole",
                "model": ledger.release,
                "shards": len(ledger.entries),
                "frames": sum(entry.predicted for entry in ledger.entries),
                "boxes": sum(entry.boxes for entry in ledger.entries),
                "note": made.note,
                "uncovered": bad,
                **facts.get(drive, {}),
            }
        )
    if as_json:
        click.echo(json.dumps(shown))
    else:
        _print_drives(shown)
    if any(one["state"] != "whole" for one in shown):
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("day", required=False)
@click.option("--accept", metavar="NAME", help="Let this spec of the day run every night from now on.")
@json_option
def failures(day: str | None, accept: str | None, as_json: bool) -> None:
    """Where the production model fails: kinds of errors, slices that fail too often, buckets, and specs to mine with.

    DAY is the day of the buckets; default: the newest.
    """
    from av_assets.mining import accepted, failing, failure_files

    lake = open_lake()
    made = failing.newest(lake, day)
    specs = failure_files.specs_of(lake, made)
    if accept:
        chosen = next((spec for spec in specs if spec.name == accept), None)
        if chosen is None:
            known = ", ".join(spec.name for spec in specs) or "none"
            raise AvError(f"there is no spec {accept}", code="no_such_spec", remedy=f"there are {known}")
        click.echo(f"accepted: {accepted.accept(chosen)}")
        return
    report = json.loads(lake.read_bytes(made, "report.json"))
    buckets = json.loads(lake.read_bytes(made, "buckets.json"))
    if as_json:
        named = [spec.model_dump(mode="json") for spec in specs]
        click.echo(json.dumps({"day": made.partition, **report, "buckets": buckets, "next_specs": named}))
        return
    _print_failures(made.partition, made.note, report, buckets, [spec.name for spec in specs])


COMMANDS = (infer, failures)


def _predict(drives: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Drive -> its pace, of the drives that this run made.

    Raises:
        AvError: unknown_drive; run_failed.
    """
    import dagster as dg

    from av_assets.definitions import defs
    from av_assets.mining.pool import ASSET
    from partitions.drives import drives as partitions

    asset, job = dg.AssetKey(ASSET), defs.resolve_implicit_global_asset_job_def()
    found: dict[str, dict[str, Any]] = {}
    with open_instance() as instance:
        known = list(instance.get_dynamic_partitions(partitions.name or ""))
        if missing := sorted(set(drives) - set(known)):
            raise AvError(
                f"no such drive: {', '.join(missing)}",
                code="unknown_drive",
                remedy="av status lists the drives",
            )
        for first, last in _ranges(known, set(drives)):
            tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
            done = job.execute_in_process(
                run_config={"loggers": {"console": {"config": {"log_level": "INFO"}}}},
                instance=instance,
                asset_selection=[asset],
                tags=tags,
                raise_on_error=False,
            )
            if not done.success:
                raise AvError(
                    "the run failed",
                    code="run_failed",
                    remedy=f"its log is in the web interface: {done.run_id}",
                )
            for event in done.all_events:
                if event.is_step_materialization and event.asset_key == asset and event.partition:
                    metadata = event.step_materialization_data.materialization.metadata
                    found[event.partition] = {
                        name[len(PACE) :]: value.value
                        for name, value in metadata.items()
                        if name.startswith(PACE)
                    }
    return found


def _ranges(known: list[str], wanted: set[str]) -> list[tuple[str, str]]:
    """First and last of each stretch of `known` that is wanted."""
    found: list[tuple[str, str]] = []
    for number, drive in enumerate(known):
        if drive in wanted:
            goes_on = number > 0 and known[number - 1] in wanted
            found = [*found[:-1], (found[-1][0], drive)] if goes_on else [*found, (drive, drive)]
    return found


def _print_drives(shown: list[dict[str, Any]]) -> None:
    columns = ["drive", "state", "shards", "frames", "boxes", "x_realtime", "bottleneck"]
    print_table(columns, [[str(one.get(name, "-")) for name in columns] for one in shown])
    for one in shown:
        if one["note"]:
            click.echo(f"{one['drive']}: {one['note']}")


def _print_failures(
    day: str, note: str, report: dict[str, Any], buckets: list[dict[str, Any]], specs: list[str]
) -> None:
    average = "unknown" if report["map50"] is None else f"{report['map50']:.3f}"
    click.echo(
        f"{day}: {report['release']} on {report['frames']} frames of {report['drives']} drives "
        f"({report['frames_trained_on']} more were learnt from); mAP50 {average} on {report['frames_labelled']} "
        f"labelled frames; {report['clips_failing']} of {report['clips']} clips have hard frames"
    )
    if note:
        click.echo(note)
    if report["kinds"]:
        rows = [[k, str(v["all"]), str(v["sure"]), _points(v["dap"])] for k, v in report["kinds"].items()]
        print_table(["kind of error", "all", "of sure detections", "dAP"], rows)
    drifted = [one for one in report["slices"] if one["drifted"]]
    if drifted:
        rows = [
            [
                one["tag"],
                str(one["failing"]),
                str(one["units"]),
                f"{one['lift']:.2f}",
                f"{one['adjusted_p']:.3g}",
            ]
            for one in drifted
        ]
        print_table(["slice that fails too often", "failing", "of", "lift", "p"], rows)
    if buckets:
        rows = [
            [one["name"], str(len(one["clips"])), ", ".join(f"{k} {v}" for k, v in one["kinds"].items())]
            for one in buckets
        ]
        print_table(["bucket", "clips", "fails by"], rows, fold="fails by")
    for name in specs:
        click.echo(f"accept with: av failures {day} --accept {name}")


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
