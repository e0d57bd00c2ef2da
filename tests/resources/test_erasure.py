"""After an erasure nothing of the drive can be found, nothing of the others is lost, and the receipt says so."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from av_assets.domain.erasure.requests import Scope
from av_assets.domain.errors import AvError, EvidenceError, LandingError
from av_assets.erasure import specs
from av_assets.erasure.execution import execute, make_plan
from av_assets.erasure.survey import manifests
from av_assets.policies.cache import CachePolicy
from av_assets.policies.mining import load_specs
from resources import datasets, legal_holds, receipts, tombstones
from resources.lake import Lake
from resources.shard_cache.cache import ShardCache
from resources.shard_cache.sources import shard_refs, shard_source
from resources.vectors import vectors
from tests.resources.erasure_lakes import (
    MAKER,
    NIGHT,
    POLICY,
    WEEK,
    add_drive,
    add_failures,
    add_fleet,
    add_sweep,
    asking,
    everything,
    golden_files,
    installation,
    mark,
    mentions,
    publish,
    words,
    write_rows,
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A moto server of its own process: some calls of deltalake wait for it without letting threads of this one run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=["file", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """An empty lake, once on a folder and once on a bucket."""
    if request.param == "file":
        return Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))
    return bucket_lake(request.getfixturevalue("server"), tmp_path, monkeypatch)


def bucket_lake(endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """An empty one of its own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="lake")
    return Lake(uri=f"s3://lake/{uuid.uuid4().hex}", scratch=str(home / "scratch"), endpoint=endpoint)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What is local; a folder lake lies in it as well."""
    return tmp_path


def _erase(lake: Lake, home: Path, *drives: str) -> object:
    place = installation(lake, home)
    return execute(place, make_plan(place, asking(*drives), 1).id, 2)


def _digests(lake: Lake, drive: str) -> set[str]:
    return {e.sha256 for m in manifests(lake) if m.partition == drive for e in m.files}


def test_an_erased_drive_is_nowhere_and_the_others_are_whole(lake: Lake, home: Path) -> None:
    labels = [add_drive(lake, home, drive, versions=2) for drive in ("veh1-a", "veh1-ab", "veh1-b")]
    golden = add_fleet(lake, labels)
    datasets.record(lake, "golden", golden)
    others = _digests(lake, "veh1-ab") | _digests(lake, "veh1-b")
    digests = _digests(lake, "veh1-a") - others
    assert mentions(lake, home, mark("veh1-a"), digests)
    place = installation(lake, home)
    plan = make_plan(place, asking("veh1-a"), 1)
    assert mentions(lake, home, mark("veh1-a"), digests), "a plan changes nothing"
    receipt = execute(place, plan.id, 2)

    assert mentions(lake, home, mark("veh1-a"), digests) == []
    left = {(m.asset, m.partition) for m in manifests(lake)}
    assert not {p for _, p in left if p == "veh1-a"}
    assert not {a for a, _ in left} & {
        "golden_slices",
        "eval_reports",
        "similarity_index",
        "coverage_ledgers",
        "failure_buckets",
        "sweep_trials",
        "sweep_reports",
    }
    for one in manifests(lake):
        assert lake.verify(one) == [], one.asset
    for table in ("drives", "clip_notes"):
        rows = lake.tables.read(table)
        assert rows is not None
        assert rows.num_rows == 2
        assert lake.tables.read(table, [(rows.column_names[0], "=", rows[0][0].as_py())]).num_rows == 1
    assert vectors(lake).open(MAKER) is None
    assert (home / "landing" / "veh1-ab" / "log.mcap").is_file()

    assert receipt.models[0]["bundle"] == "checkpoints/r1"
    assert receipt.models[1]["bundle"] == "model_bundles/r1"
    assert receipt.datasets[0]["erased_version"] == golden.content
    assert set(receipt.kept["shared"].values().__iter__().__next__()) == {
        "raw_logs/veh1-ab", "raw_logs/veh1-b", "synced_shards/veh1-ab", "synced_shards/veh1-b"
    }  # fmt: skip
    assert set(receipt.to_remake) == {f"coverage_ledgers/{WEEK}", f"failure_buckets/{NIGHT}"}
    assert {"shards": 3, "specs": 2}.items() <= receipt.removed["files"].items()
    assert [spec.like for spec in load_specs(home / "policies" / "mining" / "together.yaml")] == [
        None, "veh1-ab/00000", "veh1-b/00000"
    ]  # fmt: skip
    assert set(receipt.verification["left"].values()) == {0}
    with pytest.raises(AvError) as error:
        datasets.resolve(lake, f"golden@{golden.content[:12]}")
    assert error.value.code == "erased_version"


def test_an_erased_drive_does_not_come_back(folder_lake: Lake, home: Path) -> None:
    lake = folder_lake
    add_drive(lake, home, "veh1-a")
    _erase(lake, home, "veh1-a")
    with pytest.raises(EvidenceError) as reading:
        lake.require("raw_logs", "veh1-a")
    with pytest.raises(EvidenceError) as writing:
        publish(lake, "raw_logs", "veh1-a", {"log.mcap": b"again"})
    assert (reading.value.code, writing.value.code) == ("erased", "erased")
    assert tombstones.listing(lake) == {"veh1-a"}
    assert isinstance(tombstones.refusal("veh1-a"), LandingError)
    with pytest.raises(AvError) as again:
        make_plan(installation(lake, home), asking("veh1-a"), 3)
    assert again.value.code == "nothing_to_erase"


def test_a_hold_placed_after_the_plan_wins_until_it_is_lifted(folder_lake: Lake, home: Path) -> None:
    lake = folder_lake
    for drive in ("veh1-a", "veh1-b"):
        add_drive(lake, home, drive)
    place = installation(lake, home)
    plan = make_plan(place, asking("veh1-a", "veh1-b"), 1)
    hold = legal_holds.add(lake, Scope(drives=("veh1-a",)), by="legal", reason="a case", now_ns=2)
    receipt = execute(place, plan.id, 3)
    assert receipt.drives == ("veh1-b",)
    assert receipt.kept["held"] == {"veh1-a": [hold.id]}
    assert lake.verify(lake.require("raw_logs", "veh1-a")) == []
    assert lake.tables.read("drives").num_rows == 1
    later = make_plan(place, asking("veh1-a"), 4)
    assert (later.drives, set(later.held)) == ((), {"veh1-a"})
    with pytest.raises(AvError) as error:
        execute(place, later.id, 5)
    assert error.value.code == "on_hold"
    legal_holds.lift(lake, hold.id, by="legal", reason="settled", now_ns=6)
    with pytest.raises(AvError):
        legal_holds.lift(lake, hold.id, by="legal", reason="twice", now_ns=7)
    assert make_plan(place, asking("veh1-a"), 8).drives == ("veh1-a",)
    assert [one.id for one in legal_holds.every(lake)] == [hold.id]


def test_what_is_published_meanwhile_goes_in_another_round(folder_lake: Lake, home: Path) -> None:
    lake, done = folder_lake, []
    labels = add_drive(lake, home, "veh1-a")
    place = installation(lake, home)
    plan = make_plan(place, asking("veh1-a"), 1)

    def late(step: str) -> None:
        done.append(step)
        if step == "manifests" and done.count("manifests") == 1:
            publish(lake, "drift_reports", WEEK, {"drift.png": mark("veh1-a")}, labels)
            write_rows(lake, "veh1-a")

    receipt = execute(place, plan.id, 2, after=late)
    assert done.count("manifests") == 2
    assert any(name.startswith(f"drift_reports/{WEEK}@") for name in receipt.removed["bundles"])
    assert mentions(lake, home, mark("veh1-a"), set()) == []


def test_evidence_on_policies_goes_with_its_rows_and_the_policy_in_force_stays(
    folder_lake: Lake, home: Path
) -> None:
    """Rows of a back-test count meetings per place and name no drive; the labeller's report names none in made_from."""
    lake, key = folder_lake, "events-2"
    labels = add_drive(lake, home, "veh1-a")
    proposal = publish(lake, "policy_proposals", key, {"events.yaml": b"version: 2"})
    backtest = publish(lake, "policy_backtests", key, {"heat.png": mark("veh1-a")}, proposal, labels)
    active = publish(
        lake, "policy_activations", "events-0001", {"activation.json": b"{}"}, proposal, backtest
    )
    publish(lake, "labeller_reports", "all", {"quality.json": mark("veh1-a")})
    cells = pa.table({"policy": [key, "events-1"], "h3_cell": [words("veh1-a"), "elsewhere"]})
    lake.tables.replace("policy_backtest_cells", cells.slice(0, 1), key="policy", value=key)
    lake.tables.replace("policy_backtest_cells", cells.slice(1), key="policy", value="events-1")
    receipt = _erase(lake, home, "veh1-a")
    assert mentions(lake, home, mark("veh1-a"), set()) == []
    assert lake.tables.read("policy_backtest_cells")["policy"].to_pylist() == ["events-1"]  # type: ignore[index]
    assert lake.require("policy_activations", "events-0001") == active
    assert lake.verify(lake.require("policy_proposals", key)) == []
    assert set(receipt.to_remake) == {f"policy_backtests/{key}", "labeller_reports/all"}  # type: ignore[attr-defined]


def test_the_same_bytes_published_since_stay(folder_lake: Lake, home: Path) -> None:
    """A dataset that is frozen again while the erasure is interrupted may hold files with the same bytes."""
    lake = folder_lake
    labels = [add_drive(lake, home, drive) for drive in ("veh1-a", "veh1-b")]
    add_fleet(lake, labels)
    place = installation(lake, home)
    plan = make_plan(place, asking("veh1-a"), 1)

    def late(step: str) -> None:
        if step == "vectors":
            publish(lake, "golden_slices", "2025-06-09", {"leaks.json": b"[]"}, labels[1])

    receipt = execute(place, plan.id, 2, after=late)
    assert lake.verify(lake.require("golden_slices", "2025-06-09")) == []
    assert receipt.verification["objects_published_since"] == 1


def test_the_receipt_is_signed_and_a_changed_one_is_refused(folder_lake: Lake, home: Path) -> None:
    lake = folder_lake
    add_drive(lake, home, "veh1-a")
    receipt = _erase(lake, home, "veh1-a")
    found, signer = receipts.verify(lake, receipt.plan[:6])  # type: ignore[attr-defined]
    assert found == receipt
    assert len(signer) == 16
    made = lake.require("erasure_receipts", found.plan)
    entry = made.entry("receipt.json")
    path = Path(lake.store.root, f"objects/{entry.sha256[:2]}/{entry.sha256}")  # type: ignore[union-attr]
    path.chmod(0o644)
    path.write_bytes(json.dumps({**json.loads(path.read_bytes()), "drives": []}).encode())
    with pytest.raises(EvidenceError) as damaged:
        receipts.verify(lake, found.plan)
    assert damaged.value.code == "damaged_object"
    forged = publish(lake, "erasure_receipts", "0" * 16, {"receipt.json": found.to_json()})
    lake.keep_signature(forged, lake.signature(made) or b"")
    with pytest.raises(EvidenceError) as unsigned:
        receipts.verify(lake, "0000")
    assert unsigned.value.code == "broken_signature"


def test_another_policy_needs_another_plan(folder_lake: Lake, home: Path) -> None:
    add_drive(folder_lake, home, "veh1-a")
    place = installation(folder_lake, home)
    plan = make_plan(place, asking("veh1-a"), 1)
    changed = type(place)(folder_lake, POLICY.model_copy(update={"rounds": 2}), place.places)
    with pytest.raises(AvError) as error:
        execute(changed, plan.id, 2)
    assert error.value.code == "other_policy"
    with pytest.raises(AvError) as unknown:
        execute(place, "../../etc", 2)
    assert unknown.value.code == "no_such_plan"


def test_the_shard_cache_keeps_the_shards_of_other_drives_alone(
    server: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = bucket_lake(server, home, monkeypatch)
    policy = CachePolicy.load().model_copy(update={"keep_free_gb": 0.0})
    refs = {}
    with contextlib.closing(ShardCache(home / "cache" / "shards", 1_000_000, lake.store, policy)) as cache:
        for drive in ("veh1-a", "veh1-b"):
            raw = publish(lake, "raw_logs", drive, {"log.mcap": mark(drive) * 2})
            shards = publish(lake, "synced_shards", drive, {"clips/00000.parquet": mark(drive)}, raw)
            source, (refs[drive],) = shard_source(lake, shards, cache), shard_refs(shards)
            with source.local(refs[drive]) as path:
                assert path.read_bytes() == mark(drive)
        receipt = _erase(lake, home, "veh1-a")
        assert receipt.removed["files"] == {"shards": 1}  # type: ignore[attr-defined]
        assert cache.digests() == [refs["veh1-b"].sha256]
        with pytest.raises(EvidenceError) as gone, cache.local(refs["veh1-a"].sha256, refs["veh1-a"].bytes):
            pass
        assert gone.value.code == "missing_object"


def test_specs_that_cannot_be_read_go_whole_where_they_name_a_drive(tmp_path: Path) -> None:
    texts = {
        "a.yaml": "specs: [{name: one, like: veh1-a/00000, budget: 1}",  # torn
        "b.yaml": "specs: [{name: one, like: veh1-ab/00000, budget: 1}",  # of another drive
        "c.part": "like: veh1-a/00003",
        "of veh1-a.yaml": "specs: [{name: two, budget: 1}]",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    found = list(specs.naming(tmp_path, ["veh1-a"]))
    assert [path.name for path in found] == ["a.yaml", "c.part", "of veh1-a.yaml"]
    for path in found:
        specs.drop(path, ["veh1-a"])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b.yaml": texts["b.yaml"]}
    assert list(specs.naming(tmp_path / "none", ["veh1-a"])) == []


DRIVES = ("d0", "d1", "d2")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    erased=st.sets(st.sampled_from(DRIVES), min_size=1, max_size=2),
    versions=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    weeks=st.lists(st.sets(st.sampled_from(DRIVES), min_size=1), max_size=3),
    shared=st.sets(st.sampled_from(DRIVES)),
    rewritten=st.lists(st.sampled_from(DRIVES), max_size=3),
)
def test_no_byte_of_erased_drives_is_left_in_any_lake(
    erased: set[str], versions: list[int], weeks: list[set[str]], shared: set[str], rewritten: list[str]
) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        lake = Lake(uri=(root / "lake").as_uri(), scratch=str(root / "lake" / ".scratch"))
        labels = {d: add_drive(lake, root, d, versions=n) for d, n in zip(DRIVES, versions, strict=True)}
        for drive in sorted(shared):  # the very bytes of several drives
            publish(lake, "auto_labels", drive, {"same.parquet": b"the same"}, labels[drive])
        for number, members in enumerate(weeks):
            inputs = [labels[d] for d in sorted(members)]
            golden = publish(lake, "golden_slices", f"w{number % 2}", golden_files(members), *inputs)
            add_sweep(lake, golden, sorted(members))
            add_failures(lake, sorted(members))
        for drive in rewritten:  # old files and old versions of tables
            write_rows(lake, drive)
        kept = {d: {e.sha256 for m in manifests(lake) if m.partition == d for e in m.files} for d in DRIVES}
        staying = set().union(*(kept[d] for d in DRIVES if d not in erased), set())
        _erase(lake, root, *sorted(erased))
        for drive in sorted(erased):
            assert mentions(lake, root, mark(drive), kept[drive] - staying) == [], drive
        for one in manifests(lake):
            assert lake.verify(one) == []
        rows = lake.tables.read("drives")
        assert rows is not None
        assert set(rows["drive"].to_pylist()) == set(DRIVES) - erased
        present = {Path(name).name for name, _ in everything(lake, root)}
        assert staying <= present
    finally:
        shutil.rmtree(root)
