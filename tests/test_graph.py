"""The graph as reviewers see it: any change of keys, deps, groups, partitions or conditions shows in the snapshot.

To accept a change: delete tests/graph.json, run this test twice, and read the diff.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from resources.compute import WORDS

SNAPSHOT = Path(__file__).parent / "graph.json"
HEAVY = (
    "torch",
    "cv2",
    "onnxruntime",
    "evidently",
    "wandb",
    "deltalake",
    "lancedb",
    "skimage",
    "sklearn",
    "matplotlib",
)


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    from av_assets.definitions import defs

    return defs


def _spec(graph: dg.AssetGraph, key: dg.AssetKey) -> dict[str, object]:
    node = graph.get(key)
    return {
        "deps": sorted(k.to_user_string() for k in node.parent_keys),
        "group": node.group_name,
        "owners": sorted(node.owners),
        "kinds": sorted(node.kinds),
        "partitions": type(node.partitions_def).__name__
        + ":"
        + str(getattr(node.partitions_def, "name", "")),
        "condition": node.automation_condition.get_label() if node.automation_condition else None,
        "checks": sorted(c.name for c in node.check_keys),
        "code_version": node.code_version,
    }


def test_graph_is_as_reviewed(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    found = {k.to_user_string(): _spec(graph, k) for k in sorted(graph.get_all_asset_keys())}
    if not SNAPSHOT.exists():
        SNAPSHOT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        pytest.fail("wrote a new snapshot: read it, commit it")
    assert found == json.loads(SNAPSHOT.read_text())


def test_every_dependency_is_somebodys_asset(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    assert not [k for k in graph.get_all_asset_keys() if not graph.get(k).is_materializable]


def test_every_asset_says_what_it_is(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert node.owners, key
        assert node.kinds, key
        assert node.code_version, key


def test_every_asset_names_one_hardware_word_and_its_pool(defs: dg.Definitions) -> None:
    for assets_def in (a for a in defs.resolve_asset_graph().assets_defs if a.keys):
        word = WORDS[assets_def.op.tags["hardware"]]
        assert {word.pool} == assets_def.op.pools, assets_def.keys
        assert json.loads(assets_def.op.tags["dagster-k8s/config"]) == word.pod()


def test_every_pod_is_well_formed(defs: dg.Definitions) -> None:
    from dagster_k8s.job import get_user_defined_k8s_config

    for assets_def in (a for a in defs.resolve_asset_graph().assets_defs if a.keys):
        assert get_user_defined_k8s_config(assets_def.op.tags).container_config["resources"]["requests"]


def test_condition_sensors_cover_every_condition_once(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    covered: list[dg.AssetKey] = []
    for sensor in defs.sensors or ():
        if isinstance(sensor, dg.AutomationConditionSensorDefinition):
            covered += list(sensor.asset_selection.resolve(graph))
    with_condition = {k for k in graph.get_all_asset_keys() if graph.get(k).automation_condition}
    assert sorted(covered) == sorted(with_condition)


def test_loading_the_location_imports_nothing_heavy() -> None:
    code = "import sys, json, av_assets.definitions; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )
    assert not set(HEAVY) & set(loaded)
