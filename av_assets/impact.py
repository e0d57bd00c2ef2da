"""What a change would remake here, and how long it took before: the graph, the lake and the telemetry put together.

Belongs here: reading those three. Does not belong here: the walk and the arithmetic (`domain.operations`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from av_assets.domain.errors import AvError
from av_assets.domain.operations.durations import UNKNOWN, Estimate, Quantiles, Task, estimate
from av_assets.domain.operations.impact import FROZEN, Bundle, Held, Node, Remade, impact
from av_assets.domain.triggers.areas import Bbox
from av_assets.policies.label_fusion import LabelFusionPolicy
from av_assets.policies.training import TrainingPolicy
from resources.lake import Lake
from resources.policies import outdated_drives, rollout, where_of
from resources.policy_versions import proposal

RUNS_MEASURED = 500  # the newest materializations of an asset tell how long it takes
MAP = "map_tiles"
EVENTS, LABELS = "event_windows", "auto_labels"


@dataclass(frozen=True)
class Preview:
    """What would be remade, how long each took before, and all together."""

    change: str
    remade: tuple[Remade, ...]
    measured: dict[str, Quantiles]
    total: Estimate

    def rows(self) -> list[dict[str, Any]]:
        """One row per asset in the order of the graph."""
        found = []
        for asset in dict.fromkeys(r.asset for r in self.remade):
            how = Counter(r.how for r in self.remade if r.asset == asset)
            took = self.measured.get(asset, Quantiles.of([]))
            found.append(
                {
                    "asset": asset,
                    "partitions": how.total(),
                    **{k: how[k] for k in ("certain", "possible", FROZEN)},
                }
                | {"n": took.n, "p50_s": took.p50_s, "p90_s": took.p90_s}
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "change": self.change,
            "assets": self.rows(),
            "partitions": [asdict(r) for r in self.remade],
            "wall_p50_s": self.total.p50_s,
            "wall_p90_s": self.total.p90_s,
            "unknown": list(self.total.unknown),
        }


def preview(
    change: str, defs: dg.Definitions, lake: Lake, instance: dg.DagsterInstance, start: Iterable[Bundle]
) -> Preview:
    """Everything that follows from remaking `start`; nothing is launched."""
    nodes, begin = graph_of(defs), set(start)
    reached = _below(nodes, {asset for asset, _ in begin})
    remade = impact(nodes, held_by(lake, reached), begin)
    moving = [r for r in remade if r.how != FROZEN]
    measured = {name: durations(instance, name) for name in dict.fromkeys(r.asset for r in remade)}
    limits, runs = concurrency(instance)
    total = estimate(_tasks(nodes, moving), measured, limits, runs)
    return Preview(change, tuple(remade), measured, total)


def of_policy(lake: Lake, key: str) -> set[Bundle]:
    """What is made under other numbers once the version is active; numbers of training hold for what is taught next."""
    found = proposal(lake, key)
    if isinstance(found.policy, TrainingPolicy):
        return set()
    if isinstance(found.policy, LabelFusionPolicy):
        made = (lake.require(LABELS, drive) for drive in lake.partitions(LABELS))
        others = (m for m in made if m.made_from.policies.get(found.policy.name) != found.policy.digest)
        return {(LABELS, m.partition) for m in others}
    then = rollout(lake).with_version(found.policy)
    return {(EVENTS, drive) for drive in outdated_drives(lake, EVENTS, then)}


def of_map(defs: dg.Definitions, lake: Lake, bbox: Bbox | None) -> set[Bundle]:
    """Bundles of what reads the map, for drives whose bounding box meets `bbox`, or that have a position at all.

    Raises:
        AvError: no_such_asset, nothing in the graph reads the map.
    """
    readers = [node.name for node in graph_of(defs) if MAP in node.deps and node.partitions == "drive"]
    if not readers:
        raise AvError("nothing in the graph reads the map", code="no_such_asset", remedy="see av status")
    rows = lake.tables.read("drives")
    drives = [] if rows is None else [row["drive"] for row in rows.to_pylist() if _meets(row, bbox)]
    return {(asset, drive) for asset in readers for drive in drives}


def of_asset(defs: dg.Definitions, lake: Lake, asset: str, partitions: Sequence[str] = ()) -> set[Bundle]:
    """The bundles of `asset`, or those of the named partitions.

    Raises:
        AvError: no_such_asset, no_such_partition.
    """
    if asset not in {node.name for node in graph_of(defs)}:
        raise AvError(
            f"{asset!r} is no asset", code="no_such_asset", remedy="see the catalog for their names"
        )
    made = set(lake.partitions(asset))
    if missing := sorted(set(partitions) - made):
        raise AvError(
            f"{asset} was never made for {', '.join(missing[:5])}",
            code="no_such_partition",
            remedy="what was never made is not remade",
        )
    return {(asset, name) for name in partitions or made}


def graph_of(defs: dg.Definitions) -> list[Node]:
    """The asset graph as plain nodes."""
    graph = defs.resolve_asset_graph()
    found = []
    for key in sorted(graph.get_all_asset_keys(), key=lambda k: k.to_user_string()):
        node = graph.get(key)
        over, condition = node.partitions_def, node.automation_condition
        name = over.name if isinstance(over, dg.DynamicPartitionsDefinition) else type(over).__name__
        label = condition.get_label() if condition else None
        deps = tuple(sorted(parent.to_user_string() for parent in node.parent_keys))
        pool = min(node.pools) if node.is_materializable and node.pools else ""
        found.append(Node(key.to_user_string(), deps, (name or "") if over else "", label or "", pool))
    return found


def held_by(lake: Lake, assets: Collection[str]) -> Held:
    """What the bundles of `assets` were made from. Reads one manifest per bundle."""
    inputs: dict[Bundle, set[Bundle]] = {}
    for asset in sorted(assets):
        for partition in lake.partitions(asset):
            names = lake.require(asset, partition).made_from.inputs
            inputs[asset, partition] = {(a, p) for a, _, p in (name.partition("/") for name in names)}
    return Held(inputs)


def durations(instance: dg.DagsterInstance, asset: str) -> Quantiles:
    """Seconds that the newest materializations took; those that found their bundle there already are no measure."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=RUNS_MEASURED).records
    seconds = []
    for record in records:
        event = record.asset_materialization
        told = {} if event is None else {name: value.value for name, value in event.metadata.items()}
        took = told.get("seconds/total")
        if told.get("reused") is not True and isinstance(took, (int, float)):
            seconds.append(float(took))
    return Quantiles.of(seconds)


def concurrency(instance: dg.DagsterInstance) -> tuple[dict[str, int], int]:
    """Slots of the pools that have a limit, and how many runs may go on at once."""
    pools = {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()}
    queue = instance.get_concurrency_config().run_queue_config
    runs = queue.max_concurrent_runs if queue else None
    # Without a queue runs start one after another in the process that asks for them.
    return {name: n for name, n in pools.items() if n > 0}, runs if runs and runs > 0 else 1


def shown_seconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f} s"


def _below(nodes: Sequence[Node], names: set[str]) -> set[str]:
    """`names` and every asset that reads one of them, directly or not."""
    found = set(names)
    while True:
        more = {node.name for node in nodes if found & set(node.deps)} - found
        if not more:
            return found
        found |= more


def _tasks(nodes: Sequence[Node], remade: Sequence[Remade]) -> list[Task]:
    pools = {node.name: node.pool for node in nodes}
    tasks = []
    for one in remade:
        name = (one.asset, one.partition)
        tasks.append(Task(name, pools.get(one.asset, ""), () if one.through == name else (one.through,)))
    return tasks


def _meets(row: dict[str, Any], bbox: Bbox | None) -> bool:
    _, own = where_of(row)
    if own is None or bbox is None:
        return own is not None
    return own[0] <= bbox[2] and bbox[0] <= own[2] and own[1] <= bbox[3] and bbox[1] <= own[3]
