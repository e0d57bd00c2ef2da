"""The part of `av labels` about the auto-labeller: how good it is, and which thresholds it should have.

Belongs here: arguments and printing. Does not belong here: anything that a sensor or a test would also want to call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from av_assets.cli.lake import open_lake
from av_assets.cli.logs import json_option
from av_assets.cli.tables import print_table
from av_assets.domain.errors import AvError

if TYPE_CHECKING:
    from av_assets.domain.evidence.manifest import Manifest
    from resources.lake import Lake

ASSET, ALL = "labeller_reports", "all"
SHOWN = {
    "found": "found",
    "objects": "objects",
    "precision": "precision",
    "precision_lower_bound": "at least",
    "recall": "recall",
    "median_iou": "IoU",
}
"""What is printed, and under which heading; the report holds more."""


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
    part = "slices" if slices else "classes"
    rows, unmoved = list(_rows(report, part)), _unmoved(report, part)
    if not rows:
        click.echo(report["reason"] or "nothing was labelled")
        return
    columns = ["class/slice" if slices else "class", "thresholds", *SHOWN.values()]
    print_table(columns if slices else [*columns, "verdict"], rows)
    if unmoved:
        click.echo(f"as now with the proposed thresholds: {', '.join(unmoved)}")
    click.echo("at least: lower bound of precision; calibration and average precision are in --json")


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
         one["why"].replace("_", " ")]
        for cls, slices in held["chosen"].items()
        for name, one in slices.items()
    ]  # fmt: skip
    print_table(["class", "slice", "active", "chosen", "items", "at least", "why"], rows)
    click.echo(f"at least: lower bound of precision, to reach {_targets(held)}")
    click.echo(
        f"wrote {path}; next: av policy propose {path}"
        if path
        else held["reason"] or "to propose them: av labels thresholds --propose"
    )


def _propose(lake: Lake, newest: Manifest, held: dict[str, Any]) -> Path:
    from av_assets.policies.label_fusion import LabelFusionPolicy
    from resources.environment import environment
    from resources.policies import active

    if held["reason"]:
        raise AvError(held["reason"], code="no_proposal", remedy="have more drives verified")
    if held["base"] != active(lake, LabelFusionPolicy).digest:
        raise AvError(
            "the report is one of thresholds that are no longer active",
            code="outdated_report",
            remedy="materialize labeller_reports, then propose",
        )
    folder = environment().policies
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "label_fusion.yaml"
    path.write_bytes(lake.read_bytes(newest, "label_fusion.yaml"))
    return path


def _targets(held: dict[str, Any]) -> str:
    return ", ".join(f"{cls} {value:g}" for cls, value in held["target"].items())


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
    """Each class or slice under the active thresholds and, where they change anything for it, the proposed ones."""
    unmoved = _unmoved(report, part)
    names = sorted({*report["active"][part], *report["proposed"][part]})
    for name, kind in ((name, kind) for name in names for kind in ("active", "proposed")):
        scores = report[kind][part].get(name)
        if scores is not None and (kind == "active" or name not in unmoved):
            verdict = [scores["verdict"]] if part == "classes" else []  # a target is one of a class
            yield [name, kind, *(_cell(scores[k]) for k in SHOWN), *verdict]


def _unmoved(report: dict[str, Any], part: str) -> list[str]:
    active, proposed = (report[kind][part] for kind in ("active", "proposed"))
    return [name for name, scores in active.items() if proposed.get(name) == scores]


def _active(held: dict[str, Any], cls: str, slice_: str) -> float:
    own = held["active"].get(cls, {})
    return float(own.get(slice_, own.get("all", held["default"][cls])))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


COMMANDS = (quality, thresholds)
