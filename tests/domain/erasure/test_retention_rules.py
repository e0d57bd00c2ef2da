"""No asset is forgotten by an erasure: each one that is not of a single drive has a rule, and the rule fits it."""

from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path

from av_assets.domain.erasure.reach import reach
from av_assets.domain.evidence.manifest import FileEntry, MadeFrom, Manifest
from av_assets.policies.retention import RetentionPolicy

ROOT = Path(__file__).parents[3]
GRAPH = json.loads((ROOT / "tests" / "graph.json").read_text("utf-8"))
POLICY = RetentionPolicy.load()
OF_A_DRIVE = {name for name, one in GRAPH.items() if one["partitions"] == "DynamicPartitionsDefinition:drive"}
NO_ASSETS = {"policy_proposals", "policy_activations", "erasure_receipts", "sweep_specs"}
"""Bundles that commands publish."""
DRIVE = "veh1-a"


@cache
def _without_lineage() -> frozenset[str]:
    """Assets whose body gives `lineage` no inputs: what they read is told by digests of rows alone."""
    bodies = [
        node
        for path in (ROOT / "av_assets").rglob("*.py")
        if "lineage([]" in (text := path.read_text("utf-8"))
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name in GRAPH
    ]
    return frozenset(body.name for body in bodies if any(map(_is_bare, ast.walk(body))))


def _is_bare(node: ast.AST) -> bool:
    """Whether it is `lineage([], ...)`."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "lineage"):
        return False
    return isinstance(node.args[0], ast.List) and not node.args[0].elts


def _bundle(asset: str, partition: str, *inputs: Manifest) -> Manifest:
    return Manifest(
        asset=asset,
        partition=partition,
        files=(FileEntry(path="a", bytes=1, sha256=asset[0].encode().hex() * 32),),
        made_from=MadeFrom(inputs={f"{m.asset}/{m.partition}": m.digest for m in inputs}),
    )


def test_every_asset_that_is_not_of_a_single_drive_has_a_rule_of_its_own() -> None:
    assert GRAPH.keys() - OF_A_DRIVE - POLICY.assets.keys() == set()
    assert POLICY.assets.keys() - GRAPH.keys() == NO_ASSETS
    assert POLICY.default.action == "remove"


def test_what_names_no_input_is_removed_with_every_drive_or_holds_none() -> None:
    bare = _without_lineage() - OF_A_DRIVE
    assert {"labeller_reports", "similarity_index"} <= bare
    for name in bare:
        rule = POLICY.rule(name)
        assert rule.every_drive or (rule.action == "list" and not rule.carries), name


def test_every_fleet_asset_over_a_drive_is_reached_by_it() -> None:
    """Made as the graph says, from one drive: whatever is below a drive's asset goes, or is listed."""
    drive = {name: _bundle(name, DRIVE) for name in OF_A_DRIVE}
    made, bare = dict(drive), _without_lineage()
    while waiting := [n for n in GRAPH if n not in made and all(d in made for d in GRAPH[n]["deps"])]:
        for name in waiting:
            inputs = [] if name in bare else [made[d] for d in GRAPH[name]["deps"]]
            made[name] = _bundle(name, "2025-06-02", *inputs)
    assert made.keys() == GRAPH.keys()
    below = _below(OF_A_DRIVE)
    found = {
        one.version.asset: one.action
        for one in reach(made.values(), frozenset({DRIVE}), POLICY, tables_too=True)
    }
    assert below - found.keys() == set()
    assert {n for n in below if found[n] == "list"} == {"checkpoints", "model_bundles"}


def test_a_policy_in_force_outlives_the_evidence_that_it_was_activated_by() -> None:
    shards = _bundle("synced_shards", DRIVE)
    proposal = _bundle("policy_proposals", "events-2")
    backtest = _bundle("policy_backtests", "events-2", shards, proposal)
    activation = _bundle("policy_activations", "events-0001", proposal, backtest)
    later = _bundle("policy_activations", "events-0002", proposal, activation)
    everything = [shards, proposal, backtest, activation, later]
    found = {
        one.version.bundle: one.action
        for one in reach(everything, frozenset({DRIVE}), POLICY, tables_too=True)
    }
    assert found["policy_backtests/events-2"] == "remove"
    assert {found.get(f"{m.asset}/{m.partition}", "list") for m in (proposal, activation, later)} == {"list"}


def _below(names: set[str]) -> set[str]:
    found: set[str] = set()
    while more := {n for n, one in GRAPH.items() if {*one["deps"]} & (names | found)} - found - names:
        found |= more
    return found
