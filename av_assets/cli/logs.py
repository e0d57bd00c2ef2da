"""The part of `av` that works on files alone, without an installation: logs, faults, exports, samples.

Belongs here: arguments and printing. Does not belong here: anything that needs a lake or Dagster (`cli`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
path_argument = click.Path(path_type=Path)


@click.command()
@click.argument("log", type=path_argument)
@json_option
def inspect(log: Path, as_json: bool) -> None:
    """Look at any log file or folder without landing it."""
    from av_assets.domain.logs.inspect import inspect_log

    found = inspect_log(log).to_dict()
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{found['state']}: {found['messages']} messages {found['reason'] or ''}".rstrip())
    for topic, facts in sorted(found["topics"].items()):  # type: ignore[attr-defined]
        click.echo(f"  {topic}  {facts['type']}  {facts['count']}  {facts['rate_hz'] or '-'} Hz")


@click.command()
@click.argument("log", type=path_argument)
@click.option("--timeline", type=path_argument, help="Draw the messages of each topic into this PNG.")
@click.option(
    "--clocks", type=path_argument, help="Draw each topic's clock against the recorder's into this PNG."
)
@json_option
def check(log: Path, timeline: Path | None, clocks: Path | None, as_json: bool) -> None:
    """Judge a log or drive folder by every rule, without landing it. Exit code 1 if a rule of severity error failed."""
    from av_assets.domain.logs.drive_spec import SPEC_FILE, read_drive_spec
    from av_assets.domain.logs.integrity.check import check_log, clocks_png, timeline_png
    from av_assets.domain.logs.reader import LogReader
    from av_assets.policies.integrity import IntegrityPolicy

    spec = read_drive_spec(log / SPEC_FILE) if (log / SPEC_FILE).is_file() else None
    with LogReader(log) as reader:
        report = check_log(reader, spec, IntegrityPolicy.load())
    if timeline is not None:
        timeline.write_bytes(timeline_png(report))
    if clocks is not None:
        clocks.write_bytes(clocks_png(report))
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    else:
        _print_findings(report)
    if report.verdict == "failed":
        sys.exit(1)


@click.command()
@click.argument("logs", type=path_argument, nargs=-1, required=True)
@click.argument("out", type=path_argument)
@click.option("--overwrite", is_flag=True, help="Replace OUT where it exists.")
@json_option
def salvage(logs: tuple[Path, ...], out: Path, overwrite: bool, as_json: bool) -> None:
    """Recover what damaged LOGS still hold into the MCAP file OUT, verified by reading it again."""
    from av_assets.domain.logs.recovery.salvage import salvage_log

    report = with_progress(
        "salvage", lambda progress: salvage_log(list(logs), out, progress=progress, overwrite=overwrite)
    )
    found = report.to_dict()
    if as_json:
        click.echo(json.dumps(found))
        return
    lost = "unknown" if report.lost is None else f"{report.lost:,}"
    click.echo(
        f"{out}: {report.messages:,} messages kept, {lost} known to be lost, verified {found['verification']}"
    )
    click.echo(f"why: {', '.join(report.codes) or 'nothing was wrong'}")
    for name, topic in sorted(report.topics.items()):
        holes = topic.stamps.holes()
        click.echo(f"  {name}  {topic.kept:,} kept  {len(holes)} holes")


@click.group()
def faults() -> None:
    """Damage a good drive on purpose: does your pipeline notice?"""


@faults.command("list")
@json_option
def list_faults(as_json: bool) -> None:
    """Every fault, and the rule or reason code that has to answer it."""
    from rich.console import Console
    from rich.table import Table

    from av_assets.domain.simulation.faults import FAULTS

    if as_json:
        click.echo(json.dumps([vars(fault) for fault in FAULTS.values()]))
        return
    shown = Table("fault", "what is wrong", "must be answered by", "severity")
    for fault in FAULTS.values():
        shown.add_row(fault.name, fault.description, fault.expects or "nothing", fault.severity)
    Console().print(shown)


@faults.command("inject")
@click.argument("name")
@click.argument("drive", type=path_argument)
@click.argument("out", type=path_argument)
@click.option("--seed", default=1, show_default=True)
def inject_fault(name: str, drive: Path, out: Path, seed: int) -> None:
    """Copy DRIVE (a drive folder, a folder of logs or one log) into OUT and damage the copy."""
    from av_assets.domain.simulation.faults import FAULTS, inject

    folder = inject(name, drive, out, seed)
    click.echo(f"{folder}  must be answered by {FAULTS[name].expects or 'nothing'}")


@click.command()
@json_option
def rules(as_json: bool) -> None:
    """The catalogue of integrity rules: what each measures, how severe it is, what to do about it."""
    from rich.console import Console
    from rich.table import Table

    from av_assets.domain.logs.integrity.rules import catalogue

    if as_json:
        click.echo(json.dumps(catalogue()))
        return
    columns = ("id", "severity", "meaning", "unit", "fix")
    shown = Table(*columns)
    for rule in catalogue():
        shown.add_row(*(str(rule.get(column, "")) for column in columns))
    Console().print(shown)


@click.command()
@json_option
def readers(as_json: bool) -> None:
    """Reader plug-ins that are installed (entry points av_assets.readers; see docs/readers.md)."""
    from av_assets.domain.logs.files.plugins import installed_readers

    found = [
        {"name": r.name, "package": r.package, "state": r.reason or "ready"} for r in installed_readers()
    ]
    if as_json:
        click.echo(json.dumps(found))
        return
    for row in found or [{"name": "none", "package": "", "state": "only the built-in formats"}]:
        click.echo(f"{row['name']}  {row['package']}  {row['state']}")


@click.command()
@click.argument("log", type=path_argument)
@click.argument("out", type=path_argument)
@click.option(
    "--metadata", multiple=True, metavar="TOPIC=FILE", help="Sensor metadata JSON of a packet topic."
)
@click.option("--overwrite", is_flag=True, help="Replace OUT where it exists.")
def ouster(log: Path, out: Path, metadata: tuple[str, ...], overwrite: bool) -> None:
    """Turn the raw Ouster packets of LOG into point clouds, in the MCAP file OUT."""
    from av_assets.domain.logs.messages.ouster import convert_ouster

    given = {topic: Path(file).read_text("utf-8") for topic, _, file in (m.partition("=") for m in metadata)}
    for topic, clouds in convert_ouster(log, out, given, overwrite=overwrite).items():
        click.echo(f"{out}: {topic}  {clouds} clouds")


@click.command()
@click.argument("shards", type=path_argument)
@click.argument("out", type=path_argument)
@click.option("--to", "target", type=click.Choice(["mcap", "webdataset", "zarr"]), required=True)
@click.option("--overwrite", is_flag=True, help="Replace OUT where it exists.")
@json_option
def export(shards: Path, out: Path, target: str, overwrite: bool, as_json: bool) -> None:
    """Write SHARDS (av fetch synced_shards DRIVE SHARDS) as a redacted MCAP, WebDataset tars or a Zarr store."""
    written = _exporter(target)(shards, out, overwrite=overwrite)
    click.echo(
        json.dumps({"out": str(out), "written": written}, default=str) if as_json else f"{out}: {written}"
    )


def _exporter(target: str) -> Callable[..., Any]:
    if target == "mcap":
        from av_assets.domain.sync.exporters.mcap_export import export_mcap

        return export_mcap
    if target == "webdataset":
        from av_assets.domain.sync.exporters.webdataset_export import export_webdataset

        return export_webdataset
    from av_assets.domain.sync.exporters.zarr_export import export_zarr

    return export_zarr


@click.command()
@click.argument("out", type=path_argument)
@click.option("--count", default=1, show_default=True)
def record(out: Path, count: int) -> None:
    """Record sample drives with the synthetic rig into OUT/landing, their truth into OUT/truth."""
    from av_assets.domain.simulation.recorder import record_drive
    from av_assets.domain.simulation.samples import sample_drives

    for script in sample_drives()[:count]:
        made = with_progress(
            script.drive, lambda p, s=script: record_drive(s, out / "landing", out / "truth", progress=p)
        )
        click.echo(made)


LOG_COMMANDS = (inspect, check, salvage, faults, rules, readers, ouster, export, record)


def with_progress(what: str, work: Callable[[Callable[[int, int], None]], Any]) -> Any:
    """Run `work` under a bar where somebody is looking; it reports (done, all)."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(what, total=None)
        return work(lambda done, total: bar.update(task, completed=done, total=total))


def _print_findings(report: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    passed = sum(finding.status == "passed" for finding in report.findings)
    shown = Table("rule", "severity", "status", "stream", "measured", "threshold", "reason")
    for finding in report.findings:
        if finding.status == "failed":
            row = (finding.rule, finding.severity, finding.status, finding.role or finding.topic)
            shown.add_row(
                *map(str, row), _figure(finding.measured), _figure(finding.threshold), finding.reason
            )
    console = Console()
    console.print(f"{report.verdict}: {report.messages:,} messages, {passed} rules passed")
    if shown.row_count:
        console.print(shown)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
