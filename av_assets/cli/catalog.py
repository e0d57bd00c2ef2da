"""The part of `av` that looks into the lake's tables.

Belongs here: arguments and printing. Does not belong here: running SQL (resources.sql).
"""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any

import click

from av_assets.cli.logs import json_option
from av_assets.cli.tables import print_table
from av_assets.domain.errors import AvError

if TYPE_CHECKING:
    from resources.sql import Answer
    from resources.tables import TableFacts, Tables


@click.command()
@click.argument("statement")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(0, 1_000_000), help="Rows at most."
)
@click.option("--timeout", default=30.0, show_default=True, type=click.FloatRange(0.1, 3600), help="Seconds.")
@json_option
def sql(statement: str, limit: int, timeout: float, as_json: bool) -> None:
    """Ask the lake's tables with one SELECT; they cannot be changed this way. See av tables for what there is."""
    from av_assets.domain.catalog.emptiness import sentence
    from resources.sql import query

    answer = query(_tables(), statement, limit=limit, timeout_s=timeout)
    if as_json:
        click.echo(json.dumps(_as_json(answer)))
        return
    _print(answer)
    if answer.emptied:
        click.echo(sentence(answer.emptied))
        for kept in answer.emptied:
            click.echo(f"  {kept.kept:>12,} rows left by {kept.predicate}; {kept.without:,} without it")
    elif not answer.rows.num_rows:
        click.echo("no rows")
    if answer.cut:
        click.echo(f"there are more rows: the first {limit} are shown (--limit)")


@click.command()
@click.argument("name", required=False)
@json_option
def tables(name: str | None, as_json: bool) -> None:
    """The lake's tables, and the columns of one or all of them with types and meaning."""
    lake = _tables()
    names = lake.names()
    if name is not None and name not in names:
        raise AvError(
            f"there is no table {name}",
            code="no_such_table",
            remedy=f"there are {', '.join(names) or 'none'}",
        )
    found = [facts for chosen in ([name] if name else names) if (facts := lake.facts(chosen))]
    if as_json:
        click.echo(json.dumps({"tables": [_facts_json(facts) for facts in found]}))
        return
    if not found:
        click.echo("there are no tables yet")
    for facts in found:
        _print_facts(facts)


COMMANDS = (sql, tables)


def _tables() -> Tables:
    from av_assets.cli.lake import open_lake

    return open_lake().tables


def _print(answer: Answer) -> None:
    if not answer.rows.num_rows:
        return
    if answer.rows.column_names == ["explain_key", "explain_value"]:
        for text in answer.rows["explain_value"].to_pylist():
            click.echo(text)
        return
    cells = [[_cell(value) for value in column.to_pylist()] for column in answer.rows.columns]
    print_table(answer.rows.column_names, list(zip(*cells, strict=True)))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def _as_json(answer: Answer) -> dict[str, Any]:
    rows = [{name: _plain(value) for name, value in row.items()} for row in answer.rows.to_pylist()]
    emptied = [kept._asdict() for kept in answer.emptied]
    return {"columns": answer.rows.column_names, "rows": rows, "cut": answer.cut, "emptied": emptied}


def _plain(value: Any) -> Any:
    """JSON has no bytes and no NaN."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def _facts_json(facts: TableFacts) -> dict[str, Any]:
    from av_assets.domain.catalog.schemas import meanings

    said = meanings(facts.schema)
    columns = [
        {"name": field.name, "type": str(field.type), "meaning": said.get(field.name, "")}
        for field in facts.schema
    ]
    return {"name": facts.name, "rows": facts.rows, "version": facts.version, "columns": columns}


def _print_facts(facts: TableFacts) -> None:
    from rich.console import Console
    from rich.table import Table

    found = _facts_json(facts)
    shown = Table(
        "column", "type", "meaning", title=f"{facts.name}: {facts.rows:,} rows", title_justify="left"
    )
    for column in found["columns"]:
        shown.add_row(column["name"], column["type"], column["meaning"])
    Console().print(shown)
