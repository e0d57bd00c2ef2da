"""The part of `av` that erases: `forget`, legal holds, receipts.

Belongs here: arguments and printing. Does not belong here: what is erased and how (av_assets/erasure/execution).
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from av_assets.cli.lake import open_instance, open_lake
from av_assets.cli.logs import json_option
from av_assets.cli.tables import print_table
from av_assets.domain.errors import AvError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from av_assets.domain.erasure.records import Plan, Receipt
    from av_assets.domain.erasure.requests import Scope

_vehicle = click.option("--vehicle", help="All drives of this vehicle, or those that overlap the range.")
_drive = click.option(
    "--drive", "drives", multiple=True, help="A drive by its id; may be given several times."
)
_from = click.option("--from", "first", help="Begin of the range, e.g. 2025-06-01 or 2025-06-01T12:00:00Z.")
_to = click.option("--to", "last", help="End of the range, which is not part of it.")
_by = click.option("--by", default="", help="Who asks for it.")
_reason = click.option("--reason", default="", help="Why; for people who read the record later.")


@click.command()
@_vehicle
@_drive
@_from
@_to
@click.option("--expired", is_flag=True, help="Drives whose time is over by the policy `retention`.")
@_by
@_reason
@click.option(
    "--legal-basis", default="", help="The ground, e.g. `GDPR Art. 17(1)(a)`; goes into the receipt."
)
@click.option("--execute", "plan_id", help="Carry out the plan with this id, or go on with it.")
@click.option("--yes", is_flag=True, help="Plan and carry out at once.")
@click.option("--no-remake", is_flag=True, help="Leave datasets and indexes to be made again later.")
@json_option
def forget(
    vehicle: str | None, drives: tuple[str, ...], first: str | None, last: str | None, expired: bool, by: str,
    reason: str, legal_basis: str, plan_id: str | None, yes: bool, no_remake: bool, as_json: bool,
) -> None:  # fmt: skip
    """Erase drives and all that was made from them. Without --execute or --yes it only says what would go."""
    from av_assets.erasure.execution import execute, make_plan
    from av_assets.erasure.installed import installed, remaker

    place = installed(open_lake(), open_instance())
    if plan_id is None:
        request = _request(_scope(vehicle, drives, first, last, expired), by, reason, legal_basis)
        plan = make_plan(place, request, time.time_ns(), by_retention=expired)
        plan_id = plan.id
        if not yes:
            _say_plan(plan, as_json)
            return
    said = (lambda step: None) if as_json else (lambda step: click.echo(f"  {step}"))
    remake = None if no_remake else remaker(place)
    _say_receipt(execute(place, plan_id, time.time_ns(), remake, said), as_json)


@click.group()
def hold() -> None:
    """Legal holds: what is held is not erased."""


@hold.command("add")
@_vehicle
@_drive
@_from
@_to
@_by
@_reason
@json_option
def hold_add(
    vehicle: str | None, drives: tuple[str, ...], first: str | None, last: str | None, by: str, reason: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Keep drives from being erased, whoever asks for it, until the hold is lifted."""
    from resources import legal_holds, tombstones

    lake, scope = open_lake(), _scope(vehicle, drives, first, last)
    made = legal_holds.add(
        lake, scope, by=_said(by, "--by"), reason=_said(reason, "--reason"), now_ns=time.time_ns()
    )
    gone = sorted(set(drives) & tombstones.listing(lake))
    if as_json:
        click.echo(json.dumps({**made.model_dump(mode="json"), "erased_before": gone}))
        return
    click.echo(f"hold {made.id} stands")
    if gone:
        click.echo(f"too late for: {', '.join(gone)} (erased, or being erased)")


@hold.command("list")
@json_option
def hold_list(as_json: bool) -> None:
    """Every hold, and how it ended."""
    from resources import legal_holds

    lake = open_lake()
    over = legal_holds.lifted(lake)
    rows = [
        {
            **one.model_dump(mode="json"),
            "lifted": over[one.id].model_dump(mode="json") if one.id in over else None,
        }
        for one in legal_holds.every(lake)
    ]
    if as_json:
        click.echo(json.dumps({"holds": rows}))
        return
    if not rows:
        click.echo("nothing is or was held")
        return
    shown = [
        [r["id"], _scope_words(r["scope"]), r["by"], _day(r["at_ns"]), r["reason"],
         f"lifted by {r['lifted']['by']}" if r["lifted"] else "stands"]
        for r in rows
    ]  # fmt: skip
    print_table(("hold", "keeps", "by", "since", "reason", "state"), shown, fold="reason")


@hold.command("lift")
@click.argument("hold_id")
@_by
@_reason
@json_option
def hold_lift(hold_id: str, by: str, reason: str, as_json: bool) -> None:
    """End a hold; both records stay."""
    from resources import legal_holds

    made = legal_holds.lift(
        open_lake(), hold_id, by=_said(by, "--by"), reason=_said(reason, "--reason"), now_ns=time.time_ns()
    )
    click.echo(json.dumps(made.model_dump(mode="json")) if as_json else f"hold {hold_id} is lifted")


@click.group("receipts")
def receipts_group() -> None:
    """What was erased, when, for whom, and that it is gone."""


@receipts_group.command("list")
@json_option
def receipts_list(as_json: bool) -> None:
    """All receipts."""
    from resources import receipts

    lake = open_lake()
    found = [receipts.read(lake, name) for name in receipts.names(lake)]
    if as_json:
        click.echo(json.dumps({"receipts": [_brief(one) for one in found]}))
        return
    if not found:
        click.echo("nothing was erased")
        return
    rows = [
        [one.plan, _day(one.started_ns), str(len(one.drives)), one.request.by, one.request.reason]
        for one in found
    ]
    print_table(("receipt", "day", "drives", "by", "reason"), rows, fold="reason")


@receipts_group.command("show")
@click.argument("receipt")
def receipts_show(receipt: str) -> None:
    """One receipt, as JSON."""
    from resources import receipts

    click.echo(json.dumps(receipts.read(open_lake(), receipt).model_dump(mode="json"), indent=1))


@receipts_group.command("verify")
@click.argument("receipt")
@json_option
def receipts_verify(receipt: str, as_json: bool) -> None:
    """Check signature and content of a receipt; needs nothing but the lake and the trusted keys."""
    from resources import receipts

    found, signer = receipts.verify(open_lake(), receipt)
    said = {"receipt": found.plan, "signed_by": signer, "drives": list(found.drives)}
    click.echo(
        json.dumps(said) if as_json else f"{found.plan}: signed by {signer}, {len(found.drives)} drives"
    )


COMMANDS = (forget, hold, receipts_group)


# -- what the commands share ---------------------------------------------------------------------------------------


def _scope(
    vehicle: str | None, drives: tuple[str, ...], first: str | None, last: str | None, expired: bool = False
) -> Scope:
    from pydantic import ValidationError

    from av_assets.domain.erasure.requests import Scope

    if expired:
        if vehicle or drives or first or last:
            raise AvError(
                "--expired chooses by itself", code="bad_scope", remedy="leave the other options out"
            )
        return Scope(vehicle="*")
    try:
        return Scope(drives=drives, vehicle=vehicle, from_ns=_ns(first), to_ns=_ns(last))
    except ValidationError as error:
        said = "; ".join(str(e["msg"]) for e in error.errors())
        raise AvError(
            said, code="bad_scope", remedy="use --drive, or --vehicle with --from and --to"
        ) from error


def _request(scope: Scope, by: str, reason: str, legal_basis: str) -> Any:
    from av_assets.domain.erasure.requests import Request

    said = {"by": _said(by, "--by"), "reason": _said(reason, "--reason")}
    if len(legal_basis) > 2000:
        raise AvError(
            "--legal-basis takes up to 2000 characters", code="bad_request", remedy="say it shorter"
        )
    return Request(scope=scope, legal_basis=legal_basis, **said)


def _said(text: str, option: str) -> str:
    if not text.strip() or len(text) > 2000:
        raise AvError(
            f"{option} is needed, with up to 2000 characters", code="bad_request", remedy=f"use {option}"
        )
    return text.strip()


def _ns(text: str | None) -> int | None:
    """A day or a time as nanoseconds since the epoch; UTC where it names no zone."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise AvError(f"{text!r} is no time", code="bad_time", remedy="e.g. 2025-06-01T12:00:00Z") from error
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    since = when - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def _say_plan(plan: Plan, as_json: bool) -> None:
    extent = plan.extent
    if as_json:
        click.echo(json.dumps({"plan": plan.id, **plan.model_dump(mode="json")}))
        return
    drives = "1 drive" if len(plan.drives) == 1 else f"{len(plan.drives)} drives"
    click.echo(f"plan {plan.id}: {drives} would be erased; nothing has happened yet")
    for drive in plan.drives:
        click.echo(f"  {drive}")
    for drive, holds in plan.held.items():
        click.echo(f"  {drive}  stays: legal hold {', '.join(holds)}")
    for drive in plan.undecided:
        click.echo(f"  {drive}  stays: its times are not known; name it with --drive to erase it")
    counts: dict[str, int] = {}
    for one in extent.leaving:
        counts[one.asset] = counts.get(one.asset, 0) + 1
    _line("bundles", [f"{asset} {count}" for asset, count in sorted(counts.items())])
    shared = len(extent.shared)
    _line(
        "objects",
        [f"{len(extent.objects)}, {extent.object_bytes:,} bytes; {shared} stay, shared with others"],
    )
    _line("rows", [f"{name} {count}" for name, count in extent.rows.items()])
    _line("vectors", [f"{name} {count}" for name, count in extent.vectors.items()])
    _line("files", [f"{name} {count}" for name, count in extent.files.items()])
    _line("events", [str(extent.events)])
    _line("datasets", dict.fromkeys(f"{d.name}@{d.version[:12]} ({d.bundle})" for d in extent.datasets))
    _line("models", [f"{v.bundle} (from {v.why})" for v in extent.listed])
    _line("remade", extent.remake_now)
    _line("to remake", extent.remake_listed)
    click.echo(f"carry it out: av forget --execute {plan.id}")


def _line(name: str, items: Iterable[str]) -> None:
    """One item a line: lists of bundles are long, and terminals are not."""
    first, *rest = list(items) or ["none"]
    click.echo(f"{name:<10} {first}")
    for item in rest:
        click.echo(f"{'':<10} {item}")


def _say_receipt(receipt: Receipt, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(receipt.model_dump(mode="json")))
        return
    removed = receipt.removed
    click.echo(f"erased {len(receipt.drives)} drives: {removed['objects']['bytes']} bytes of objects")
    for drive, holds in receipt.kept["held"].items():
        click.echo(f"  {drive} stayed: legal hold {', '.join(holds)}")
    for bundle, failure in receipt.remade.items():
        click.echo(f"  {bundle}: {failure or 'made again'}")
    for model in receipt.models:
        click.echo(f"  {model['bundle']} stays, and was made from it: by {model['made_from']}")
    click.echo(f"receipt {receipt.plan}; check it with: av receipts verify {receipt.plan}")


def _brief(receipt: Receipt) -> dict[str, Any]:
    return {"plan": receipt.plan, "at_ns": receipt.started_ns, "drives": list(receipt.drives),
            "by": receipt.request.by, "reason": receipt.request.reason}  # fmt: skip


def _scope_words(scope: dict[str, Any]) -> str:
    if scope["drives"]:
        return ", ".join(scope["drives"])
    ends = [_day(scope[end]) if scope[end] is not None else "..." for end in ("from_ns", "to_ns")]
    return f"{scope['vehicle']} {ends[0]} to {ends[1]}"


def _day(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M")
