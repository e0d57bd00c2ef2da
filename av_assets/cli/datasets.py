"""Commands for frozen datasets: `av datasets ...`.

Belongs here: arguments and printing. Does not belong here: freezing, the register of versions, comparing (`diff`).
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from av_assets.cli.diff import diff
from av_assets.cli.lake import open_instance, open_lake
from av_assets.cli.logs import json_option
from av_assets.cli.tables import print_table
from av_assets.domain.errors import AvError

if TYPE_CHECKING:
    from collections.abc import Sequence

ASSET = "golden_slices"
SPLITS = ("train", "val", "test")


@click.group()
def datasets() -> None:
    """Frozen datasets: versions, tags, verification, rebuilding."""


@datasets.command("list")
@click.argument("name", required=False)
@json_option
def list_versions(name: str | None, as_json: bool) -> None:
    """Versions of all datasets, or of one."""
    from av_assets.mining.versions import summary
    from resources.datasets import names, versions

    lake = open_lake()
    known = names(lake)
    if name and name not in known:
        raise AvError(f"no dataset {name} is frozen", code="unknown_dataset", remedy=_remedy(known))
    rows = [summary(lake, v) for one in ([name] if name else known) for v in versions(lake, one)]
    if as_json:
        click.echo(json.dumps({"versions": rows}))
        return
    if not rows:
        click.echo("no dataset is frozen yet: av datasets freeze --week YYYY-MM-DD")
        return
    for row in rows:
        click.echo(f"{row['name']}@{row['version']}  {' '.join(row['tags'])}".rstrip())
        click.echo(f"  week {row['week']}, {_size(row)}")


@datasets.command()
@click.argument("reference")
@click.option("--datasheet", is_flag=True, help="The datasheet, as Markdown.")
@click.option("--croissant", is_flag=True, help="The Croissant description, as JSON-LD.")
@json_option
def show(reference: str, datasheet: bool, croissant: bool, as_json: bool) -> None:
    """What a version holds: golden@1.0.0, golden@<first characters>, golden@2025-06-02 or golden."""
    from av_assets.mining.freezing import CROISSANT_FILE, SHEET_FILE
    from av_assets.mining.versions import summary
    from resources.datasets import resolve

    lake = open_lake()
    version = resolve(lake, reference)
    if datasheet or croissant:
        name = SHEET_FILE if datasheet else CROISSANT_FILE
        click.echo(lake.read_bytes(version.manifest, name).decode().rstrip("\n"))
        return
    found = summary(lake, version)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{version.name}@{version.version}")
    click.echo(f"week {found['week']}, tags {', '.join(version.tags) or 'none'}, {_size(found)}")
    _table(("split", "drives", "frames", "objects"),
           [(s, c["drives"], c["frames"], _counts(c["objects"]))
            for s in SPLITS if (c := found["counts"].get(s))])  # fmt: skip
    _table(("frames of slice", "train", "val", "test", "objects of test"),
           [(n, *(c[s]["frames"] for s in SPLITS), c["test"]["objects"])
            for n, c in found["slices"].items()])  # fmt: skip
    for name, why in found["thin_slices"].items():
        click.echo(f"too small to prove anything: {name}: {why}")
    for drive, why in found["left_out"].items():
        click.echo(f"left out: {drive}: {why}")


@datasets.command("tag")
@click.argument("name")
@click.argument("semver")
@click.option("--version", "version", required=True, help="First characters of the version.")
@click.option("--by", required=True, help="Who sets the tag.")
@json_option
def set_tag(name: str, semver: str, version: str, by: str, as_json: bool) -> None:
    """Let a semantic version stand for a version, for good: av datasets tag golden 1.0.0 --version 3fa2 --by ada."""
    from resources.datasets import resolve, tag

    lake = open_lake()
    tag(lake, name, semver, version, by)
    found = resolve(lake, f"{name}@{semver}")
    row = {"name": name, "tag": semver, "version": found.version}
    click.echo(json.dumps(row) if as_json else f"{name}@{semver} is {found.version}")


@datasets.command()
@click.argument("reference")
@json_option
def verify(reference: str, as_json: bool) -> None:
    """Read every byte of a version again; fails with the files that are missing or damaged."""
    from av_assets.mining.versions import verify_version
    from resources.datasets import resolve

    lake = open_lake()
    version = resolve(lake, reference)
    broken = verify_version(lake, version)
    if as_json:
        rows = [vars(b) for b in broken]
        click.echo(
            json.dumps({"version": version.version, "files": len(version.manifest.files), "broken": rows})
        )
    else:
        for b in broken:
            where = f" (of {b.source})" if b.source else ""
            click.echo(f"missing or damaged: {b.file}{where}, sha256 {b.sha256}")
        click.echo(f"{version.reference}: {len(version.manifest.files) - len(broken)} of "
                   f"{len(version.manifest.files)} files are what they were")  # fmt: skip
    if broken:
        sys.exit(1)


@datasets.command()
@click.argument("reference")
@json_option
def rebuild(reference: str, as_json: bool) -> None:
    """Freeze a version again from its own spec and inputs and compare the digests; nothing is published."""
    from av_assets.mining.versions import rebuild as rebuilt
    from resources.datasets import resolve

    lake = open_lake()
    found = rebuilt(lake, resolve(lake, reference))
    row = {
        "version": found.version,
        "rebuilt": found.rebuilt,
        "same": found.same,
        "differing": list(found.differing),
    }
    if as_json:
        click.echo(json.dumps(row))
    elif found.same:
        click.echo(f"the same digest: {found.version}")
    else:
        click.echo(
            f"another digest: {found.rebuilt}, not {found.version}; differing: {', '.join(found.differing)}"
        )
    if not found.same:
        sys.exit(1)


@datasets.command()
@click.option("--week", required=True, help="Its Monday, e.g. 2025-06-02.")
@click.option("--here", is_flag=True, help="Run in this process, without a platform.")
@click.option("--wait", is_flag=True, help="Wait until the run has ended.")
@click.option("--url", default="http://127.0.0.1:3000", show_default=True)
@json_option
def freeze(week: str, here: bool, wait: bool, url: str, as_json: bool) -> None:
    """Freeze the golden dataset of a week, on the running platform or here; unchanged, it is the same version."""
    from resources.datasets import GOLDEN, resolve

    _require_week(week)
    row: dict[str, Any] = {"week": week}
    if here:
        _freeze_here(week)
    else:
        row["run"] = _ask(url, week)
        if not wait:
            click.echo(json.dumps(row) if as_json else f"run {row['run']}")
            return
        _wait(row["run"])
    found = resolve(open_lake(), f"{GOLDEN}@{week}")
    row["version"] = found.version
    click.echo(json.dumps(row) if as_json else f"{found.name}@{found.version}")


@datasets.command()
@click.argument("reference")
@click.option("--split", help="Only what has frames in this split.")
@click.option("--slice", "slice_name", help="Only what has frames in this slice.")
@json_option
def files(reference: str, split: str | None, slice_name: str | None, as_json: bool) -> None:
    """Files of a version, with their digests and the bundles that they are links to."""
    from av_assets.mining.versions import files_of
    from resources.datasets import resolve

    lake = open_lake()
    rows = files_of(lake, resolve(lake, reference), split, slice_name)
    if as_json:
        click.echo(json.dumps({"files": rows}))
        return
    for row in rows:
        click.echo(f"{row['sha256']}  {row['bytes']:>12}  {row['path']}")


COMMANDS = (datasets, diff)


def _require_week(week: str) -> None:
    from partitions.calendar import weeks

    if not weeks.has_partition_key(week):
        raise AvError(
            f"{week!r} is no week that has ended",
            code="bad_week",
            remedy="name the Monday of a past week, YYYY-MM-DD",
        )


def _freeze_here(week: str) -> None:
    import dagster as dg

    from av_assets.definitions import defs

    defs.resolve_implicit_global_asset_job_def().execute_in_process(
        run_config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
        instance=open_instance(),
        partition_key=week,
        asset_selection=[dg.AssetKey(ASSET)],
    )


def _ask(url: str, week: str) -> str:
    from av_assets.platform import request_run

    try:
        return request_run(url, [ASSET], week)
    except OSError as error:
        raise AvError(
            f"nothing answers at {url}: {error}",
            code="not_running",
            remedy="start it with: av up; or use --here",
        ) from error


def _wait(run_id: str) -> None:
    instance = open_instance()
    while (run := instance.get_run_by_id(run_id)) is None or not run.is_finished:
        time.sleep(1.0)
    if not run.is_success:
        raise AvError(
            f"run {run_id} ended as {run.status.value}", code="run_failed", remedy="see it in the catalog"
        )


def _remedy(known: Sequence[str]) -> str:
    return f"there is {', '.join(known)}" if known else "freeze one: av datasets freeze --week YYYY-MM-DD"


def _size(found: dict[str, Any]) -> str:
    drives, frames, files = (f"{found[name]:,} {name}" for name in ("drives", "frames", "files"))
    return f"{drives}, {frames}, {files}, {found['bytes'] / 1e6:,.1f} MB"


def _counts(objects: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in objects.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], fold: str = "") -> None:
    cells = [[f"{v:,}" if isinstance(v, int) else "-" if v is None else str(v) for v in row] for row in rows]
    print_table(head, cells, fold)
