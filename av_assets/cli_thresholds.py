"""The part of `av labels` about the auto-labeller: how good it is, and which thresholds it should have.

Belongs here: arguments and printing. Does not belong here: anything that a sensor or a test would also want to call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from av_assets.cli_lake import open_lake
from av_assets.cli_logs import json_option
from av_assets.cli_tables import print_table
from av_assets.domain.errors import AvError

if TYPE_CHECKING:
    from av_assets.domain.evidence.manifest import Manifest
    from resources.lake import Lake

ASSET, ALL = "labeller_reports", "all"
SHOWN = ("found", "objects", "precision", "precision_lower_bound", "recall", "median_iou", "ap50", "ece")


@click.command("quality")
@click.option("--slices", is_flag=True, help="Show every slice, not classes alone.")
@json_option
def quality(slices: bool, as_json: bool) -> None:
    """Show how good auto-labels are on the verified drives that chose no threshold."""
    lake = open_lake()
    report = _read(lake, _newest(lake), "quality_report.json")
    if as_json:
        click.echo(json.dumps(report))
        return
    click.echo(
        f"label_fusion {report['policy']}, judged on {len(report['judged_on'])} of {report['drives']} "
        f"verified drives, {report['active']['frames']} frames"
    )
    rows = list(_rows(report, "slices" if slices else "classes"))
    if not rows:
        click.echo(report["reason"] or "nothing was labelled")
        return
    print_table(["thresholds", "of", *SHOWN, "verdict"], rows)


@click.command("thresholds")
@click.option("--propose", is_flag=True, help="Write what was chosen as label_fusion.yaml into AV_POLICIES.")
@json_option
def thresholds(propose: bool, as_json: bool) -> None:
    """Show the thresholds that verified labels ask for beside the active ones."""
    lake = open_lake()
    newest = _newest(lake)
    held = _read(lake, newest, "thresholds.json")
    path = _propose(lake, newest, held) if propose else None
    if as_json:
        click.echo(json.dumps({**held, "proposal": str(path) if path else None}))
        return
    rows = [
        [cls, name, _cell(_active(held, cls, name)), *(_cell(one[k]) for k in ("score", "items", "lower_bound")),
         one["why"], one["clusters"]]
        for cls, slices in held["chosen"].items()
        for name, one in slices.items()
    ]  # fmt: skip
    print_table(["class", "slice", "active", "chosen", "items", "lower bound", "why", "clusters"], rows)
    click.echo(
        f"wrote {path}; next: av policy propose {path}"
        if path
        else held["reason"] or "to propose them: av labels thresholds --propose"
    )


def _propose(lake: Lake, newest: Manifest, held: dict[str, Any]) -> Path:
    from resources.environment import environment

    if held["reason"]:
        raise AvError(held["reason"], code="no_proposal", remedy="have more drives verified")
    folder = environment().policies
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "label_fusion.yaml"
    path.write_bytes(lake.read_bytes(newest, "label_fusion.yaml"))
    return path


def _newest(lake: Lake) -> Manifest:
    found = lake.manifest(ASSET, ALL)
    if found is None:
        raise AvError(
            "no report of the labeller was made yet",
            code="no_labeller_report",
            remedy="materialize labeller_reports once drives are verified",
        )
    return found


def _read(lake: Lake, manifest: Manifest, path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lake.read_bytes(manifest, path))
    return found


def _rows(report: dict[str, Any], part: str) -> Iterator[list[str]]:
    for kind in ("active", "proposed"):
        for name, scores in report[kind][part].items():
            yield [kind, name, *(_cell(scores[k]) for k in SHOWN), scores.get("verdict", "")]


def _active(held: dict[str, Any], cls: str, slice_: str) -> float:
    own = held["active"].get(cls, {})
    return float(own.get(slice_, own.get("all", held["default"][cls])))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


COMMANDS = (quality, thresholds)
