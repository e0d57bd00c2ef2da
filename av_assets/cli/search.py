"""The part of `av` that looks for clips: by another clip, by words, by facts, or by all of these.

Belongs here: arguments and printing. Does not belong here: the search (`av_assets.domain.search.hybrid`).
"""

from __future__ import annotations

import json
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from av_assets.cli.logs import json_option
from av_assets.domain.errors import AvError, ModelError

if TYPE_CHECKING:
    import numpy as np

    from av_assets.domain.search.filters import Filter
    from av_assets.domain.search.hybrid import Answer
    from resources.lake import Lake

TEXT_SHOWN = 160  # characters of a description; JSON has all
limit_option = click.option(
    "--limit", default=10, show_default=True, type=click.IntRange(1, 1000), help="Clips at most."
)
sql_option = click.option(
    "--sql",
    metavar="FILTER",
    help="Facts that every clip must have: \"speed > 20 AND light = 'night'\"; speed is in m/s.",
)


@click.command()
@click.argument("clip")
@limit_option
@sql_option
@json_option
def similar(clip: str, limit: int, sql: str | None, as_json: bool) -> None:
    """Clips that look like CLIP (<drive>/<number>), nearest first."""
    _print(*_asked("", clip, sql, limit), as_json)


@click.command()
@click.argument("words")
@click.option("--like", metavar="CLIP", help="Clips that look like this one count as well.")
@limit_option
@sql_option
@json_option
def search(words: str, like: str | None, limit: int, sql: str | None, as_json: bool) -> None:
    """Clips whose scenes are described by WORDS, and, with a CLIP-type model, whose pictures look like WORDS."""
    _print(*_asked(words, like, sql, limit), as_json)


COMMANDS = (similar, search)


def _asked(words: str, like: str | None, sql: str | None, limit: int) -> tuple[Answer, list[str]]:
    from av_assets.cli.lake import open_lake
    from av_assets.domain.search.filters import parse_filter

    where = parse_filter(sql) if sql else None
    return ask(open_lake(), words, like, where, limit)


def ask(
    lake: Lake, words: str, like: str | None, where: Filter | None, limit: int
) -> tuple[Answer, list[str]]:
    """The answer, and remarks on how it came about.

    Raises:
        AvError: `no_index`, `no_such_clip`, `nothing_asked`.
        EvidenceError: `index_lost`.
    """
    import numpy as np

    from av_assets.domain.search.hybrid import Question, answer
    from av_assets.policies.index import IndexPolicy
    from resources.vector_pointer import served

    if not words.strip() and like is None:
        raise AvError("nothing was asked for", code="nothing_asked", remedy="give words or a clip")
    index, policy = served(lake), IndexPolicy.load()
    vectors: dict[str, np.ndarray] = {}
    remarks = ["every clip was compared"] if index.exact and like else []
    if like is not None:
        vectors["like"] = np.asarray(index.vector_of(like)["vector"], np.float32)
    if words.strip():
        try:
            vectors["picture"] = _picture_of(lake, words, index.name)
        except ModelError as error:
            remarks.append(f"words are compared with descriptions only: {error.reason}")
    question = Question(words.strip(), vectors, where, without=like)
    return answer(index, question, limit, max(limit, policy.candidates), policy.rrf_k), remarks


def _picture_of(lake: Lake, words: str, table: str) -> np.ndarray:
    """The words as a vector among the pictures of this table.

    Raises:
        ModelError: `no_text_half`; `other_model`, the index was made by another model than the one at hand.
    """
    from av_assets.domain.search.text import TextEncoder
    from resources.vectors import maker_name

    with lake.workdir() as folder:
        encoder = TextEncoder(lake.checkout(lake.require("pretrained_models", "all"), folder, "embedding*"))
        if not table.startswith(maker_name(encoder.model_digest, "")):
            raise ModelError("the index was made by another model than the one at hand", code="other_model")
        return encoder.embed_text(words)


def _print(found: Answer, remarks: list[str], as_json: bool) -> None:
    if as_json:
        said = {
            "results": found.results,
            "counts": found.counts,
            "emptied_by": found.emptied_by,
            "remarks": remarks,
        }
        click.echo(json.dumps(said, default=str))
        return
    for remark in remarks:
        click.echo(remark, err=True)
    if found.emptied_by:
        click.echo(f"no clip: emptied by {found.emptied_by}")
        for step, left in found.counts.items():
            click.echo(f"  {left:>8}  rows (clip and camera) left after {step}")
            if step == found.emptied_by:
                break
        return
    told: set[str] = set()
    for row in found.results:
        click.echo(_line(row))
        text = row["text"] or "no description"
        if text not in told:
            click.echo(f"    {textwrap.shorten(text, TEXT_SHOWN, placeholder=' ...')}")
        told.add(text)


def _line(row: dict[str, Any]) -> str:
    at = (
        "-"
        if row["start_ns"] is None
        else datetime.fromtimestamp(row["start_ns"] / 1e9, UTC).isoformat("T", "seconds")
    )
    parts = "  ".join(
        f"{name} #{part['rank']}" + "".join(f" {k} {v:.3f}" for k, v in part.items() if k != "rank")
        for name, part in row["parts"].items()
    )
    return f"{row['clip_id']}  {at}  {row['score']:.4f}  [{parts}]"
