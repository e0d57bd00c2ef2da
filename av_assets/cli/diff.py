"""`av diff`: what changed between two versions of a dataset, or between the figures of two evaluations, and why.

Belongs here: arguments, order and wording. Does not belong here: comparing (domain/datasets/difference,
domain/reproduction).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from av_assets.cli.lake import open_lake
from av_assets.cli.logs import json_option
from av_assets.cli.tables import print_table

_KINDS = ("removed", "changed", "added", "same")
_BOX_KINDS = ("removed", "moved", "class_changed", "added", "same")
_SHOWN_DRIVES = 3
"""Drives that changed for the same reason are named up to here, then counted."""


@click.command()
@click.argument("before")
@click.argument("after")
@click.option("--png", type=click.Path(path_type=Path), help="Write a picture of the changes there.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Of evaluations: a file with the evaluation policy of one, where it is not the shipped one.",
)
@json_option
def diff(before: str, after: str, png: Path | None, policies: tuple[Path, ...], as_json: bool) -> None:
    """What changed and why between two versions of a dataset, or between two evaluations.

    av diff golden@1.0.0 golden@1.1.0, or av diff eval_reports/RELEASE eval_reports/RELEASE
    """
    from av_assets.cli.reproduce import diff_evaluations, is_evaluation
    from av_assets.mining.versions import compare
    from resources.datasets import resolve

    lake = open_lake()
    if is_evaluation(before) and is_evaluation(after):
        diff_evaluations(lake, before, after, policies, as_json)
        return
    found = compare(lake, resolve(lake, before), resolve(lake, after))
    if png:
        from av_assets.domain.datasets.pictures import diff_png

        names = (found[side]["reference"] for side in ("before", "after"))
        png.write_bytes(diff_png(_changes(found), *names))
    if as_json:
        click.echo(json.dumps(found))
        return
    _print_what(found)
    _print_why(found)


COMMANDS = (diff,)


def _changes(found: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    members, boxes = found["members"], list(found["labels"].values())
    return {
        "drives": {
            "added": len(members["added"]),
            "removed": len(members["removed"]),
            "changed": len({*members["changed"], *members["moved"]}),
            "same": members["same"],
        },
        "frames": found["frames"],
        "boxes of changed drives": {
            "added": sum(b["added"] for b in boxes),
            "removed": sum(b["removed"] for b in boxes),
            "changed": sum(b["moved"] + b["class_changed"] for b in boxes),
            "same": sum(b["same"] for b in boxes),
        },
    }


def _print_what(found: Mapping[str, Any]) -> None:
    members = found["members"]
    click.echo(f"{found['before']['reference']} -> {found['after']['reference']}")
    if found["before"]["version"] == found["after"]["version"]:
        click.echo("the same version: nothing changed")
        return
    changes = {what: counts for what, counts in _changes(found).items() if any(counts.values())}
    print_table(["", *_KINDS], [[what, *_cells(c.get(k, 0) for k in _KINDS)] for what, c in changes.items()])
    for drive, why in members["removed"].items():
        click.echo(f"out: {drive}: {why}")
    for drive in members["added"]:
        click.echo(f"in: {drive}")
    for drive, (was, now) in members["moved"].items():
        click.echo(f"moved: {drive}: {was} -> {now}")
    for title, what in (("objects", "objects"), ("frames of slice", "slices")):
        rows = [[name, *_cells((was, now))] for name, (was, now) in found[what].items() if was != now]
        if rows:
            print_table([title, "before", "after"], rows)
    if found["labels"]:
        boxes = [[d, *_cells(b[k] for k in _BOX_KINDS)] for d, b in found["labels"].items()]
        print_table(["boxes of", *(k.replace("_", " ") for k in _BOX_KINDS)], boxes)


def _print_why(found: Mapping[str, Any]) -> None:
    spec = {name: pair for name, pair in found["spec"].items() if name != "policy_digest"}  # named below
    reasons = [f"spec {name}: {json.dumps(a)} -> {json.dumps(b)}" for name, (a, b) in spec.items()]
    reasons += found["why"]["dataset"]
    groups = _grouped(found["why"]["members"])
    if reasons or groups:
        click.echo("why:")
    for reason in reasons:
        click.echo(f"  the dataset itself: {reason}")
    for (reason, drives), assets in groups.items():
        more = f" and {len(drives) - _SHOWN_DRIVES} more" if len(drives) > _SHOWN_DRIVES else ""
        click.echo(f"  {', '.join(assets)}: {reason}")
        click.echo(f"    of {', '.join(drives[:_SHOWN_DRIVES])}{more}")


def _grouped(members: Mapping[str, Any]) -> dict[tuple[str, tuple[str, ...]], list[str]]:
    """(reason, drives) -> assets, in the order of the way to the dataset: one change is told once."""
    drives: dict[tuple[str, str], list[str]] = {}
    for drive, steps in members.items():
        for asset, reason in dict.fromkeys(_reasons(steps)):
            drives.setdefault((asset, reason), []).append(drive)
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (asset, reason), names in drives.items():
        found.setdefault((reason, tuple(names)), []).append(asset)
    return found


def _reasons(steps: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(asset, reason) of every step, what comes first in front; a changed input that is looked into is no reason."""
    for step in steps:
        yield from _reasons(step["above"])
        asset, followed = step["bundle"].partition("/")[0], {f"input {a['bundle']}" for a in step["above"]}
        for reason in step["because"]:
            if reason not in followed:
                yield asset, reason.rpartition("/")[0] if reason.startswith("input ") else reason


def _cells(values: Any) -> list[str]:
    return ["-" if value is None else f"{value:,}" for value in values]
