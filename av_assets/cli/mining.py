"""The part of `av` that finds clips worth labelling and says what is missing.

Belongs here: arguments and printing. Does not belong here: mining itself (domain/mining), reading the lake
(mining/pools).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from av_assets.cli.lake import open_lake
from av_assets.cli.logs import json_option
from av_assets.cli.tables import print_table
from av_assets.domain.errors import AvError


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@json_option
def mine(spec: Path, as_json: bool) -> None:
    """Run mining specs on the lake now: what each filter took out, and the clips chosen.

    SPEC is a YAML file with a list `specs`, each with a name, conditions (where, text, like, sequence) and a budget,
    or - for the standard input. docs/mining.md lists the keys.
    """
    from av_assets.domain.mining.pipeline import settle
    from av_assets.domain.mining.reports import report_of
    from av_assets.mining import pools
    from av_assets.policies.mining import MiningPolicy, load_specs

    policy, specs, lake = MiningPolicy.load(), load_specs(_STDIN if str(spec) == "-" else spec), open_lake()
    labels = pools.automatic_labels(lake) if pools.uses_road_users(specs) else {}
    sifted = pools.sift_all(lake, specs, pools.catalogue(lake, labels), pools.training_drives(lake))
    evidence = pools.evidence_of(lake, pools.bundles_of(lake, sifted), policy)
    mined = [settle(one, evidence, policy) for one in sifted]
    if as_json:
        click.echo(json.dumps([report_of(one) | {"candidates": list(one.chosen)} for one in mined]))
        return
    for one in mined:
        _print_mined(report_of(one), one.chosen)


@click.command("why-not")
@click.argument("subject")
@click.option("--in", "asked", required=True, help="scenario_candidates, one of its specs, or golden_slices.")
@click.option("--day", help="Day of the candidates or Monday of the week; default: the newest.")
@json_option
def why_not(subject: str, asked: str, day: str | None, as_json: bool) -> None:
    """Why the drive or clip SUBJECT is not in a set: the first filter that removed it, with its numbers."""
    from av_assets.mining import pools

    answers = pools.why_not(open_lake(), subject, asked, day)
    if as_json:
        click.echo(json.dumps([answer.to_json() for answer in answers]))
        return
    for answer in answers:
        click.echo(f"{answer.set}: {'in' if answer.inside else 'not in'}: {answer.sentence}")
        if answer.clips:
            held = ", ".join(f"{stage} {count}" for stage, count in answer.clips.items())
            click.echo(f"  the clip that came farthest is {answer.clip_id}; its drive's clips: {held}")


@click.command()
@click.option("--day", help="Day of the ledger; default: the newest.")
@json_option
def coverage(day: str | None, as_json: bool) -> None:
    """The coverage ledger: hours, kilometres, pairwise coverage, and what training has too little of."""
    lake = open_lake()
    there = lake.partitions("coverage_ledgers")
    chosen = day or (there[-1] if there else None)
    if chosen is None or chosen not in there:
        remedy = "av request coverage_ledgers DAY" if not there else f"there are {', '.join(there[-5:])}"
        raise AvError("there is no such ledger", code="no_such_day", remedy=remedy)
    report = json.loads(lake.read_bytes(lake.require("coverage_ledgers", chosen), "coverage.json"))
    if as_json:
        click.echo(json.dumps({"day": chosen, **report}))
        return
    for scope, share in report["pairwise"].items():
        click.echo(
            f"{scope}: {report['hours'][scope]:.3g} h, {report['km'][scope]:.3g} km, pairwise coverage {share:.1%}"
        )
    print_table(
        ["gap", "hours in training", "hours driven", "clips", "remedy"],
        [
            [
                ", ".join(f"{k} {v}" for k, v in gap["values"].items()),
                f"{gap['hours']:.3g}",
                f"{gap['fleet_hours']:.3g}",
                str(gap["fleet_clips"]),
                gap["remedy"],
            ]
            for gap in report["gaps"][:30]
        ],
        fold="gap",
    )
    click.echo(
        f"{len(report['gaps'])} gaps; specs for the first ones are in next_specs.yaml of coverage_ledgers"
    )


_STDIN = Path("/dev/stdin")
_PARTS = ("relevance", "rarity", "uncertainty", "disagreement")
COMMANDS = (mine, why_not, coverage)


def _print_mined(report: dict[str, Any], chosen: tuple[dict[str, Any], ...]) -> None:
    click.echo(f"{report['name']}: {report['chosen']} chosen")
    stages = [
        [s["stage"], str(s["entered"]), str(s["removed"]), s["note"]]
        for s in report["stages"]
        if s["removed"] or s["note"]
    ]
    if stages:
        print_table(["filter", "in", "removed", "note"], stages, fold="note")
    if report["empty"]:
        click.echo(f"nothing is left: {report['empty']}")
        return
    parts = [part for part in _PARTS if report["weights"].get(part)]
    columns = ["rank", "clip_id", "score", "gain", *parts]
    print_table(columns, [[_figure(row[c]) for c in columns] for row in chosen])
    for part, count in report["unknown"].items():
        click.echo(
            f"{part} is not known of {count} of {report['chosen']}: its weight went to the other parts"
        )


def _figure(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
