"""Erasing drives: a plan that people look at, then its execution in steps that may be killed and done again, a receipt.

Layout under the lake's root:
    erasure/<plan>/plan.json            what would go; nothing has happened yet
    erasure/<plan>/deed-<n>.json        what goes in this round, found anew; written before anything of it goes
    erasure/<plan>/deed-<n>.done        this round is through
    erasure/<plan>/verified.json        nothing was left when it was looked for
    tombstones/<drive>.json             from now on nothing of the drive is published or taken in

Belongs here: the order of things. Does not belong here: what holds a drive and how it is removed (erasure_extent).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from av_assets.domain.erasure.records import Deed, Extent, Plan, Receipt, removed_of
from av_assets.domain.erasure.requests import Chosen, Request, choose, expired, holds_on
from av_assets.domain.errors import AvError, EvidenceError, TransientError
from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.evidence.manifest import Manifest
from av_assets.erasure import survey
from resources import legal_holds, receipts, tombstones
from resources.lake import object_key

if TYPE_CHECKING:
    from av_assets.erasure.extent import Installation

Remake = Callable[[str, str], str]
"""Makes the bundle of (asset, partition) again; gives "" or why it could not."""
ROOT = "erasure"


def make_plan(place: Installation, request: Request, now_ns: int, *, by_retention: bool = False) -> Plan:
    """What erasing would take away. Nothing is changed but that the plan is kept.

    Args:
        by_retention: choose the drives whose time is over instead of those that the request names.

    Raises:
        AvError: no_such_drive, nothing_to_erase.
    """
    landing, named = place.places.landing, request.scope.drives
    facts = survey.drive_facts(place.lake, landing, place.instance)
    holds = legal_holds.standing(place.lake)
    if by_retention:
        chosen = expired(facts, {str(k): v for k, v in place.policy.keep_days.items()}, now_ns, holds)
    else:
        erased = sorted(set(named) & tombstones.listing(place.lake))
        if erased:
            raise AvError(
                f"erased before: {', '.join(erased)}", code="nothing_to_erase", remedy="see av receipts list"
            )
        chosen = choose(request.scope, facts, holds)
    plan = _plan(place, request, chosen, now_ns)
    place.lake.store.put(f"{ROOT}/{plan.id}/plan.json", plan.to_json())
    return plan


def _plan(place: Installation, request: Request, chosen: Chosen, now_ns: int) -> Plan:
    return Plan(
        request=request,
        made_ns=now_ns,
        drives=chosen.drives,
        held=dict(chosen.held),
        undecided=chosen.undecided,
        policy=place.policy.digest,
        extent=place.extent(chosen.drives, tables_too=True) if chosen.drives else Extent(),
    )


def plan_of(place: Installation, plan: str) -> Plan:
    """The plan with this id.

    Raises:
        AvError: no_such_plan.
    """
    data = place.lake.store.get(f"{ROOT}/{plan}/plan.json") if plan.isalnum() else None
    if data is None:
        raise AvError(f"there is no plan {plan}", code="no_such_plan", remedy="av forget makes one")
    return Plan.model_validate_json(data)


def execute(
    place: Installation,
    plan: str,
    now_ns: int,
    remake: Remake | None = None,
    after: Callable[[str], None] = lambda step: None,
) -> Receipt:
    """Carry a plan out, or go on with one that was interrupted; one that is through gives its receipt again.

    Args:
        remake: makes datasets and indexes again without the drives; None: they are only named in the receipt.
        after: told each step once it is done.

    Raises:
        AvError: no_such_plan; on_hold, all its drives are held now; other_policy, retention has changed since.
        TransientError: drive_is_busy, a run has one of the drives; keeps_coming; event_log_busy, table_busy.
        EvidenceError: erasure_incomplete, something was left; nothing is signed then.
    """
    made = plan_of(place, plan)
    if plan in receipts.names(place.lake):
        receipts.publish(
            place.lake, done := receipts.read(place.lake, plan)
        )  # signs it, where it died before that
        return done
    if made.policy != place.policy.digest:
        raise AvError("the retention policy has changed", code="other_policy", remedy="make a new plan")
    deeds = _deeds(place, plan) or [_begin(place, made, plan, now_ns)]
    after("begun")
    drives = deeds[0].drives
    while True:
        _carry_out(place, deeds[-1], after)
        left = place.extent(drives, tables_too=False)
        if left.is_empty and not left.histories:
            break
        if len(deeds) >= place.policy.rounds:
            raise TransientError(
                f"after {len(deeds)} rounds something of the drives is there again",
                code="keeps_coming", file=f"{ROOT}/{plan}", remedy="see who writes it, then carry out the plan again",
            )  # fmt: skip
        deeds.append(
            _note(place, Deed(plan=plan, round=len(deeds), at_ns=now_ns, drives=drives, held={}, extent=left))
        )
    verification = _verified(place, plan, drives, deeds)
    after("verified")
    remade = _remake(deeds, remake)
    after("remade")
    receipt = _receipt(place, plan, made, deeds, verification, remade)
    receipts.publish(place.lake, receipt)
    return receipt


# -- rounds --------------------------------------------------------------------------------------------------------


def _begin(place: Installation, made: Plan, plan: str, now_ns: int) -> Deed:
    """Tombstones first, so that no run that starts now brings something back; then the last look at holds and runs."""
    held = _held_now(place, made)
    drives = [drive for drive in made.drives if drive not in held]
    for drive in drives:
        tombstones.put(place.lake, drive, plan, now_ns)
    held = _held_now(place, made)
    for drive in [drive for drive in made.drives if drive in held]:
        tombstones.take_back(place.lake, drive, plan)
    drives = [drive for drive in drives if drive not in held]
    if not drives:
        raise AvError(
            "every drive of this plan is held", code="on_hold", remedy="av hold list says by whom and why"
        )
    extent = place.extent(drives, tables_too=True)
    _refuse_busy(place, plan, drives, extent)
    deed = Deed(plan=plan, round=0, at_ns=now_ns, drives=tuple(drives), held=held, extent=extent)
    return _note(place, deed)


def _held_now(place: Installation, made: Plan) -> dict[str, tuple[str, ...]]:
    facts = survey.drive_facts(place.lake, place.places.landing, place.instance, made.drives)
    holds = legal_holds.standing(place.lake)
    return {f.drive: kept for f in facts if f.drive in made.drives and (kept := holds_on(f, holds))}


def _refuse_busy(place: Installation, plan: str, drives: Sequence[str], extent: Extent) -> None:
    if place.instance is None:
        return
    from av_assets.erasure import events

    runs = events.busy(place.instance, place.forgotten(drives, extent.versions))
    if runs:
        for drive in drives:
            tombstones.take_back(place.lake, drive, plan)
        raise TransientError(
            f"runs are going on that may have them: {', '.join(run[:8] for run in runs[:5])}",
            code="drive_is_busy",
            drive=drives[0],
            remedy="wait for those runs or cancel them, then carry out the plan again",
        )


def _note(place: Installation, deed: Deed) -> Deed:
    """Write the round down; where another process has, that one holds."""
    place.lake.store.put(f"{ROOT}/{deed.plan}/deed-{deed.round}.json", deed.to_json(), create=True)
    return _deeds(place, deed.plan)[deed.round]


def _deeds(place: Installation, plan: str) -> list[Deed]:
    found: list[Deed] = []
    while (data := place.lake.store.get(f"{ROOT}/{plan}/deed-{len(found)}.json")) is not None:
        found.append(Deed.model_validate_json(data))
    return found


def _carry_out(place: Installation, deed: Deed, after: Callable[[str], None]) -> None:
    done = f"{ROOT}/{deed.plan}/deed-{deed.round}.done"
    if place.lake.store.size(done) is not None:
        return
    for step in place.steps(deed.plan, deed.drives, deed.extent):
        after(step)
    place.lake.store.put(done, b"{}")


# -- afterwards ----------------------------------------------------------------------------------------------------


def _verified(place: Installation, plan: str, drives: Sequence[str], deeds: list[Deed]) -> dict[str, Any]:
    """Look for everything once more, before anything is made again; a later attempt finds what this one said."""
    import json

    key = f"{ROOT}/{plan}/verified.json"
    if (data := place.lake.store.get(key)) is not None:
        return dict(json.loads(data))
    left = place.extent(drives, tables_too=False)
    objects = {sha for deed in deeds for sha in deed.extent.objects}
    present = {sha for sha in objects if place.lake.store.size(object_key(sha)) is not None}
    referred = {e.sha256 for m in survey.manifests(place.lake) for e in m.files}
    found = {
        "bundles": len(left.leaving),
        "objects": len(present - referred),
        "rows": sum(left.rows.values()),
        "old_table_files": len(left.histories),
        "vectors": sum(left.vectors.values()),
        "files": sum(left.files.values()),
        "events": left.events,
    }
    if any(found.values()):
        said = ", ".join(f"{count} {what}" for what, count in found.items() if count)
        raise EvidenceError(
            f"left over: {said}", code="erasure_incomplete", file=key, remedy="carry out the plan again"
        )
    said_too = {"left": found, "objects_looked_for": len(objects), "objects_published_since": len(present)}
    place.lake.store.put(key, canonical_json(said_too))
    return said_too


def _remake(deeds: list[Deed], remake: Remake | None) -> dict[str, str]:
    """bundle -> "" where it was made again, else why not."""
    results: dict[str, str] = {}
    for bundle in sorted({name for deed in deeds for name in deed.extent.remake_now}):
        asset, _, partition = bundle.partition("/")
        results[bundle] = remake(asset, partition) if remake else "not asked for"
    return results


def _receipt(
    place: Installation,
    plan: str,
    made: Plan,
    deeds: list[Deed],
    verification: dict[str, Any],
    remade: dict[str, str],
) -> Receipt:
    first = deeds[0]
    models = {
        v.bundle + v.digest: v for deed in deeds for v in deed.extent.listed if v.asset != receipts.ASSET
    }
    return Receipt(
        plan=plan,
        request=made.request,
        policy=made.policy,
        started_ns=first.at_ns,
        drives=first.drives,
        removed=removed_of(deeds),
        kept={
            "held": {drive: list(holds) for drive, holds in {**made.held, **first.held}.items()},
            "undecided": list(made.undecided),
            "shared": {sha: list(by) for deed in deeds for sha, by in deed.extent.shared.items()},
        },
        datasets=tuple(_fates(place, deeds)),
        models=tuple(
            {"bundle": v.bundle, "manifest": v.digest, "made_from": v.why} for _, v in sorted(models.items())
        ),
        remade=remade,
        to_remake=tuple(sorted({b for deed in deeds for b in deed.extent.remake_listed})),
        verification=verification,
    )


def _fates(place: Installation, deeds: list[Deed]) -> list[dict[str, Any]]:
    """Each dataset version that is gone, and the version that stands in its place, if there is one."""
    found = []
    for one in (dataset for deed in deeds for dataset in deed.extent.datasets):
        now: Manifest | None = place.lake.manifest(*one.bundle.split("/", 1))
        found.append(
            {
                "name": one.name,
                "erased_version": one.version,
                "manifest": one.manifest,
                "bundle": one.bundle,
                "version_now": now.content if now else None,
            }
        )
    return found
