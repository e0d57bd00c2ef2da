"""The files of failure buckets: what the search found, as tables, plain reports and specs to mine with.

Belongs here: writing and reading them. Does not belong here: finding anything, the shape of rows.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.evidence.manifest import Manifest
from av_assets.mining.failing import Pool
from av_assets.production import Work
from resources.lake import Lake

if TYPE_CHECKING:
    from av_assets.domain.failures.buckets import Bucket
    from av_assets.domain.failures.cases import Case
    from av_assets.domain.failures.finding import Findings
    from av_assets.domain.failures.slices import SliceShare
    from av_assets.policies.mining import MiningSpec

TABLE, SPECS = "failure_cases", "next_specs"


def write(
    work: Work,
    pool: Pool,
    found: "Findings",
    cases: "Mapping[str, Case]",
    buckets: "Sequence[Bucket]",
    slices: "Sequence[SliceShare]",
    tags: Mapping[str, Collection[str]],
) -> None:
    """The files of the bundle but its specs and pictures of the road, and the day's rows of the table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from av_assets.domain.failures.reports import CASES, ERRORS, case_rows, failure_report, kinds_png

    release = pool.model.partition
    report = failure_report(found, cases, buckets, slices) | {
        "release": release,
        "drives": len(pool.predictions),
        "left_out": len(pool.left_out),
        "left_out_why": dict(sorted(pool.left_out.items())),
    }
    (work.out / "report.json").write_bytes(canonical_json(report))
    (work.out / "buckets.json").write_bytes(canonical_json([one.to_json() for one in buckets]))
    (work.out / "kinds.png").write_bytes(kinds_png(report, release))
    pq.write_table(pa.Table.from_pylist(found.rows, schema=ERRORS), work.out / "errors.parquet")
    rows = case_rows(cases, buckets, tags, work.partition, release)
    work.write_table(TABLE, pa.Table.from_pylist(rows, schema=CASES), key="day")


def write_specs(out: Path, specs: "Sequence[MiningSpec]") -> None:
    """One file per spec, so that each can be looked at, changed and accepted by itself."""
    from av_assets.policies.mining import dump_specs

    for spec in specs:
        path = out / SPECS / f"{spec.name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(dump_specs([spec]), "utf-8")


def specs_of(lake: Lake, made: Manifest) -> "list[MiningSpec]":
    """The specs that a bundle of failure buckets proposes, by file name.

    Raises:
        PolicyError: a file that is none.
    """
    from av_assets.policies.mining import load_specs

    if not made.matching(f"{SPECS}/*"):
        return []
    with lake.workdir() as folder:
        paths = sorted((lake.checkout(made, folder, f"{SPECS}/*") / SPECS).glob("*.yaml"))
        return [spec for path in paths for spec in load_specs(path)]
