"""The part of `av` that looks for sequences of events in the lake's tables.

Belongs here: arguments and printing. Does not belong here: what a sentence means (`domain/sequences`).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from av_assets.cli.lake import open_lake
from av_assets.cli.logs import json_option

if TYPE_CHECKING:
    import pyarrow as pa

    from av_assets.domain.sequences.search import Found, Match


@click.command()
@click.argument("sentence")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 100_000), help="Matches to show."
)
@json_option
def find(sentence: str, limit: int, as_json: bool) -> None:
    """Find sequences of events by a SENTENCE.

    An example: "cut_in then harsh_brake within 5 s during rain". All words are in docs/sequences.md.
    """
    from av_assets.domain.sequences.search import TABLES, named_clips
    from av_assets.domain.sequences.search import find as search
    from av_assets.policies.scenes import ScenesPolicy

    policy = ScenesPolicy.load()
    clips = named_clips(sentence, policy)  # reads the sentence before it opens anything
    lake = open_lake()
    similarities = _similarities(lake, clips) if clips else None
    found = search(lake.tables.connect(*TABLES), sentence, policy, limit, similarities)
    if as_json:
        click.echo(json.dumps(found.to_dict()))
    else:
        _print(found)


COMMANDS = (find,)


def _print(found: Found) -> None:
    for match in found.matches:
        click.echo(_line(match))
        for proof in match.proof:
            span = f"{_clock(proof.start_ns)} - {_clock(proof.end_ns)}"
            click.echo(f"    {proof.kind:<28} {span}  {proof.clip_id or '-'}")
    if found.limited:
        click.echo(f"showing {len(found.matches)} of {found.total}: raise --limit for more")
    elif found.total:
        click.echo(f"{found.total} match{'es' if found.total > 1 else ''}")
    else:
        click.echo(f"no match: {found.emptied_by}")
        for count in found.counts:
            click.echo(f"  {count.matches:>8}  {count.part}  (line {count.line}, column {count.column})")
    for note in found.notes:
        click.echo(f"note: {note}")


def _line(match: Match) -> str:
    seconds = (match.end_ns - match.start_ns) / 1e9
    return f"{match.drive}  {_day(match.start_ns)} {_clock(match.start_ns)}  {seconds:.1f} s"


def _day(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d")


def _clock(at_ns: int) -> str:
    """UTC with all digits: a proof can be looked up again."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}.{rest:09d}"


def _similarities(lake: Any, clips: list[str]) -> pa.Table:
    """How similar every embedded clip is to the named ones, exactly, over all bundles of clip_embeddings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from av_assets.domain.sequences.likeness import likeness

    read = (
        pq.read_table(
            pa.BufferReader(lake.read_bytes(lake.require("clip_embeddings", drive), "embeddings.parquet"))
        )
        for drive in lake.partitions("clip_embeddings")
    )
    return likeness([table for table in read if table.num_rows], clips)
