"""The part of `av labels` about people's work: where the frames stand, what is left to pay for, who did what.

Belongs here: arguments and printing. Does not belong here: deciding about frames (domain/labels), labelling tools.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from av_assets.cli.lake import open_lake
from av_assets.cli.logs import json_option
from av_assets.cli.tables import print_table
from av_assets.domain.errors import AvError

if TYPE_CHECKING:
    from resources.lake import Lake


@click.command("status")
@click.argument("drive", required=False)
@json_option
def status(drive: str | None, as_json: bool) -> None:
    """Where the frames of every drive (or of DRIVE) stand, minutes spent, and minutes to go at the pace so far."""
    from av_assets.domain.labels.people.states import STATES

    lake = open_lake()
    frames: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    filters = [("drive", "=", drive)] if drive else None
    table = lake.tables.read("label_frames", filters)
    for row in table.to_pylist() if table is not None else []:
        frames[row["drive"]].append(row)
    if drive and drive not in frames:
        remedy = f"av request label_tasks {drive}"
        raise AvError(f"{drive} has no label tasks", code="no_such_drive", drive=drive, remedy=remedy)
    found = [_standing(lake, name, frames[name]) for name in sorted(frames)]
    if as_json:
        click.echo(json.dumps(found))
        return
    if not found:
        click.echo("no drive has label tasks")
        return
    # States in which no frame is are not shown: the rest then fits a terminal.
    states = [state for state in STATES if any(one["states"][state] for one in found)]
    print_table(
        ["drive", *states, "spent min", "budget min", "to go min"], [_line(one, states) for one in found]
    )
    spent, opened = sum(o["spent_minutes"] for o in found), sum(o["open"] for o in found)
    click.echo(f"{sum(o['frames'] for o in found)} frames, {opened} open, {spent:.1f} minutes spent")
    for one in found:
        if one["beyond_budget"]:
            click.echo(
                f"{one['drive']}: {one['beyond_budget']} frames do not fit into the budget and stay queued"
            )


@click.command("audit")
@click.argument("task")
@json_option
def audit(task: str, as_json: bool) -> None:
    """Every step of the frame TASK: what followed what, who did it, why, and how long it took."""
    steps = _steps(open_lake(), task)
    if as_json:
        click.echo(json.dumps(steps))
        return
    rows = [
        [
            str(s["step"]),
            s["state_to"],
            s["by"],
            s["role"],
            "-" if s["seconds"] is None else f"{s['seconds']:.0f}",
            s["reason"],
        ]
        for s in steps
    ]
    print_table(["step", "state", "by", "role", "seconds", "reason"], rows, fold="reason")


COMMANDS = (status, audit)


def _standing(lake: Lake, drive: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """States and minutes of one drive; `minutes_to_go` is unknown until a frame is final."""
    from av_assets.domain.labels.people.states import FINAL, STATES

    states = Counter(row["state"] for row in rows)
    spent = sum(row["seconds"] or 0.0 for row in rows) / 60
    left = len(rows) - states[FINAL]
    plan = _plan(lake, drive)
    return {
        "drive": drive,
        "frames": len(rows),
        "states": {state: states[state] for state in STATES},
        "open": left,
        "spent_minutes": round(spent, 3),
        "budget_minutes": plan.get("minutes"),
        "beyond_budget": len(plan.get("beyond_budget", [])),
        "minutes_to_go": round(spent / states[FINAL] * left, 3) if states[FINAL] else None,
    }


def _line(one: Mapping[str, Any], states: Sequence[str]) -> list[str]:
    minutes = {"spent_minutes": ".1f", "budget_minutes": ".0f", "minutes_to_go": ".1f"}
    shown = ["-" if one[name] is None else format(one[name], places) for name, places in minutes.items()]
    return [one["drive"], *(str(one["states"][s]) for s in states), *shown]


def _plan(lake: Lake, drive: str) -> dict[str, Any]:
    manifest = lake.manifest("label_tasks", drive)
    return {} if manifest is None else dict(json.loads(lake.read_bytes(manifest, "plan.json"))["budget"])


def _steps(lake: Lake, task: str) -> list[dict[str, Any]]:
    """The audit of a task; where nobody has labelled its drive yet, the one step that it was queued.

    Raises:
        AvError: no_such_task.
    """
    drive = task.partition(".")[0]
    steps = [
        row
        for row in lake.rows_of(lake.manifest("verified_labels", drive), "audit.parquet")
        if row["task_id"] == task
    ]
    if steps:
        return sorted(steps, key=lambda row: row["step"])
    from av_assets.domain.labels.people.decisions import queued
    from av_assets.domain.labels.people.tasks import LabelTask

    for row in lake.rows_of(lake.manifest("label_tasks", drive), "tasks.parquet"):
        if row["task_id"] == task:
            return queued(LabelTask(**row)).rows()
    raise AvError(
        f"there is no task {task}",
        code="no_such_task",
        remedy="name <drive>.<camera>.<ref_ns>, as in column task_id of table label_frames",
    )
