"""The guide says what is: docs/rules.md is the catalogue, and docs/logs.md names only what exists."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

import av_assets.policies as policies
from av_assets.cli.main import main
from av_assets.domain.logs.integrity.rules import RULES, catalogue
from av_assets.domain.simulation.faults import FAULTS

DOCS = Path(__file__).parents[3] / "docs"
GUIDE = DOCS / "logs.md"
COLUMNS = ("id", "severity", "meaning", "unit", "threshold", "fix")
MAX_PICTURE_BYTES = 200_000


def table_of_rules() -> list[dict[str, str]]:
    """Rows of the table in docs/rules.md, without the marks of Markdown."""
    lines = [line for line in (DOCS / "rules.md").read_text("utf-8").splitlines() if line.startswith("|")]
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows[2:]]


def test_the_document_is_the_catalogue() -> None:
    assert table_of_rules() == catalogue()
    errors = sum(rule.severity == "error" for rule in RULES.values())
    counted = f"{len(RULES)} rules, {errors} of severity error and {len(RULES) - errors} of severity warn"
    assert counted in (DOCS / "rules.md").read_text("utf-8")


def test_the_guide_counts_rules_and_faults() -> None:
    text = " ".join(GUIDE.read_text("utf-8").split())
    of = Counter(fault.severity for fault in FAULTS.values())
    assert f"[{len(RULES)} rules](rules.md)" in text
    assert f"{len(FAULTS)} ways in which a drive can be wrong" in text
    counted = (
        f"{of['error']} must fail a rule of severity error, {of['warn']} a warning, {of['refused']} must be"
    )
    assert counted in text


def test_the_guide_names_commands_that_exist() -> None:
    named = set(re.findall(r"\bav ([a-z]+)\b", GUIDE.read_text("utf-8")))
    assert named
    assert named <= set(main.commands)


def test_the_guide_names_policy_keys_that_exist() -> None:
    folder = Path(policies.__file__).parent
    named = re.findall(r"`(\w+)\.yaml`:\s((?:`[\w.]+`(?:,\s)?)+)", GUIDE.read_text("utf-8"))
    assert len(named) >= 7
    for policy, listed in named:
        for key in re.findall(r"`([\w.]+)`", listed):
            value = yaml.safe_load((folder / f"{policy}.yaml").read_text("utf-8"))
            for part in key.split("."):
                assert part in value, f"{policy}.{key}"
                value = value[part]


@pytest.mark.parametrize("name", ["logs.md", "rules.md"])
def test_links_and_pictures_are_there(name: str) -> None:
    found = re.findall(r"\]\(([^)#]+?)(?:#[\w-]+)?\)", (DOCS / name).read_text("utf-8"))
    for target in found:
        assert target.startswith("https://") or (DOCS / target).exists(), target
    pictures = [DOCS / target for target in found if target.endswith(".png")]
    assert all(0 < picture.stat().st_size < MAX_PICTURE_BYTES for picture in pictures)


def test_the_guide_names_rules_that_exist() -> None:
    named = re.findall(r"rule `([a-z_]+)`", GUIDE.read_text("utf-8"))
    assert named
    assert set(named) <= RULES.keys()
