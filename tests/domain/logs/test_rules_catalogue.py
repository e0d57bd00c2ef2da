"""The catalogue names every rule that code can report, and every rule can fail."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import av_assets.domain.logs as package
from av_assets.domain.logs.clocks.rules import SEVERITIES
from av_assets.domain.logs.integrity.findings import Finding
from av_assets.domain.logs.integrity.rules import RULES, catalogue
from av_assets.domain.simulation.faults import FAULTS
from av_assets.policies.clocks import ClockPolicy
from av_assets.policies.integrity import IntegrityPolicy

SOURCES = sorted(Path(package.__file__).parent.rglob("*.py"))
# Rules that no fault of the kit breaks, and the tests that do.
BY_TEST = {
    "count_matches_index": "test_file_rules",
    "log_has_messages": "test_file_rules",
    "log_is_in_order": "test_file_rules",
    "topic_has_messages": "test_integrity",
    "rate_is_steady": "test_stream_rules",
    "size_is_usual": "test_content_rules",
    "pictures_decode": "test_integrity",
    "picture_size_is_constant": "test_integrity",
    "picture_fits_intrinsics": "test_content_rules",
    "turn_rate_is_possible": "test_content_rules",
    "signals_are_in_range": "test_can_rules",
    "dbc_is_readable": "test_can_rules",
}


def test_ids_are_claims_and_texts_are_sentences() -> None:
    for rule in RULES.values():
        assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", rule.id)
        assert rule.meaning.endswith(".")
        assert not rule.fix or rule.fix.endswith(".")
        assert rule.unit
        assert rule.threshold
    assert len({rule.meaning for rule in RULES.values()}) == len(RULES)


def test_the_catalogue_is_json() -> None:
    rows = json.loads(json.dumps(catalogue()))
    assert [row["id"] for row in rows] == list(RULES)
    assert set(rows[0]) == {"id", "severity", "meaning", "unit", "threshold", "fix"}


def test_thresholds_name_keys_that_exist() -> None:
    keys = {"integrity": IntegrityPolicy.model_fields, "clocks": ClockPolicy.model_fields}
    for rule in RULES.values():
        for policy, names in re.findall(r"(integrity|clocks)\.([a-z_0-9]+(?:, [a-z_0-9]+)*)", rule.threshold):
            for name in names.split(", "):
                assert name in keys[policy], rule.id


def test_every_rule_that_code_names_is_in_the_catalogue_and_the_other_way_round() -> None:
    catalogue_file = Path(package.__file__).parent / "integrity" / "rules.py"
    texts = {path: path.read_text("utf-8") for path in SOURCES if path != catalogue_file}
    named = {
        word
        for path, text in texts.items()
        if path.stem.endswith("rules") or path.name == "check.py"
        for word in re.findall(r'"([a-z]+(?:_[a-z0-9]+)+)"', text)
    }
    assert RULES.keys() <= named
    judged = {
        word
        for text in texts.values()
        for word in re.findall(r'(?:judge|skip|Finding)\(\s*"([a-z_0-9]+)"', text)
    }
    assert judged <= RULES.keys()
    assert SEVERITIES.keys() <= RULES.keys()


def test_a_finding_outside_of_the_catalogue_cannot_be_reported() -> None:
    with pytest.raises(KeyError):
        Finding.judge("all_is_well", "warn", True, 1, 1, "").to_dict()


def test_every_rule_can_fail() -> None:
    by_kit = {fault.expects for fault in FAULTS.values()}
    assert RULES.keys() <= by_kit | BY_TEST.keys()
    assert not by_kit & BY_TEST.keys()
    folder = Path(__file__).parent
    for rule, module in BY_TEST.items():
        assert rule in (folder / f"{module}.py").read_text("utf-8"), rule
