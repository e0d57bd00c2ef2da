"""The commands that erase: plans change nothing, holds and runs come first, a changed receipt is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from av_assets.cli.main import main
from av_assets.policies.retention import RetentionPolicy
from resources import receipts, tombstones
from resources.lake import Lake
from tests.resources.erasure_lakes import add_drive, add_fleet, mark, mentions

ASKED = ("--by", "dpo", "--reason", "request 4711")
DRIVES = ("veh1-a", "veh1-ab", "veh1-b")
Av = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AV_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    return tmp_path


@pytest.fixture
def lake(home: Path) -> Lake:
    lake = Lake(uri=(home / "lake").as_uri(), scratch=str(home / "scratch"))
    add_fleet(lake, [add_drive(lake, home, drive) for drive in DRIVES])
    (home / "work").rename(home / "scratch" / "rests")  # where this installation works
    return lake


@pytest.fixture
def av(home: Path) -> Av:
    return lambda *arguments: CliRunner().invoke(main, arguments)


@pytest.fixture
def instance(home: Path, av: Av, lake: Lake) -> Iterator[dg.DagsterInstance]:
    assert av("receipts", "list").exit_code == 0  # makes the Dagster home
    with dg.DagsterInstance.get() as made:
        yield made


def said(result: Result) -> dict:  # type: ignore[type-arg]
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def refused(result: Result, code: str) -> None:
    assert result.exit_code == 1, result.output
    assert code in result.output


def files(home: Path) -> dict[str, bytes]:
    """All of the home that a command may have changed; Dagster opens its databases for reading, too."""
    left_out = {"dagster", "scratch", "erasure", "cache"}
    found = (p for p in home.rglob("*") if p.is_file())
    return {str(p): p.read_bytes() for p in found if not left_out & {*p.relative_to(home).parts}}


def test_a_plan_changes_nothing_and_its_execution_leaves_nothing(av: Av, lake: Lake, home: Path) -> None:
    before = files(home)
    planned = av("forget", "--vehicle", "v1", "--from", "1970-01-01", "--to", "1970-01-02", *ASKED)
    assert planned.exit_code == 0, planned.output
    assert "3 drives would be erased; nothing has happened yet" in planned.output
    for drive in DRIVES:
        assert f"  {drive}\n" in planned.output
    plan = said(av("forget", "--drive", "veh1-a", *ASKED, "--json"))
    assert plan["drives"] == ["veh1-a"]
    assert plan["extent"]["files"]["landing"] == 2
    assert files(home) == before
    done = av("forget", "--execute", plan["plan"], "--no-remake")
    assert done.exit_code == 0, done.output
    assert "golden_slices/2025-06-02: not asked for" in done.output
    assert mentions(lake, home, mark("veh1-a"), set()) == []
    assert mentions(lake, home, mark("veh1-ab"), set()) != []
    refused(av("forget", "--drive", "veh1-a", *ASKED), "nothing_to_erase")
    refused(av("forget", "--drive", "veh1-x", *ASKED), "no_such_drive")
    refused(av("forget", "--vehicle", "v1"), "bad_request")
    refused(av("forget", *ASKED), "bad_scope")


def test_a_hold_between_plan_and_deed_wins(av: Av, lake: Lake) -> None:
    plan = said(av("forget", "--drive", "veh1-a", "--drive", "veh1-b", *ASKED, "--json"))["plan"]
    hold = said(av("hold", "add", "--drive", "veh1-a", "--by", "legal", "--reason", "a case", "--json"))
    receipt = said(av("forget", "--execute", plan, "--no-remake", "--json"))
    assert receipt["drives"] == ["veh1-b"]
    assert receipt["kept"]["held"] == {"veh1-a": [hold["id"]]}
    assert lake.verify(lake.require("raw_logs", "veh1-a")) == []
    refused(av("forget", "--drive", "veh1-a", *ASKED, "--yes", "--no-remake"), "on_hold")
    lifted = av("hold", "lift", hold["id"], "--by", "legal", "--reason", "settled")
    assert lifted.exit_code == 0, lifted.output
    assert "lifted by legal" in av("hold", "list").output
    receipt = said(av("forget", "--drive", "veh1-a", *ASKED, "--yes", "--no-remake", "--json"))
    assert receipt["drives"] == ["veh1-a"]
    late = said(av("hold", "add", "--drive", "veh1-a", "--by", "legal", "--reason", "late", "--json"))
    assert late["erased_before"] == ["veh1-a"]


def test_drives_whose_time_is_over_go_and_the_others_stay(
    av: Av, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(av("forget", "--expired", *ASKED), "nothing_to_erase")  # by default no time ends
    now = time.time_ns()
    young = pa.table({"drive": ["veh1-b"], "vehicle": ["v1"], "start_ns": [now - 10], "end_ns": [now],
                      "note": ["x"]})  # fmt: skip
    lake.tables.replace("drives", young, key="drive", value="veh1-b")
    ends = RetentionPolicy.load().model_copy(update={"keep_days": {"archived": 30.0}})
    monkeypatch.setattr(RetentionPolicy, "load", classmethod(lambda cls: ends))
    refused(av("forget", "--expired", "--vehicle", "v1", *ASKED), "bad_scope")
    receipt = said(av("forget", "--expired", *ASKED, "--yes", "--no-remake", "--json"))
    assert receipt["drives"] == ["veh1-a", "veh1-ab"]
    assert tombstones.listing(lake) == {"veh1-a", "veh1-ab"}


def test_a_drive_that_a_run_has_is_not_erased(av: Av, lake: Lake, instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(
        dg.Definitions(assets=[dg.AssetSpec("x")]).resolve_implicit_global_asset_job_def(),
        tags={"dagster/partition": "veh1-a"}, status=dg.DagsterRunStatus.STARTED,
    )  # fmt: skip
    plan = said(av("forget", "--drive", "veh1-a", *ASKED, "--json"))["plan"]
    refused(av("forget", "--execute", plan, "--no-remake"), "drive_is_busy")
    assert tombstones.listing(lake) == set()
    assert lake.verify(lake.require("raw_logs", "veh1-a")) == []
    instance.report_run_canceled(run)
    assert said(av("forget", "--execute", plan, "--no-remake", "--json"))["drives"] == ["veh1-a"]


def test_a_receipt_of_which_one_byte_was_changed_is_refused(av: Av, lake: Lake, home: Path) -> None:
    plan = said(av("forget", "--drive", "veh1-a", *ASKED, "--yes", "--no-remake", "--json"))["plan"]
    assert said(av("receipts", "verify", plan[:6], "--json"))["drives"] == ["veh1-a"]
    listed = said(av("receipts", "list", "--json"))["receipts"]
    assert [(one["plan"], one["by"]) for one in listed] == [(plan, "dpo")]
    assert json.loads(av("receipts", "show", plan).stdout)["request"]["reason"] == "request 4711"
    entry = lake.require(receipts.ASSET, plan).entry(receipts.FILE)
    path = home / "lake" / "objects" / entry.sha256[:2] / entry.sha256
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data.replace(b"request 4711", b"request 4712"))
    refused(av("receipts", "verify", plan), "damaged_object")
    path.write_bytes(data)
    [signature] = (home / "lake" / "manifests" / receipts.ASSET / plan).glob("*.signature")
    signed = signature.read_bytes()
    at = signed.index(b'"signature":"') + 20
    signature.chmod(0o644)
    signature.write_bytes(signed[:at] + (b"A" if signed[at : at + 1] != b"A" else b"B") + signed[at + 1 :])
    refused(av("receipts", "verify", plan), "broken_signature")
