"""The part of `av` about trigger policies: proposing, back-testing and activating them, and what a change would remake.

Belongs here: arguments and printing. Does not belong here: anything that a sensor or a test would also want to call.
"""

from __future__ import annotations

import getpass
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from av_assets.cli.lake import open_instance, open_lake
from av_assets.cli.logs import json_option, path_argument
from av_assets.cli.tables import print_table
from av_assets.domain.errors import AvError

by_option = click.option("--by", default=getpass.getuser, show_default="the user", help="Who does it.")


@click.group()
def policy() -> None:
    """Trigger policies: propose other numbers, see what they would have done, activate them."""


@policy.command("list")
@json_option
def list_policies(as_json: bool) -> None:
    """List what is active, and every version that was proposed."""
    from av_assets.policies.label_fusion import LabelFusionPolicy
    from av_assets.policies.training import TrainingPolicy
    from resources.policies import active as held
    from resources.policies import rollout
    from resources.policy_versions import BACKTESTS, REPORT_FILE, latest, proposals

    lake = open_lake()
    now = rollout(lake)
    active = [
        {
            "kind": p.name,
            "version": p.version,
            "digest": p.digest,
            "how": (latest(lake, p.name) or {}).get("how", "shipped"),
            "dormant": p.name == "geofences" and now.dormant,
        }
        for p in [*now, held(lake, LabelFusionPolicy), held(lake, TrainingPolicy)]
    ]
    rows = []
    for key in proposals(lake):
        made = lake.manifest(BACKTESTS, key)
        report = json.loads(lake.read_bytes(made, REPORT_FILE)) if made else {}
        rows.append({"policy": key, "backtest": report.get("state", "none")})
    if as_json:
        click.echo(json.dumps({"active": active, "proposed": rows}))
        return
    for row in active:
        rest = "  (dormant: its base is not active)" if row["dormant"] else ""
        click.echo(f"{row['kind']} {row['version']} is active ({row['how']})  {row['digest'][:12]}{rest}")
    _table(rows, "nothing was proposed")


@policy.command("show")
@click.argument("name")
@click.option("--schema", is_flag=True, help="Print the JSON schema of the kind instead.")
def show_policy(name: str, schema: bool) -> None:
    """Print the active numbers of a kind (events), or those of a version (events-1.1.0), as YAML."""
    import yaml

    from resources.policies import active
    from resources.policy_versions import model_of, proposal

    kind = name.partition("-")[0]
    if schema:
        click.echo(json.dumps(model_of(kind).model_json_schema(), indent=1))
        return
    if kind == name:
        held = active(open_lake(), model_of(kind))
    else:
        found = proposal(open_lake(), name)
        held = found.policy
        for note in found.notes:
            click.echo(f"# {note}")
    click.echo(f"# digest {held.digest}")
    click.echo(yaml.safe_dump(held.model_dump(mode="json"), sort_keys=False).rstrip())


@policy.command("propose")
@click.argument("files", type=path_argument, nargs=-1)
@click.option(
    "--kind",
    help="events, geofences, label_fusion or training; default: the file's name up to its first '-' or '.'.",
)
@by_option
@json_option
def propose_policy(files: tuple[Path, ...], kind: str | None, by: str, as_json: bool) -> None:
    """Check policy files and keep them as versions; without FILES all of the folder AV_POLICIES."""
    from partitions.policies import policies
    from resources.environment import environment
    from resources.policies import propose
    from resources.policy_versions import BACKTESTED

    chosen = files or tuple(sorted(environment().policies.glob("*.yaml")))
    if not chosen:
        raise AvError(
            "no file was named", code="no_file", file=environment().policies, remedy="av policy propose FILE"
        )
    lake, instance, keys = open_lake(), open_instance(), []
    for file in chosen:
        named = kind or file.name.split(".")[0].split("-")[0]
        keys.append(propose(lake, named, file, by, time.time_ns()).key)
        if named in BACKTESTED:
            instance.add_dynamic_partitions(policies.name or "", keys[-1:])
    click.echo(json.dumps({"proposed": keys}) if as_json else "\n".join(f"proposed {key}" for key in keys))


@policy.command("backtest")
@click.argument("key")
@json_option
def backtest_policy(key: str, as_json: bool) -> None:
    """Replay a version on history beside the active one, in this process. Exit code 1 unless it passes."""
    from av_assets.reliability.trigger_policies import run_backtest
    from resources.policy_versions import BACKTESTED

    if key.split("-")[0] not in BACKTESTED:
        raise AvError(
            "versions of this kind are judged by the labeller's report",
            code="not_backtested",
            remedy="av labels quality",
        )
    lake = open_lake()
    report, kinds = run_backtest(_definitions(), open_instance(), lake, key)
    if as_json:
        click.echo(json.dumps({**report, "by_kind": kinds}))
    else:
        click.echo(
            f"{key}: {report['state']}, {len(report['replayed'])} of {report['drives']} drives replayed"
        )
        for reason in report["reasons"]:
            click.echo(f"  {reason}")
        _table([_compared(row) for row in kinds], "no kind of event can change")
    if report["state"] != "pass":
        sys.exit(1)


@policy.command("activate")
@click.argument("kind")
@click.argument("version")
@by_option
@json_option
def activate_policy(kind: str, version: str, by: str, as_json: bool) -> None:
    """Make VERSION of KIND the active one; an earlier one rolls back, 'shipped' is the kill switch."""
    from resources.activations import activate
    from resources.policies import rollout

    lake = open_lake()
    record = activate(lake, kind, version, by, time.time_ns())
    dormant = rollout(lake).dormant
    if as_json:
        click.echo(json.dumps({**record, "dormant_geofences": dormant}))
        return
    click.echo(f"{kind} {version} is active ({record['how']}); before it: {record['previous']}")
    if dormant:
        click.echo("the active geofences rest on another version and change nothing now")


@policy.command("history")
@click.argument("kind")
@json_option
def policy_history(kind: str, as_json: bool) -> None:
    """List who activated which version, when and on which evidence."""
    from resources.policy_versions import history, model_of

    model_of(kind)
    rows = history(open_lake(), kind)
    columns = ("number", "version", "how", "by", "at_ns", "previous", "backtest")
    if as_json:
        click.echo(json.dumps({"activations": rows}))
    else:
        shown = [{c: row[c] for c in columns} | {"backtest": row["backtest"][:12]} for row in rows]
        _table(shown, f"{kind} is as shipped")


@click.command()
@click.argument("files", type=path_argument, nargs=-1)
@click.option("--truth", is_flag=True, help="Take the scripts of synthetic drives as the judge.")
@by_option
@json_option
def adjudicate(files: tuple[Path, ...], truth: bool, by: str, as_json: bool) -> None:
    """Add verdicts on events from CSV or JSON FILES: drive, kind, start_ns, end_ns, verdict, by, at_ns, reason."""
    from resources.adjudications import adjudicate as keep
    from resources.adjudications import rows_of, scripted
    from resources.environment import environment

    lake, now_ns = open_lake(), time.time_ns()
    rows: list[dict[str, Any]] = [
        {"by": by, "at_ns": now_ns, **{k: v for k, v in row.items() if v not in (None, "")}}
        for file in files
        for row in rows_of(file)
    ]
    rows += scripted(lake, environment().truth) if truth else []
    if not rows:
        raise AvError("there is nothing to keep", code="no_file", remedy="av adjudicate FILE, or --truth")
    count = keep(lake, rows)
    click.echo(json.dumps({"adjudicated": count}) if as_json else f"{count} verdicts kept")


@click.group()
def impact() -> None:
    """Show what a change would remake, and how long that took before; launch nothing."""


@impact.command("policy")
@click.argument("key")
@json_option
def impact_of_policy(key: str, as_json: bool) -> None:
    """Show what activating a proposed version would remake.

    KEY is kind and version, such as events-1.1.0.
    """
    from av_assets.impact import of_policy

    _preview(f"policy {key}", of_policy(open_lake(), key), as_json)


@impact.command("map")
@click.option("--bbox", help="WEST,SOUTH,EAST,NORTH in degrees of what changes; default: everywhere.")
@json_option
def impact_of_map(bbox: str | None, as_json: bool) -> None:
    """Show what another map of an area would remake."""
    from av_assets.impact import of_map

    _preview(f"map {bbox or ''}".rstrip(), of_map(_definitions(), open_lake(), _box(bbox)), as_json)


@impact.command("code")
@click.argument("asset")
@json_option
def impact_of_code(asset: str, as_json: bool) -> None:
    """Show what another code version of ASSET would remake, in all of its partitions."""
    from av_assets.impact import of_asset

    _preview(f"code {asset}", of_asset(_definitions(), open_lake(), asset), as_json)


@impact.command("asset")
@click.argument("asset")
@click.argument("drives", nargs=-1, required=True)
@json_option
def impact_of_asset(asset: str, drives: tuple[str, ...], as_json: bool) -> None:
    """Show what other bytes of ASSET would remake, for the named drives or other partitions."""
    from av_assets.impact import of_asset

    _preview(f"asset {asset}", of_asset(_definitions(), open_lake(), asset, drives), as_json)


COMMANDS = (policy, adjudicate, impact)


def _preview(change: str, start: set[tuple[str, str]], as_json: bool) -> None:
    from av_assets.impact import preview, shown_seconds

    found = preview(change, _definitions(), open_lake(), open_instance(), start)
    if as_json:
        click.echo(json.dumps(found.to_dict()))
        return
    rows = [
        {**row, "p50_s": shown_seconds(row["p50_s"]), "p90_s": shown_seconds(row["p90_s"])}
        for row in found.rows()
    ]
    _table(rows, "nothing would be remade")
    least = "" if found.total.is_complete else "at least "
    click.echo(f"on the wall: {least}{found.total.p50_s:.0f} s (p50), {least}{found.total.p90_s:.0f} s (p90)")


def _compared(row: dict[str, Any]) -> dict[str, str]:
    """The active version's figures and the proposed one's side by side."""
    measures = ("alerts", "per_h", "recall", "precision")
    both = {m: f"{_cell(row[f'active_{m}'])} -> {_cell(row[f'proposed_{m}'])}" for m in measures}
    return {"kind": row["kind"], **both, "judged": f"{row['judged_true']} true, {row['judged_false']} false"}


def _box(text: str | None) -> tuple[float, float, float, float] | None:
    import math

    if text is None:
        return None
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        west = south = east = north = math.nan
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise AvError(
            f"{text[:100]!r} is no box", code="bad_bbox", remedy="write WEST,SOUTH,EAST,NORTH in degrees"
        )
    return west, south, east, north


def _table(rows: Sequence[dict[str, Any]], empty: str) -> None:
    if not rows:
        click.echo(empty)
        return
    print_table(list(rows[0]), [[_cell(value) for value in row.values()] for row in rows])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _definitions() -> Any:
    from av_assets.definitions import defs

    return defs
