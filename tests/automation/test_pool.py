"""The assets of hard cases over a small lake: predictions, the ledger, what is predicted again, buckets and commands.

Belongs here: assets, checks, the sensor and commands. Does not belong here: the algorithms (tests/domain/failures,
tests/domain/inference).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from av_assets.cli import inference as cli_inference
from av_assets.domain.errors import AvError, EvidenceError
from av_assets.domain.evidence.claims import RECORD_FILE, Record
from av_assets.domain.evidence.manifest import MadeFrom
from av_assets.mining import accepted, hard_cases, pool
from av_assets.policies.failures import FailurePolicy
from av_assets.policies.inference import InferencePolicy
from av_assets.policies.mining import load_specs
from partitions.calendar import weeks
from partitions.drives import drives
from partitions.releases import releases
from resources import quarantine
from resources.lake import Lake
from resources.production_models import production_model
from sensors.pool import unpredicted_drives
from tests.domain.inference.pool_rig import CAMERA, STEP_NS, write_drive, write_model

RELEASE, DAY, CHECK = "w20250602-0badcafe", "2026-03-04", "pool_predictions_cover_every_shard"
DRIVES = ("veh001-20250601t080000z", "veh001-20250602t080000z", "veh002-20250603t080000z")
PER_DRIVE = ("synced_shards", "verified_labels", "auto_labels", "clip_embeddings", "drive_catalog", "enriched_clips",
             "event_windows", "scenes")  # fmt: skip
FRAMES = 6


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("AV_HOME", str(tmp_path / "home"))
    made = Lake(uri=(tmp_path / "home" / "lake").as_uri(), scratch=str(tmp_path / "home" / "scratch"))
    for number, drive in enumerate(DRIVES):
        land(made, tmp_path / "drives" / drive, drive, start_ns=number * 3600 * 10**9)
    release(made, tmp_path / "model", RELEASE)
    return made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        ephemeral.add_dynamic_partitions("drive", DRIVES)
        yield ephemeral


def land(lake: Lake, folder: Path, drive: str, **more: Any) -> None:
    """Shards with a record of passed checks, and the catalogue's rows of their clips."""
    refs = write_drive(folder, drive, clips=2, frames=FRAMES, **more)
    (folder / "calibration.json").write_text("{}")
    (folder / RECORD_FILE).write_text(Record(()).to_json())
    lake.publish("synced_shards", drive, folder, made_from=MadeFrom(code_version=str(len(refs))))
    start = more.get("start_ns", 0)
    rows = [
        {"drive": drive, "clip_id": f"{drive}/{n:05d}", "start_ns": start + n * FRAMES * STEP_NS,
         "end_ns": start + (n + 1) * FRAMES * STEP_NS, "frames": FRAMES, "light": "night" if "002t" in drive else "day"}
        for n in range(2)
    ]  # fmt: skip
    lake.tables.replace("clips", pa.Table.from_pylist(rows), key="drive", value=drive)


def release(lake: Lake, folder: Path, name: str, verdict: str = "pass", **model: Any) -> None:
    made = lake.publish("model_bundles", name, write_model(folder / name, **model))
    report = folder / f"{name}-report"
    report.mkdir(exist_ok=True)
    (report / "report.json").write_text(json.dumps({"verdict": {"state": verdict}}))
    lake.publish(
        "eval_reports", name, report, made_from=MadeFrom(inputs={f"model_bundles/{name}": made.digest})
    )


def specs() -> list[dg.AssetSpec]:
    found = [dg.AssetSpec(name, partitions_def=drives) for name in PER_DRIVE]
    found += [dg.AssetSpec(name, partitions_def=releases) for name in ("model_bundles", "eval_reports")]
    return [*found, dg.AssetSpec("golden_slices", partitions_def=weeks)]


def predict(lake: Lake, instance: dg.DagsterInstance, *chosen: str) -> dg.ExecuteInProcessResult:
    """One run over a stretch of drives."""
    definitions = dg.Definitions(
        assets=[pool.pool_predictions, *specs()],
        asset_checks=[pool.pool_predictions_cover_every_shard],
        resources={"lake": lake},
    )
    ends = {"dagster/asset_partition_range_start": chosen[0], "dagster/asset_partition_range_end": chosen[-1]}
    job = definitions.resolve_implicit_global_asset_job_def()
    selection = [dg.AssetKey("pool_predictions")]
    return job.execute_in_process(
        instance=instance, asset_selection=selection, tags=ends, raise_on_error=False
    )


def search(lake: Lake, instance: dg.DagsterInstance, **more: Any) -> dg.ExecuteInProcessResult:
    checks = [hard_cases.failure_buckets_hold_every_failure, hard_cases.next_specs_can_be_mined]
    return dg.materialize(
        [hard_cases.failure_buckets, *checks, pool.pool_predictions, *specs()],
        selection=["failure_buckets"],
        partition_key=DAY,
        instance=instance,
        resources={"lake": lake},
        **more,
    )


def spoil(lake: Lake, drive: str, path: str) -> Callable[[], None]:
    """Break an object of the lake; gives what repairs it."""
    from resources.lake import object_key

    entry = lake.require("synced_shards", drive).entry(path)
    found = Path(lake.uri.removeprefix("file://")) / object_key(entry.sha256)
    good = found.read_bytes()
    found.chmod(0o644)
    found.write_bytes(b"garbage".ljust(entry.bytes, b"\0"))

    def repair() -> None:
        found.write_bytes(good)

    return repair


def test_one_run_over_several_drives_loads_the_model_once(
    lake: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from av_assets.domain.models import runtime

    loaded, load = [], runtime.OnnxPerception.__init__
    monkeypatch.setattr(
        runtime.OnnxPerception, "__init__", lambda self, *a, **k: (loaded.append(1), load(self, *a, **k))[1]
    )
    result = predict(lake, instance, *DRIVES)
    assert result.success
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]
    assert len(loaded) == 1
    for drive in DRIVES:
        made = lake.require("pool_predictions", drive)
        assert [f.path for f in made.files] == [
            "ledger.json", "predictions/00000.parquet", "predictions/00001.parquet"
        ]  # fmt: skip
        assert (made.note, pool.uncovered(lake, drive)) == ("", [])
    before = {drive: lake.require("pool_predictions", drive).digest for drive in DRIVES}
    assert predict(lake, instance, *DRIVES).success
    assert {drive: lake.require("pool_predictions", drive).digest for drive in DRIVES} == before
    assert len(loaded) == 1  # all was there


def test_a_poisoned_shard_leaves_a_partial_drive_and_a_red_check(
    lake: Lake, instance: dg.DagsterInstance
) -> None:
    repair = spoil(lake, DRIVES[1], "clips/00001.parquet")
    result = predict(lake, instance, *DRIVES)
    assert result.success
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == (CHECK, False)
    made = lake.require("pool_predictions", DRIVES[1])
    assert made.note.startswith("partial: 1 of 2 shards")
    assert [f.path for f in made.files] == ["ledger.json", "predictions/00000.parquet"]
    assert pool.uncovered(lake, DRIVES[1])[0]["shard"] == "clips/00001.parquet"
    assert all(lake.require("pool_predictions", d).note == "" for d in (DRIVES[0], DRIVES[2]))
    assert not quarantine.listing(lake)
    # Asked again it is not taken for whole: the bad shard is tried again, the good one is not.
    good = made.entry("predictions/00000.parquet")
    again = predict(lake, instance, DRIVES[1])
    assert not again.get_asset_check_evaluations()[0].passed
    assert lake.require("pool_predictions", DRIVES[1]).digest != made.digest
    repair()
    repaired = predict(lake, instance, DRIVES[1])
    assert repaired.get_asset_check_evaluations()[0].passed
    whole = lake.require("pool_predictions", DRIVES[1])
    assert (whole.note, whole.entry("predictions/00000.parquet")) == ("", good)


def test_only_shards_that_changed_are_predicted_again(
    lake: Lake, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from av_assets.domain.inference.predicting import Predictor

    predict(lake, instance, DRIVES[0])
    before = lake.require("pool_predictions", DRIVES[0])
    folder = tmp_path / "drives" / f"{DRIVES[0]}-again"
    refs = write_drive(folder, DRIVES[0], clips=3, frames=FRAMES)
    (folder / "calibration.json").write_text("{}")
    (folder / RECORD_FILE).write_text(Record(()).to_json())
    lake.publish("synced_shards", DRIVES[0], folder)
    rows, seen = Predictor.rows, []
    monkeypatch.setattr(
        Predictor, "rows", lambda self, chunk: (seen.append(chunk.shard), rows(self, chunk))[1]
    )
    predict(lake, instance, DRIVES[0])
    after = lake.require("pool_predictions", DRIVES[0])
    assert (len(refs), set(seen)) == (3, {2})
    for path in ("predictions/00000.parquet", "predictions/00001.parquet"):
        assert after.entry(path) == before.entry(path)


def test_a_bad_model_fails_the_run_and_quarantines_nobody(
    lake: Lake, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "tampered")
    (folder / "model.onnx").write_bytes(b"other weights")
    lake.publish("model_bundles", "w20250609-00000000", folder)
    release(lake, tmp_path / "model", RELEASE, "fail")
    result = predict(lake, instance, DRIVES[0])
    assert not result.success
    assert not quarantine.listing(lake)


def test_the_production_model_is_the_newest_that_passed(lake: Lake, tmp_path: Path) -> None:
    def chosen() -> str:
        found = production_model(lake)
        return found.partition if found else "none"

    assert chosen() == RELEASE
    release(lake, tmp_path / "model", "w20250609-00000001", "insufficient", shift=0.1)
    assert chosen() == RELEASE
    release(lake, tmp_path / "model", "w20250616-00000002", "pass", shift=0.2)
    assert chosen() == "w20250616-00000002"
    # A verdict on a bundle that there is no longer says nothing.
    lake.publish("model_bundles", "w20250616-00000002", write_model(tmp_path / "newer", shift=0.3))
    assert chosen() == RELEASE
    release(lake, tmp_path / "model", RELEASE, "fail")
    assert chosen() == "w20250616-00000002"  # none passed: the newest


def look(lake: Lake, instance: dg.DagsterInstance, cursor: str | None) -> tuple[list[str], str | None]:
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"lake": lake})
    found = unpredicted_drives(context)
    assert isinstance(found, dg.SensorResult)
    requests = found.run_requests or []
    assert all(int(request.tags["dagster/priority"]) < 0 for request in requests), "drives that land go first"
    return [request.partition_key or "" for request in requests], found.cursor


def test_the_sensor_asks_for_new_drives_and_for_all_when_the_model_changes(
    lake: Lake, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    asked, cursor = look(lake, instance, None)
    assert asked == list(DRIVES)
    assert look(lake, instance, cursor)[0] == []  # under way, or failed: once is enough
    predict(lake, instance, *DRIVES)
    asked, cursor = look(lake, instance, cursor)
    assert asked == []
    assert json.loads(cursor or "")["asked"] == {}
    release(lake, tmp_path / "model", "w20250616-00000002", shift=0.2)
    asked, cursor = look(lake, instance, cursor)
    assert asked == list(DRIVES)
    predict(lake, instance, *DRIVES)
    land(lake, tmp_path / "drives" / "again", DRIVES[1], missing=(0,))
    assert look(lake, instance, cursor)[0] == [DRIVES[1]]


def test_the_sensor_asks_for_a_few_at_a_time(
    lake: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = InferencePolicy.load().model_copy(update={"drives_per_tick": 2})
    monkeypatch.setattr(InferencePolicy, "load", classmethod(lambda cls, path=None: few))
    first, cursor = look(lake, instance, None)
    second, cursor = look(lake, instance, cursor)
    assert (first, second) == ([*DRIVES[:2]], [DRIVES[2]])
    assert look(lake, instance, cursor)[0] == []


def test_the_sensor_waits_for_a_model_and_lets_partial_drives_be(
    lake: Lake, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    spoil(lake, DRIVES[1], "clips/00001.parquet")
    predict(lake, instance, *DRIVES)
    assert look(lake, instance, None)[0] == []
    empty = Lake(uri=(tmp_path / "empty").as_uri(), scratch=str(tmp_path / "scratch"))
    context = dg.build_sensor_context(instance=instance, resources={"lake": empty})
    assert isinstance(unpredicted_drives(context), dg.SkipReason)


def label(lake: Lake, folder: Path, drive: str, cls: str = "vehicle") -> None:
    """People are done with every frame: one object that the model does not see, where its box is not."""
    frames, labels = [], []
    for clip in range(2):
        for row in range(FRAMES):
            ref_ns = (clip * FRAMES + row) * STEP_NS + DRIVES.index(drive) * 3600 * 10**9
            key = {"clip_id": f"{drive}/{clip:05d}", "ref_ns": ref_ns, "camera": CAMERA}
            frames.append({**key, "state": "final"})
            for x1 in (70.0, 100.0):
                labels.append({**key, "cls": cls, "x1": x1, "y1": 30.0, "x2": x1 + 20, "y2": 60.0,
                               "occlusion": 0.0, "distance_m": 12.0})  # fmt: skip
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(frames), folder / "frames.parquet")
    pq.write_table(pa.Table.from_pylist(labels), folder / "labels.parquet")
    lake.publish("verified_labels", drive, folder)


def embed(lake: Lake, folder: Path, drive: str) -> None:
    folder.mkdir(parents=True)
    vectors = np.eye(8, dtype=np.float32)[DRIVES.index(drive)] + np.arange(2)[:, None] * 0.001
    table = pa.table(
        {"clip_id": [f"{drive}/{n:05d}" for n in range(2)], "camera": [CAMERA] * 2, "model_digest": ["m"] * 2,
         "preproc_digest": ["p"] * 2, "embedding": pa.array([v.tolist() for v in vectors], pa.list_(pa.float32(), 8))}
    )  # fmt: skip
    pq.write_table(table, folder / "embeddings.parquet")
    lake.publish("clip_embeddings", drive, folder)


def teach(lake: Lake, folder: Path, drive: str) -> None:
    """A golden dataset that teaches with the first clip of a drive."""
    folder.mkdir(parents=True)
    rows = [
        {"drive": drive, "split": "train", "clip_id": f"{drive}/00000",
         "ref_ns": row * STEP_NS + DRIVES.index(drive) * 3600 * 10**9}
        for row in range(FRAMES)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "index.parquet")
    lake.publish("golden_slices", "2025-06-02", folder)


def report_of(lake: Lake) -> dict[str, Any]:
    return dict(json.loads(lake.read_bytes(lake.require("failure_buckets", DAY), "report.json")))


@pytest.fixture
def found(lake: Lake, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake with labels, vectors, a dataset, predictions and buckets, which two clips are enough for."""
    shipped = FailurePolicy.load()
    pairs = shipped.clustering.model_copy(update={"min_cluster_size": 2, "min_samples": 1})
    policy = shipped.model_copy(update={"clustering": pairs})
    monkeypatch.setattr(FailurePolicy, "load", classmethod(lambda cls, path=None: policy))
    for drive in DRIVES:
        label(lake, tmp_path / "labels" / drive, drive)
        embed(lake, tmp_path / "vectors" / drive, drive)
    teach(lake, tmp_path / "golden", DRIVES[0])
    predict(lake, instance, *DRIVES)
    result = search(lake, instance)
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    return lake


def test_failures_are_found_and_every_failing_clip_is_in_a_bucket(found: Lake) -> None:
    report = report_of(found)
    assert (report["drives"], report["frames"], report["frames_trained_on"]) == (3, 30, 6)
    assert (report["frames_labelled"], report["map50"], report["clips_failing"]) == (30, 0.0, 5)
    assert report["kinds"]["missed"]["sure"] == 60
    held = found.tables.read("failure_cases").to_pylist()
    assert {row["clip_id"] for row in held} == {f"{d}/{n:05d}" for d in DRIVES for n in range(2)} - {
        f"{DRIVES[0]}/00000"
    }
    assert {row["day"] for row in held} == {DAY}
    made = found.require("failure_buckets", DAY)
    assert {"kinds.png", "bucket_1.png"} <= {f.path for f in made.files}


def test_buckets_are_made_again_only_when_something_changed(
    found: Lake, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    before = found.require("failure_buckets", DAY).digest
    search(found, instance)
    assert found.require("failure_buckets", DAY).digest == before
    release(found, tmp_path / "model", "w20250616-00000002", shift=0.2)
    search(found, instance)
    report = report_of(found)
    assert (report["drives"], report["left_out"]) == (0, 3)
    assert found.require("failure_buckets", DAY).note.startswith(
        "no drive was predicted by w20250616-00000002 yet"
    )


def test_a_day_without_labels_and_one_without_predictions(lake: Lake, instance: dg.DagsterInstance) -> None:
    assert search(lake, instance).success
    assert lake.require("failure_buckets", DAY).note == f"no drive was predicted by {RELEASE} yet"
    predict(lake, instance, *DRIVES)
    assert search(lake, instance).success
    report = report_of(lake)
    assert (report["frames_labelled"], report["map50"], report["kinds"]) == (0, None, {})


def test_labels_of_a_class_that_the_model_lacks_are_refused(
    lake: Lake, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    label(lake, tmp_path / "labels", DRIVES[0], "tram")
    predict(lake, instance, *DRIVES)
    with pytest.raises(AvError, match="tram"):
        search(lake, instance)


def test_without_a_model_there_is_nothing_to_search(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    empty = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "scratch"))
    with pytest.raises(EvidenceError, match="no model was packed yet"):
        search(empty, instance)


def test_a_person_reads_the_buckets_and_accepts_a_spec(
    found: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_inference, "open_lake", lambda: found)
    said = CliRunner().invoke(cli_inference.failures, [])
    assert said.exit_code == 0, said.output
    assert "missed" in said.output
    answer = json.loads(CliRunner().invoke(cli_inference.failures, [DAY, "--json"]).output)
    assert answer["clips_failing"] == 5
    refused = CliRunner().invoke(cli_inference.failures, [DAY, "--accept", "nothing"])
    assert isinstance(refused.exception, AvError)
    assert refused.exception.code == "no_such_spec"
    names = [spec["name"] for spec in answer["next_specs"]]
    assert accepted.accepted_specs() == []
    for name in names:
        taken = CliRunner().invoke(cli_inference.failures, [DAY, "--accept", name])
        assert taken.exit_code == 0, taken.output
        (path,) = (tmp_path / "home" / "policies" / "mining").glob(f"{name}.yaml")
        assert load_specs(path)[0].name == name
    assert names
    assert sorted(spec.name for spec in accepted.accepted_specs()) == sorted(names)
    twice = CliRunner().invoke(cli_inference.failures, [DAY, "--accept", names[0]])
    assert isinstance(twice.exception, AvError)
    assert twice.exception.code == "duplicate_spec"


def test_accepted_specs_may_not_share_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AV_POLICIES", str(tmp_path))
    (tmp_path / "mining").mkdir()
    for name in ("a", "b"):
        (tmp_path / "mining" / f"{name}.yaml").write_text(
            yaml.safe_dump({"specs": [{"name": "one", "budget": 3}]})
        )
    with pytest.raises(AvError) as refused:
        accepted.accepted_specs()
    assert refused.value.code == "duplicate_spec"
