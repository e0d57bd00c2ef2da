"""The guide to scenes names commands, options and columns that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from av_assets.cli import main

DOCS = Path(__file__).parent.parent / "docs"
GUIDE = (DOCS / "scenes.md").read_text("utf-8")


def named_commands() -> list[str]:
    """Every `av ...` of a code span, and every line of a block that was typed."""
    spans = re.findall(r"`(av [^`]+)`", GUIDE.replace("\n", " "))
    typed = re.findall(r"^\$ (av .+)$", GUIDE, re.MULTILINE)
    return sorted({*spans, *typed})


def columns_of() -> dict[str, set[str]]:
    from av_assets.domain.catalog.schemas import CLIPS, DRIVES, STREAMS
    from av_assets.domain.context.rows import CLIP_CONTEXT
    from av_assets.domain.events.detectors import EVENT_SCHEMA
    from av_assets.domain.scenes.rows import SCENES

    schemas = {"drives": DRIVES, "streams": STREAMS, "clips": CLIPS, "clip_context": CLIP_CONTEXT,
               "events": EVENT_SCHEMA, "scenes": SCENES}  # fmt: skip
    return {name: set(schema.names) for name, schema in schemas.items()}


@pytest.mark.parametrize("line", named_commands())
def test_commands_and_their_options_exist(line: str) -> None:
    command: click.Command = main
    words = shlex.split(line)[1:]
    while words and isinstance(command, click.Group) and words[0] != "...":
        assert words[0] in command.commands, f"{line}: no {words[0]}"
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    named = [word for word in words if word.startswith("--")]
    assert set(named) <= known


def test_columns_of_the_tables_exist() -> None:
    rows = re.findall(r"^\| `(\w+)` \| an? [\w ]+ \| (`.+) \|$", GUIDE, re.MULTILINE)
    held = columns_of()
    assert {table for table, _ in rows} == set(held)
    for table, cell in rows:
        assert set(re.findall(r"`(\w+)`", cell)) <= held[table], table


def test_options_of_the_list_of_commands_exist() -> None:
    rows = re.findall(r"^\| `av ([\w-]+)[^`]*` \| (.+) \|$", GUIDE, re.MULTILINE)
    assert len(rows) > 8
    for name, use in rows:
        command = main.commands[name]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z]+", use)) <= known, name


def test_pictures_and_links_exist() -> None:
    targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", GUIDE) if "://" not in t]
    assert len(targets) > 8
    assert [t for t in targets if t and not (DOCS / t).exists()] == []
