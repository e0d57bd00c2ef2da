"""A release is taught, packed and judged with the dataset in its name, whatever its week holds by then."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from av_assets.domain.errors import AvError, DatasetError, EvidenceError
from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.evidence.manifest import MadeFrom, Manifest
from av_assets.erasure.execution import execute, make_plan
from av_assets.production import Work
from av_assets.promotion import bundles, evaluation
from av_assets.promotion.bundles import model_bundles
from av_assets.promotion.evaluation import eval_reports
from av_assets.releases import dataset_of
from av_assets.reproduction import inputs_of
from av_assets.training import checkpoints as teaching
from av_assets.training.checkpoints import checkpoints
from partitions.calendar import weeks
from partitions.releases import release_dataset, release_id
from resources.datasets import GOLDEN, record, tag
from resources.lake import Lake
from resources.object_keys import object_key
from sensors.releases import frozen_datasets
from tests.automation.story import Story
from tests.resources.erasure_lakes import add_drive, asking, installation

WEEK, NEXT = "2025-06-02", "2025-06-09"
DRIVE = "veh1-a"
FROZEN = "dataset.json"


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("AV_HOME", str(tmp_path / "home"))
    return Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))


def freeze(lake: Lake, said: str, *drives: str, week: str = WEEK, code: str = "1") -> Manifest:
    """A dataset that holds the drives, as the asset freezes it."""
    made_from = MadeFrom(inputs={f"verified_labels/{d}": "0" * 64 for d in drives}, code_version=code)
    with lake.workdir() as folder:
        (folder / FROZEN).write_text(said)
        made = lake.publish("golden_slices", week, folder, made_from=made_from)
    record(lake, GOLDEN, made)
    return made


def name_of(dataset: Manifest) -> str:
    return release_id(dataset.partition, dataset.content)


def publish(lake: Lake, asset: str, dataset: Manifest, release: str) -> Manifest:
    inputs = MadeFrom(inputs={f"{dataset.asset}/{dataset.partition}": dataset.digest})
    with lake.workdir() as folder:
        (folder / "made").write_text(release)
        return lake.publish(asset, release, folder, made_from=inputs)


# -- the assets ------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Assets that keep what their dataset says, in place of what they make of it."""

    def learn(_context: Any, _pipes: Any, _policy: Any, spec: dict[str, Any], work: Work) -> dict[str, float]:
        place = spec["dataset"]
        told = work.lake.past_manifest(place["bundle"], place["digest"])  # as the worker finds it
        assert told is not None
        (work.out / "said").write_bytes(work.lake.read_bytes(told, FROZEN))
        return {}

    def pack(work: Work) -> str:
        parity = {"passed": True, "heads": ["a"], "onnx": {"max_abs_diff": {"a": 0}}, "tolerance": 1}
        (work.out / "parity.json").write_text(json.dumps(parity))
        (work.out / "precision_report.json").write_text('{"usable": ["fp32"]}')
        return keep(work)

    def keep(work: Work, *_: object) -> str:
        (work.out / "said").write_bytes((work.checkout("golden_slices") / FROZEN).read_bytes())
        return ""

    for module, name, instead in (
        (teaching, "run_worker", learn), (bundles, "_pack", pack), (evaluation, "_evaluate", keep),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, instead)
        monkeypatch.setattr(module, "_describe", lambda *_: {})


@pytest.fixture
def story() -> Iterator[Story]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Story(instance)


def platform(lake: Lake, teaches: dg.AssetsDefinition) -> dg.Definitions:
    """The network's asset under its own condition."""

    @dg.asset(partitions_def=weeks)
    def golden_slices() -> None: ...

    return dg.Definitions([golden_slices, teaches], resources=resources(lake))


def resources(lake: Lake) -> dict[str, Any]:
    return {"lake": lake, "pipes": dg.PipesSubprocessClient()}


def run(lake: Lake, story: Story, asset: dg.AssetsDefinition, release: str) -> str:
    """Make it, and give what its dataset said."""
    done = dg.materialize([asset], instance=story.instance, partition_key=release, resources=resources(lake))
    assert done.success
    return lake.read_bytes(lake.require(asset.key.to_user_string(), release), "said").decode()


def frozen(story: Story, dataset: Manifest) -> str:
    """The week was frozen; the sensor names its release."""
    story.made("golden_slices", dataset.partition, dataset.content)
    context = dg.build_sensor_context(instance=story.instance)
    for asked in frozen_datasets.evaluate_tick(context).dynamic_partitions_requests or ():
        story.instance.add_dynamic_partitions(asked.partitions_def_name, list(asked.partition_keys))
    return name_of(dataset)


def test_every_dataset_gets_its_release_also_of_two_between_two_looks(story: Story) -> None:
    weeks_frozen = [("2025-06-02", "a" * 64), ("2025-06-09", "b" * 64), ("2025-06-02", "c" * 64)]
    for week, content in weeks_frozen:
        story.made("golden_slices", week, content)
    first = frozen_datasets.evaluate_tick(dg.build_sensor_context(instance=story.instance))
    [asked] = first.dynamic_partitions_requests or ()
    assert asked.partition_keys == ["w20250602-aaaaaaaa", "w20250609-bbbbbbbb", "w20250602-cccccccc"]
    story.made("golden_slices", "2025-06-09", "d" * 64)
    context = dg.build_sensor_context(instance=story.instance, cursor=first.cursor)
    [asked] = frozen_datasets.evaluate_tick(context).dynamic_partitions_requests or ()
    assert asked.partition_keys == ["w20250609-dddddddd"]


@pytest.mark.usefixtures("quick")
def test_new_code_teaches_every_release_what_it_was_taught_before(lake: Lake, story: Story) -> None:
    now = platform(lake, checkpoints)
    assert story.look(now) == set()
    first = frozen(story, freeze(lake, "one"))
    assert story.look(now) == {("checkpoints", first)}
    assert run(lake, story, checkpoints, first) == "one"
    second = frozen(story, freeze(lake, "two"))
    assert story.look(now) == {("checkpoints", second)}
    assert run(lake, story, checkpoints, second) == "two"
    assert story.look(now) == set()
    [remade] = dg.map_asset_specs(lambda spec: spec.replace_attributes(code_version="another"), [checkpoints])
    assert story.look(platform(lake, remade)) == {("checkpoints", first), ("checkpoints", second)}
    before = lake.require("checkpoints", first)
    assert (run(lake, story, remade, first), run(lake, story, remade, second)) == ("one", "two")
    after = lake.require("checkpoints", first)
    assert before.made_from.code_version != after.made_from.code_version == "another"
    assert before.made_from.inputs == after.made_from.inputs


@pytest.mark.usefixtures("quick")
def test_a_release_is_packed_and_judged_with_what_it_was_taught(lake: Lake, story: Story) -> None:
    dataset = freeze(lake, "one")
    release = frozen(story, dataset)
    freeze(lake, "two")
    assert run(lake, story, checkpoints, release) == "one"
    freeze(lake, "three")
    for asset in (model_bundles, eval_reports):
        assert run(lake, story, asset, release) == "one"
        made = lake.require(asset.key.to_user_string(), release)
        assert made.made_from.inputs[f"golden_slices/{WEEK}"] == dataset.digest
    # The same files, frozen by other code: the release is what it was, and nothing is made again.
    freeze(lake, "one", code="2")
    made = {a.key.to_user_string(): lake.require(a.key.to_user_string(), release).digest
            for a in (checkpoints, model_bundles, eval_reports)}  # fmt: skip
    for asset in (checkpoints, model_bundles, eval_reports):
        run(lake, story, asset, release)
    assert made == {asset: lake.require(asset, release).digest for asset in made}


def test_a_run_for_a_dataset_that_is_gone_says_so_and_makes_nothing(lake: Lake, story: Story) -> None:
    dataset = freeze(lake, "one")
    release = frozen(story, dataset)
    lake.store.delete(object_key(dataset.entry(FROZEN).sha256))
    done = dg.materialize(
        [checkpoints],
        instance=story.instance,
        partition_key=release,
        resources=resources(lake),
        raise_on_error=False,
    )
    said = str(done.failure_data_for_node("checkpoints"))
    assert "missing_object" in said
    assert f"{release} needs the dataset golden@{dataset.content[:8]}" in said
    assert lake.manifest("checkpoints", release) is None


# -- what cannot be had ----------------------------------------------------------------------------------------------


def erase_version(lake: Lake, dataset: Manifest) -> None:
    lake.store.put(f"datasets/golden/erased/{dataset.content}.json", canonical_json({"reason": "erasure"}))


def begin_erasure(lake: Lake, dataset: Manifest) -> None:
    """The first moment of one: the drive has its tombstone, and everything is there still."""
    lake.store.put(f"tombstones/{DRIVE}.json", b"{}")


def lose_file(lake: Lake, dataset: Manifest) -> None:
    lake.store.delete(object_key(dataset.entry(FROZEN).sha256))


def lose_manifest(lake: Lake, dataset: Manifest) -> None:
    lake.store.delete(f"manifests/golden_slices/{dataset.partition}/{dataset.digest}.json")


def lose_record(lake: Lake, dataset: Manifest) -> None:
    lake.store.delete(f"datasets/golden/versions/{dataset.content}.json")


@pytest.mark.parametrize(
    ("happens", "kind", "code"),
    [
        (erase_version, DatasetError, "erased_version"),
        (begin_erasure, DatasetError, "erased_version"),
        (lose_file, EvidenceError, "missing_object"),
        (lose_manifest, EvidenceError, "broken_evidence"),
        (lose_record, DatasetError, "unknown_dataset"),
    ],
)
def test_what_is_gone_is_refused_by_name_with_a_remedy(
    lake: Lake, happens: Callable[[Lake, Manifest], None], kind: type[AvError], code: str
) -> None:
    dataset = freeze(lake, "one", DRIVE)
    release = name_of(dataset)
    assert dataset_of(lake, release).digest == dataset.digest
    happens(lake, dataset)
    with pytest.raises(kind) as alone:
        dataset_of(lake, release)
    assert alone.value.code == code
    assert release in alone.value.reason
    assert f"golden@{dataset.content[:8]}" in alone.value.reason
    assert f"av datasets freeze --week {WEEK}" in alone.value.remedy
    newer = freeze(lake, "two", "veh1-b")
    with pytest.raises(kind) as replaced:
        dataset_of(lake, release)
    assert replaced.value.code == code
    assert f"use {name_of(newer)}" in replaced.value.remedy
    assert dataset_of(lake, name_of(newer)).digest == newer.digest


def test_a_name_that_no_dataset_gives_is_refused(lake: Lake) -> None:
    first, other = freeze(lake, "one"), freeze(lake, "two", week=NEXT)
    tag(lake, GOLDEN, "1.0.0", first.content, "ada")
    for release, code in {
        release_id(WEEK, "0" * 64): "unknown_dataset",
        release_id(WEEK, other.content): "unknown_dataset",  # a version, but of another week
        f"w20250602-{WEEK}": "bad_release",
        "w20250602-1.0.0": "bad_release",
        f"w20250602-{first.content[:7]}": "bad_release",
        "r1": "bad_release",
    }.items():
        with pytest.raises(DatasetError) as caught:
            dataset_of(lake, release)
        assert (caught.value.code, release in str(caught.value)) == (code, True), release
    assert release_dataset(name_of(first)) == (WEEK, first.content[:8])


def test_what_a_release_was_made_from_is_found_by_what_it_noted_unless_it_was_erased(lake: Lake) -> None:
    first, second = freeze(lake, "one", DRIVE), freeze(lake, "two", "veh1-b")
    # One that was made from what its week held, as a name could lie: the record says what it was.
    lied = publish(lake, "checkpoints", second, name_of(first))
    assert inputs_of(lake, lied) == {f"golden_slices/{WEEK}": second}
    true = publish(lake, "checkpoints", first, name_of(first))
    assert inputs_of(lake, true) == {f"golden_slices/{WEEK}": first}
    for happens in (begin_erasure, erase_version):
        happens(lake, first)
        with pytest.raises(DatasetError) as caught:
            inputs_of(lake, true)
        assert (caught.value.code, name_of(first) in caught.value.reason) == ("erased_version", True)
    assert inputs_of(lake, lied), "it holds nothing of the drive"


def test_an_erased_drive_does_not_come_back_through_a_release(lake: Lake, tmp_path: Path) -> None:
    labels = [add_drive(lake, tmp_path, drive) for drive in (DRIVE, "veh1-b")]
    drives = {f"{m.asset}/{m.partition}": m.digest for m in labels}
    with lake.workdir() as folder:
        (folder / FROZEN).write_text("both")
        dataset = lake.publish("golden_slices", WEEK, folder, made_from=MadeFrom(inputs=drives))
    record(lake, GOLDEN, dataset)
    release = name_of(dataset)
    taught = publish(lake, "checkpoints", dataset, release)
    publish(lake, "eval_reports", dataset, release)
    place = installation(lake, tmp_path)

    def refused(_step: str = "") -> None:
        for asked in (None, taught):
            with pytest.raises(AvError) as caught:
                dataset_of(lake, release, asked)
            assert caught.value.code in ("erased_version", "missing_input")
            assert release in caught.value.reason

    receipt = execute(place, make_plan(place, asking(DRIVE), 1).id, 2, after=refused)
    refused()
    assert f"eval_reports/{release}" not in receipt.to_remake, "nothing could make it again"
    assert lake.manifest("eval_reports", release) is None
    again = freeze(lake, "the other", "veh1-b")
    assert dataset_of(lake, name_of(again)).digest == again.digest
    with pytest.raises(DatasetError, match=f"use {name_of(again)}"):
        dataset_of(lake, release)
