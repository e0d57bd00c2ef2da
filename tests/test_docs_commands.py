"""The guides for data people name commands, options, assets and columns that exist, and link to what is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from av_assets.cli.main import main

DOCS = Path(__file__).parent.parent / "docs"
NAMES = ("scenes", "labels", "datasets", "erasure", "loading", "cache", "training", "packaging", "evaluation",
         "hard-cases", "sweeps", "reproduce")  # fmt: skip
GUIDES = {name: (DOCS / f"{name}.md").read_text("utf-8") for name in NAMES}
WITH_A_LIST = {
    "scenes": 8,
    "labels": 7,
    "datasets": 9,
    "cache": 5,
    "hard-cases": 2,
    "sweeps": 4,
    "reproduce": 2,
}
"""Guides that end in a table of commands, and how many rows it has at least."""


def named_commands() -> list[tuple[str, str]]:
    """Every `av ...` of a code span, and every line of a block that was typed."""
    found = set()
    for name, guide in GUIDES.items():
        blocks = re.findall(r"^```\w*\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
        prose = re.sub(r"^```\w*\n.*?^```$", "", guide, flags=re.MULTILINE | re.DOTALL)
        typed = [line for block in blocks for line in re.findall(r"^\$ (av .+)$", block, re.MULTILINE)]
        found |= {(name, line) for line in [*re.findall(r"`(av [^`]+)`", prose.replace("\n", " ")), *typed]}
    return sorted(found)


def resolved(line: str) -> tuple[click.Command, list[str]]:
    """The command that a line calls, and the words that follow its name."""
    command: click.Command = main
    words = shlex.split(line, comments=True)[1:]
    while words and isinstance(command, click.Group) and words[0] != "...":
        assert words[0] in command.commands, f"{line}: no {words[0]}"
        command = command.commands[words.pop(0)]
    return command, words


def options_of(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def columns_of() -> dict[str, set[str]]:
    from av_assets.domain.catalog.schemas import CLIPS, DRIVES, STREAMS
    from av_assets.domain.context.rows import CLIP_CONTEXT
    from av_assets.domain.events.detectors import EVENT_SCHEMA
    from av_assets.domain.scenes.rows import SCENES

    schemas = {"drives": DRIVES, "streams": STREAMS, "clips": CLIPS, "clip_context": CLIP_CONTEXT,
               "events": EVENT_SCHEMA, "scenes": SCENES}  # fmt: skip
    return {name: set(schema.names) for name, schema in schemas.items()}


@pytest.mark.parametrize(("guide", "line"), named_commands())
def test_commands_and_their_options_exist(guide: str, line: str) -> None:
    command, words = resolved(line)
    assert {word for word in words if word.startswith("--")} <= options_of(command), guide


@pytest.mark.parametrize("guide", GUIDES)
def test_each_guide_names_commands(guide: str) -> None:
    if guide != "loading":  # a library of Python, without a command of its own
        assert sum(name == guide for name, _ in named_commands()) >= 4


def test_columns_of_the_tables_exist() -> None:
    rows = re.findall(r"^\| `(\w+)` \| an? [\w ]+ \| (`.+) \|$", GUIDES["scenes"], re.MULTILINE)
    held = columns_of()
    assert {table for table, _ in rows} == set(held)
    for table, cell in rows:
        assert set(re.findall(r"`(\w+)`", cell)) <= held[table], table


@pytest.mark.parametrize("guide", WITH_A_LIST)
def test_options_of_the_list_of_commands_exist(guide: str) -> None:
    rows = re.findall(r"^\| `(av [^`]+)`.* \| (.+) \|$", GUIDES[guide], re.MULTILINE)
    assert len(rows) >= WITH_A_LIST[guide]
    for line, use in rows:
        command, _ = resolved(line)
        assert set(re.findall(r"--[a-z-]+", use)) <= options_of(command), line


@pytest.mark.parametrize(
    ("group", "guide"),
    [("labels", "labels"), ("datasets", "datasets"), ("cache", "cache"), ("sweeps", "sweeps")],
)
def test_the_list_of_commands_is_complete(group: str, guide: str) -> None:
    of_group = main.commands[group]
    assert isinstance(of_group, click.Group)
    listed = re.findall(rf"`av {group} ([a-z]+)", GUIDES[guide].partition("\n## Commands")[2])
    assert set(listed) == set(of_group.commands)


@pytest.mark.parametrize("guide", GUIDES)
def test_assets_that_can_be_fetched_or_asked_for_exist(guide: str) -> None:
    from av_assets.definitions import defs

    known = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    named = [line.split()[2] for name, line in named_commands() if name == guide
             and line.split()[1] in ("fetch", "request") and len(line.split()) > 2]  # fmt: skip
    assert {asset for word in named for asset in word.split(",") if asset.islower()} <= known


@pytest.mark.parametrize("guide", GUIDES)
def test_pictures_and_links_exist(guide: str) -> None:
    targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", GUIDES[guide]) if "://" not in t]
    assert targets or guide == "erasure"
    assert [t for t in targets if t and not (DOCS / t).exists()] == []
