"""How every asset makes its bundle: read by manifest, call one pure function, publish, report.

    make(work)           writes files into work.out and returns a note ("" when there is nothing to explain)
    gate                 judges the finished files; its record is part of the bundle, and the next asset asks for it
    describe(lake, made) turns a finished bundle into catalog metadata; it sees only what was published

A bundle whose `made_from` has not changed is not made again: that one rule is resume, cache and idempotence.
Belongs here: the loop over drives, reuse, quarantine, events. Does not belong here: anything about one single asset.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.data_version import CODE_VERSION_TAG, DATA_VERSION_TAG
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

from av_assets.domain.errors import EvidenceError, PoisonError, TransientError
from av_assets.domain.evidence.digests import canonical_json, sha256_bytes, sha256_file, sha256_json
from av_assets.domain.evidence.manifest import FileEntry, MadeFrom, Manifest, bundle_name
from av_assets.domain.evidence.signatures import sign
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.gates import Gate, record_of, refusal, require_passed
from av_assets.policies import Policy
from av_assets.policies.gates import GatePolicy
from av_assets.setting_aside import completeness, quarantine_drive
from resources import quarantine
from resources.environment import environment
from resources.lake import Lake
from resources.segments import LakeSegments, forget_segments
from resources.signing import signing_key

if TYPE_CHECKING:
    import pyarrow as pa

ALL = "all"  # the partition name of bundles that are not partitioned
ROUNDS = 5
_NO_INPUT = frozenset({"missing_bundle", "upstream_failed", "upstream_unchecked"})


@dataclass
class Work:
    """What `make` gets: where to write, and the bundles to read."""

    partition: str
    out: Path
    lake: Lake
    inputs: Mapping[str, Manifest]
    folder: Path
    segments: LakeSegments
    rows: Mapping[str, Rows] = field(default_factory=dict)
    run_id: str = ""
    policies: Mapping[str, Policy] = field(default_factory=dict)
    watch: Stopwatch = field(default_factory=Stopwatch)
    facts: dict[str, float | str] = field(
        default_factory=dict
    )  # figures that differ from run to run stay outside the bundle
    links: list[FileEntry] = field(default_factory=list)

    def checkout(self, asset: str, *patterns: str) -> Path:
        """The input bundle of `asset` as a local folder."""
        target = self.folder / "in" / asset
        if not target.exists():
            target.mkdir(parents=True)
        return self.lake.checkout(self.inputs[asset], target, *patterns)

    def link(self, source: Manifest, folder: str, *patterns: str) -> None:
        """Files of another bundle become files of this one, under `folder`, without a byte being read or copied."""
        for entry in source.matching(*patterns) if patterns else source.files:
            self.links.append(entry.model_copy(update={"path": f"{folder}/{entry.path}"}))

    def write_table(self, name: str, rows: pa.Table, key: str = "drive") -> None:
        """Give `rows` to the bundle as `<name>.parquet`, and make them the partition's rows of the lake's table.

        In the table every row also says what it was made from and by which run; the bundle does not, or the same
        content made twice would be two bundles.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.lake.refuse_erased(self.partition)
        pq.write_table(rows, self.out / f"{name}.parquet")
        made_from = canonical_json({m.asset: m.content for m in self.inputs.values()}).decode()
        for column, value in (("made_from", made_from), ("run_id", self.run_id)):
            rows = rows.append_column(column, pa.array([value] * rows.num_rows, pa.string()))
        self.lake.tables.replace(name, rows, key=key, value=self.partition)


@dataclass(frozen=True)
class Made:
    """A finished bundle and what the making took."""

    manifest: Manifest
    seconds: Mapping[str, float]
    reused: bool
    facts: Mapping[str, float | str] = field(default_factory=dict)


Make = Callable[[Work], str]
Rows = Sequence[Mapping[str, Any]]
PoliciesOf = Callable[[str], Sequence[Policy]]
ReadRows = Callable[[str, Mapping[str, Manifest]], Mapping[str, Rows]]
Describe = Callable[[Lake, Manifest], dict[str, Any]]


def environment_digest() -> str:
    """Digest of the locked environment: the same lock and interpreter give the same one."""
    lock = environment().lock
    locked = sha256_file(lock) if lock.is_file() else "unlocked"
    return sha256_bytes(f"{locked} python-{platform.python_version()}".encode())


def lineage(
    inputs: Sequence[Manifest],
    code_version: str,
    policies: Sequence[Policy],
    rows: Mapping[str, Rows] | None = None,
) -> MadeFrom:
    return MadeFrom(
        inputs={bundle_name(m.asset, m.partition): m.digest for m in inputs},
        rows={name: sha256_json(list(read)) for name, read in (rows or {}).items()},
        code_version=code_version,
        policies={p.name: p.digest for p in policies},
        environment=environment_digest(),
    )


def produce(
    lake: Lake,
    asset: str,
    partition: str,
    made_from: MadeFrom,
    inputs: Mapping[str, Manifest],
    make: Make,
    gate: Gate | None = None,
    rows: Mapping[str, Rows] | None = None,
    run_id: str = "",
    policies: Sequence[Policy] = (),
) -> Made:
    """Make and publish one bundle, or find that it is there already; segments of an attempt that died are taken up."""
    present = lake.manifest(asset, partition)
    if present is not None and present.made_from == made_from and _is_whole(lake, present):
        return Made(_signed(lake, present) if gate else present, {}, reused=True)
    with lake.workdir() as folder:
        segments = LakeSegments(lake, asset, partition, made_from, folder / "segments")
        work = Work(partition, folder / "out", lake, inputs, folder, segments, rows or {}, run_id)
        work.policies = {policy.name: policy for policy in policies}
        work.out.mkdir()
        note = make(work)
        if gate is not None:
            gate.write_record(work.out)
        with work.watch("publish"):
            manifest = lake.publish(
                asset, partition, work.out, links=work.links, note=note, made_from=made_from
            )
            forget_segments(lake, asset, partition)
        manifest = _signed(lake, manifest) if gate else manifest
        return Made(manifest, dict(work.watch.seconds), reused=False, facts=work.facts)


def _signed(lake: Lake, manifest: Manifest) -> Manifest:
    """The manifest, with a signature beside it: an attempt may have died just before it signed."""
    if lake.signature(manifest) is None:
        lake.keep_signature(manifest, sign(signing_key(), manifest))
    return manifest


def each_drive(
    context: dg.AssetExecutionContext,
    lake: Lake,
    reads: Sequence[str],
    policies: Sequence[Policy] | PoliciesOf,
    make: Make,
    describe: Describe,
    shared: Sequence[str] = (),
    gate: Gate | None = None,
    guarded: Sequence[str] = (),
    read_rows: ReadRows | None = None,
) -> Iterator[dg.MaterializeResult]:
    """Make the asset for each drive of the run; a bad drive goes to quarantine and the others go on.

    An input, a row or a policy that changes while the asset works is read again before the asset is reported: no report
    is older than what it was made from, and sensors/conditions.py and sensors/outdated.py rely on that.

    Args:
        reads: assets read at the same drive.
        policies: those that decide, or what gives them for a drive; `make` finds them in `work.policies`.
        shared: unpartitioned assets read.
        gate: judges the finished bundle; a drive that fails goes to quarantine with its report.
        guarded: those of `reads` that are refused without a record of passed checks.
        read_rows: gives the rows of tables that the drive depends on (JSON-able); another answer is another input.
    """
    gates = [GatePolicy.load()] if gate else []

    def read(drive: str) -> dict[str, Manifest]:
        above = {a: lake.require(a, drive) for a in reads}
        for asset in guarded:
            require_passed(lake, above[asset])
        return above | {a: lake.require(a, ALL) for a in shared}

    def basis(
        drive: str, inputs: Mapping[str, Manifest]
    ) -> tuple[Mapping[str, Rows], list[Policy], MadeFrom]:
        rows = read_rows(drive, inputs) if read_rows else {}
        held = [*(policies(drive) if callable(policies) else policies), *gates]
        return rows, held, lineage(list(inputs.values()), code_version(context), held, rows)

    def one(drive: str) -> Made:
        inputs = read(drive)
        rows, held, made_from = basis(drive, inputs)
        for _ in range(ROUNDS):
            made = produce(
                lake,
                asset_name(context),
                drive,
                made_from,
                inputs,
                make,
                gate,
                rows,
                context.run.run_id,
                held,
            )
            newest, was = read(drive), made_from
            same = all(newest[asset].content == inputs[asset].content for asset in inputs)
            rows, held, made_from = basis(drive, newest)
            if same and (made_from.rows, made_from.policies) == (was.rows, was.policies):
                return made
            context.log.info(f"{drive}: an input changed meanwhile, made again")
            inputs = newest
        raise TransientError("its inputs keep changing", code="inputs_keep_changing", drive=drive)

    yield from record_drives(context, lake, one, describe, gate)


def record_drives(
    context: dg.AssetExecutionContext,
    lake: Lake,
    one: Callable[[str], Made],
    describe: Describe,
    gate: Gate | None = None,
) -> Iterator[dg.MaterializeResult]:
    """Run `one` per drive and record each on its own; see docs/decisions/0004 for why a range is recorded by hand.

    Yields nothing where every drive went to quarantine: Dagster skips what follows in the run, and the run succeeds.
    """
    stage, keys, done, crashes = asset_name(context), list(context.partition_keys), [], []
    for number, drive in enumerate(keys, start=1):
        started = time.time_ns()
        try:
            made = one(drive)
        except TransientError:
            raise
        except PoisonError as error:
            quarantine_drive(context, lake, drive, stage, error)
            continue
        except Exception as error:
            if len(keys) == 1:
                raise
            if _waits_in_quarantine(lake, drive, error):
                context.log.warning(f"{drive}: {error}")
                continue
            context.log.exception(f"{drive} crashed in {stage}")
            crashes.append((drive, error))
            continue
        record = record_of(lake, made.manifest) if gate else None
        if gate and record and not record.passed:
            context.instance.report_runless_asset_event(gate.evaluation(stage, drive, record))
            shown = describe(lake, made.manifest)
            quarantine_drive(context, lake, drive, stage, refusal(drive, record), shown)
            continue
        if quarantine.release(lake, drive, stage):
            context.instance.report_runless_asset_event(completeness(lake))
        metadata = bundle_metadata(made, started) | describe(lake, made.manifest)
        context.log.info(f"{stage} {number}/{len(keys)} {drive}: {made.manifest.note or 'done'}")
        done.append((drive, made, metadata))
        if len(keys) > 1:
            context.log_event(_materialization(context, drive, made, metadata))
    if crashes:
        raise dg.Failure(
            f"{len(crashes)} of {len(keys)} drives crashed in {stage}: {', '.join(d for d, _ in crashes)}",
            metadata={d: repr(e) for d, e in crashes},
        ) from crashes[0][1]
    if len(keys) == 1 and done:
        _, made, metadata = done[0]
        yield dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(made.manifest.content))
    elif done:
        # The drives have their events already; this key keeps Dagster from writing one for every key of the range.
        yield dg.MaterializeResult(metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})


def _waits_in_quarantine(lake: Lake, drive: str, error: Exception) -> bool:
    """Whether the drive has no input because an earlier stage has put it aside; any other failure is one."""
    if not isinstance(error, EvidenceError) or error.code not in _NO_INPUT:
        return False
    return any(row["drive"] == drive for row in quarantine.listing(lake))


def bundle_metadata(made: Made, started_ns: int) -> dict[str, Any]:
    """What every bundle shows: size, digests, where the time went."""
    manifest = made.manifest
    seconds = {
        f"seconds/{part}": dg.MetadataValue.float(round(s, 3)) for part, s in sorted(made.seconds.items())
    }
    return {
        "files": len(manifest.files),
        "bytes": manifest.size_bytes,
        "content": manifest.content,
        "manifest": manifest.digest,
        "note": manifest.note or "complete",
        "reused": made.reused,
        "seconds/total": round((time.time_ns() - started_ns) / 1e9, 3),
        **seconds,
        **made.facts,
    }


def asset_name(context: dg.AssetExecutionContext) -> str:
    return context.asset_key.path[-1]


def code_version(context: dg.AssetExecutionContext) -> str:
    return context.assets_def.code_versions_by_key.get(context.asset_key) or ""


def _is_whole(lake: Lake, manifest: Manifest) -> bool:
    return all(lake.holds(f) for f in manifest.files)


def _materialization(
    context: dg.AssetExecutionContext, drive: str, made: Made, metadata: dict[str, Any]
) -> dg.AssetMaterialization:
    tags = {DATA_VERSION_TAG: made.manifest.content, CODE_VERSION_TAG: code_version(context)}
    return dg.AssetMaterialization(context.asset_key, partition=drive, metadata=metadata, tags=tags)
