"""What contains a drive, against networkx; and that no object goes that somebody needs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.erasure.reach import objects_of, reach, remakes, version_of
from av_assets.domain.evidence.manifest import FileEntry, MadeFrom, Manifest
from av_assets.policies.retention import AssetRule, RetentionPolicy

POLICY = RetentionPolicy.load()
REMOVE_ALL = POLICY.model_copy(update={"assets": {}})
ERASED = frozenset({"d0", "d1"})


def _manifest(asset: str, partition: str, inputs: Sequence[Manifest] = (), *files: str) -> Manifest:
    entries = [
        FileEntry(path=f"{n}", bytes=1, sha256=hashlib.sha256(text.encode()).hexdigest())
        for n, text in enumerate(files)
    ]
    made_from = MadeFrom(inputs={f"{m.asset}/{m.partition}": m.digest for m in inputs})
    return Manifest(asset=asset, partition=partition, files=tuple(entries), made_from=made_from)


@st.composite
def lakes(draw: st.DrawFn) -> list[Manifest]:
    """Bundles of five drives, and bundles over any of the earlier ones, with files from a pool of six."""
    made: list[Manifest] = []
    for number in range(draw(st.integers(1, 14))):
        above = (
            draw(st.lists(st.sampled_from(made), max_size=3, unique_by=lambda m: m.digest)) if made else []
        )
        partition = draw(st.sampled_from(["d0", "d1", "d2", "d3", "w1", "w2"]))
        files = draw(st.lists(st.sampled_from("abcdef"), max_size=3))
        made.append(_manifest(f"a{number}", partition, above, *files))
    return made


@given(lakes(), st.randoms())
def test_reach_is_what_a_graph_library_finds(made: list[Manifest], shuffled: object) -> None:
    graph = nx.DiGraph()
    for one in made:
        graph.add_node(version_of(one))
        for above in made:
            if one.made_from.inputs.get(f"{above.asset}/{above.partition}") == above.digest:
                graph.add_edge(version_of(above), version_of(one))
    roots = [version_of(one) for one in made if one.partition in ERASED]
    expected = set(roots).union(*(nx.descendants(graph, root) for root in roots))
    order = list(made)
    shuffled.shuffle(order)  # type: ignore[attr-defined]
    found = reach(order, ERASED, REMOVE_ALL, tables_too=True)
    assert {one.version for one in found} == expected


@given(lakes())
def test_every_object_goes_or_has_an_owner_that_stays(made: list[Manifest]) -> None:
    found = reach(made, ERASED, REMOVE_ALL, tables_too=True)
    gone = {one.version for one in found}
    objects = objects_of(made, found, ERASED)
    staying = {e.sha256 for m in made if version_of(m) not in gone for e in m.files}
    leaving = {e.sha256 for m in made if version_of(m) in gone for e in m.files}
    own = {e.sha256 for m in made if m.partition in ERASED for e in m.files}
    assert objects.gone.keys() == leaving - staying
    assert objects.shared.keys() == own & staying


def test_models_are_listed_through_models_and_nothing_else() -> None:
    labels = _manifest("verified_labels", "d0")
    golden = _manifest("golden_slices", "2025-06-02", [labels])
    checkpoint = _manifest("checkpoints", "r1", [golden])
    bundle = _manifest("model_bundles", "r1", [checkpoint])
    elsewhere = _manifest("auto_labels", "d9", [bundle])
    report = _manifest("eval_reports", "r1", [golden, bundle])
    found = reach([labels, golden, checkpoint, bundle, elsewhere, report], ERASED, POLICY, tables_too=True)
    assert {one.version.asset: one.action for one in found} == {
        "verified_labels": "remove",
        "golden_slices": "reversion",
        "checkpoints": "list",
        "model_bundles": "list",
        "eval_reports": "remove",
    }
    current = {"golden_slices/2025-06-02": golden.digest, "eval_reports/r1": "another"}
    assert remakes(found, current, POLICY, "now") == ["golden_slices/2025-06-02"]
    assert remakes(found, current, POLICY, "listed") == []


def test_what_carries_nothing_on_ends_the_walk() -> None:
    ledger = POLICY.model_copy(update={"assets": {"rules": AssetRule(action="list", carries=False)}})
    shards = _manifest("synced_shards", "d0")
    rules = _manifest("rules", "all", [shards])
    other = _manifest("event_windows", "d5", [rules])
    assert [one.version.asset for one in reach([shards, rules, other], ERASED, ledger, tables_too=True)] == [
        "rules",
        "synced_shards",
    ]


def test_a_bundle_made_from_a_version_that_is_gone_is_found_by_name() -> None:
    lost = _manifest("scenes", "d0")
    week = _manifest("drift_reports", "2025-06-02", [lost])
    assert [one.why for one in reach([week], ERASED, POLICY, tables_too=False)] == ["scenes/d0"]


def test_bundles_over_tables_count_once() -> None:
    index = _manifest("similarity_index", "all")
    assert [one.why for one in reach([index], ERASED, POLICY, tables_too=True)] == ["every_drive"]
    assert reach([index], ERASED, POLICY, tables_too=False) == []
