"""How the commands of `av` print rows: nothing is cut.

Belongs here: layout. Does not belong here: what is in a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

_ANY_WIDTH = 1_000_000


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], fold: str = "") -> None:
    """A grid where it fits the terminal, if need be without lines, else a block of lines for each row.

    Args:
        fold: a column of long texts, which may go over several lines of the grid.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    any_width = console.options.update(max_width=_ANY_WIDTH)
    for plain in (False, True):
        shown = _grid(columns, rows, fold, plain)
        width = console.measure(shown, options=any_width)
        if (width.minimum if fold else width.maximum) <= console.width:
            console.print(shown)
            return
    longest = max(map(len, columns))
    for number, row in enumerate(rows):
        if number:
            click.echo()
        for name, cell in zip(columns, row, strict=True):
            click.echo(f"{name:<{longest}}  {cell}".rstrip())


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]], fold: str, plain: bool) -> Table:
    from rich.table import Table

    look: dict[str, Any] = {"box": None, "pad_edge": False, "collapse_padding": True} if plain else {}
    shown = Table(**look)
    for name in columns:
        shown.add_column(name, overflow="fold", no_wrap=name != fold)
    for row in rows:
        shown.add_row(*row)
    return shown
