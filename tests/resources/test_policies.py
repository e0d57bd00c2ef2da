"""Proposing, activating and adjudicating on a folder lake and on a bucket: refusals, races, what is kept."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from av_assets.cli.policies import COMMANDS
from av_assets.domain.errors import AvError, EvidenceError, PolicyError
from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.evidence.signatures import sign
from av_assets.domain.triggers.versions import Version, policy_key
from av_assets.policies.events import EventsPolicy
from resources import activations
from resources.activations import activate
from resources.adjudications import adjudicate, adjudications, rows_of
from resources.lake import Lake
from resources.policies import active, propose, rollout
from resources.policy_versions import history, proposal, proposals
from resources.signing import signing_key

SHIPPED = EventsPolicy.load()
ROW = {
    "drive": "veh001-a",
    "kind": "cut_in",
    "start_ns": 1,
    "end_ns": 5,
    "verdict": "true",
    "by": "bob",
    "at_ns": 7,
}


def version(bump: int) -> str:
    major, minor, patch = Version(SHIPPED.version).numbers
    return f"{major}.{minor + bump}.{patch}"


def write(folder: Path, **edits: Any) -> Path:
    data = SHIPPED.model_dump(mode="json") | {"version": version(1)}
    for key, value in edits.items():
        section, _, name = key.rpartition("__")
        (data[section] if section else data)[name] = value
    path = folder / "events-proposed.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def refused(lake: Lake, path: Path, kind: str = "events") -> PolicyError:
    with pytest.raises(PolicyError) as error:
        propose(lake, kind, path, "ann", 1)
    assert proposals(lake) == []
    return error.value


def passed(lake: Lake, key: str) -> None:
    """A back-test that passed, as the asset would have published it."""
    found = proposal(lake, key)
    report = {"digest": found.policy.digest, "proposal": found.manifest.content, "state": "pass"}
    report |= {"reasons": [], "baseline": rollout(lake).digests}
    with lake.workdir() as folder:
        (folder / "report.json").write_bytes(canonical_json(report))
        manifest = lake.publish("policy_backtests", key, folder)
    lake.keep_signature(manifest, sign(signing_key(), manifest))


def test_without_activations_the_shipped_numbers_hold(lake: Lake) -> None:
    assert active(lake, EventsPolicy) == SHIPPED
    assert rollout(lake).of("veh001", (0, 0, 1, 1)) == SHIPPED
    assert not rollout(lake).dormant


def test_a_proposal_is_kept_signed_and_the_same_again_changes_nothing(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path, hazard__standing_s=2.5)
    first = propose(lake, "events", path, "ann", 1)
    again = propose(lake, "events", path, "eve", 2)
    assert (again.manifest.digest, again.author) == (first.manifest.digest, "ann")
    assert proposals(lake) == [first.key] == [policy_key("events", version(1))]
    assert active(lake, EventsPolicy) == SHIPPED
    with pytest.raises(PolicyError, match=r"hazard\.standing_s") as error:
        propose(lake, "events", write(tmp_path, hazard__standing_s=2.6), "ann", 3)
    assert error.value.code == "version_unchanged"


@pytest.mark.parametrize(
    ("edits", "code", "named"),
    [
        ({"version": SHIPPED.version, "hazard__standing_s": 2.5}, "version_unchanged", "hazard.standing_s"),
        ({"version": "0.0.1"}, "version_not_greater", "0.0.1"),
        ({"version": SHIPPED.version + ".1"}, "bad_version", "is not a version"),
        ({"hazard__standing_s": -1}, "policy_invalid", "hazard.standing_s"),
        ({"hazard__standing": 1}, "policy_invalid", "hazard.standing"),
        ({"cut_in__inside_m": 3.0}, "contradiction", "cut_in.outside_m"),
        ({"brake__levels_mps2": [3.0, 3.0, 6.0]}, "contradiction", "brake.levels_mps2[1]"),
        ({"exit_share": 2.0}, "contradiction", "exit_share"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_the_key(
    folder_lake: Lake, tmp_path: Path, edits: dict[str, Any], code: str, named: str
) -> None:
    error = refused(folder_lake, write(tmp_path, **edits))
    assert error.code == code
    assert named in error.reason


def test_a_small_bump_for_other_numbers_is_refused(folder_lake: Lake, tmp_path: Path) -> None:
    major, minor, patch = Version(SHIPPED.version).numbers
    path = write(tmp_path, version=f"{major}.{minor}.{patch + 1}", hazard__standing_s=2.5)
    assert refused(folder_lake, path).code == "version_bump_too_small"
    assert propose(folder_lake, "events", write(tmp_path, version=f"{major}.{minor}.{patch + 1}"), "ann", 1)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: [", "policy_unreadable"),
        ("- 1", "policy_invalid"),
        ("", "policy_invalid"),
        ("a: &a [*a]", "policy_invalid"),
        ("!!python/object/apply:os.system [ls]", "policy_unreadable"),
        ("x: 1\n" * 2, "duplicate_key"),
        ("#" * (1 << 20) + "#", "policy_too_large"),
    ],
)
def test_files_that_are_no_policy_are_refused(
    folder_lake: Lake, tmp_path: Path, text: str, code: str
) -> None:
    path = tmp_path / "events.yaml"
    path.write_text(text)
    assert refused(folder_lake, path).code == code
    assert refused(folder_lake, path, kind="golden").code == "unknown_policy_kind"


def test_the_nested_aliases_of_a_bomb_take_no_time(folder_lake: Lake, tmp_path: Path) -> None:
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    path = tmp_path / "events.yaml"
    path.write_text("\n".join(lines))
    assert refused(folder_lake, path).code == "policy_invalid"


def test_a_proposal_whose_making_died_before_it_was_signed_is_taken_up(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path, hazard__standing_s=2.5)
    found = propose(lake, "events", path, "ann", 1)
    lake.store.delete(f"manifests/policy_proposals/{found.key}/{found.manifest.digest}.signature")
    with pytest.raises(EvidenceError, match="not signed"):
        propose(lake, "events", path, "eve", 2)  # somebody else does not vouch for what ann wrote
    assert propose(lake, "events", path, "ann", 2).manifest.digest == found.manifest.digest


def test_of_two_who_activate_at_once_one_wins_and_the_other_is_told(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for bump in (1, 2):
        path = write(tmp_path, version=version(bump), hazard__standing_s=2.0 + bump / 10)
        keys.append(propose(lake, "events", path, "ann", 1).key)
        passed(lake, keys[-1])
    together, keep = threading.Barrier(2, timeout=30), activations._keep

    def both_at_once(*arguments: Any) -> None:
        together.wait()
        keep(*arguments)

    monkeypatch.setattr(activations, "_keep", both_at_once)
    outcomes: list[Any] = []

    def one(key: str) -> None:
        try:
            outcomes.append(activate(lake, "events", key.partition("-")[2], "bob", 2)["version"])
        except PolicyError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=one, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [won] = [o for o in outcomes if o != "activation_conflict"]
    assert len(outcomes) == 2
    assert [r["version"] for r in history(lake, "events")] == [won]
    assert active(lake, EventsPolicy).version == won
    rows = lake.tables.read("policy_activations")
    assert rows is not None
    assert rows["version"].to_pylist() == [won]


def test_an_activation_names_what_it_was_made_from(lake: Lake, tmp_path: Path) -> None:
    key = propose(lake, "events", write(tmp_path, hazard__standing_s=2.5), "ann", 1).key
    passed(lake, key)
    activate(lake, "events", version(1), "bob", 2)
    with pytest.raises(PolicyError, match="active already"):
        activate(lake, "events", version(1), "bob", 3)
    activate(lake, "events", "shipped", "bob", 4)
    first, second = (lake.require("policy_activations", f"events-{n:06d}") for n in (1, 2))
    assert set(first.made_from.inputs) == {f"policy_proposals/{key}", f"policy_backtests/{key}"}
    assert second.made_from.inputs == {"policy_activations/events-000001": first.digest}
    assert active(lake, EventsPolicy) == SHIPPED


def test_an_unsigned_activation_decides_nothing(folder_lake: Lake, tmp_path: Path) -> None:
    lake = folder_lake
    key = propose(lake, "events", write(tmp_path, hazard__standing_s=2.5), "ann", 1).key
    passed(lake, key)
    activate(lake, "events", version(1), "bob", 2)
    manifest = lake.require("policy_activations", "events-000001")
    lake.store.delete(f"manifests/policy_activations/events-000001/{manifest.digest}.signature")
    with pytest.raises(EvidenceError, match="not signed"):
        active(lake, EventsPolicy)


def test_only_who_has_a_name_proposes_and_only_what_was_proposed_is_activated(
    folder_lake: Lake, tmp_path: Path
) -> None:
    with pytest.raises(PolicyError, match="by somebody"):
        propose(folder_lake, "events", write(tmp_path), "  ", 1)
    with pytest.raises(PolicyError) as error:
        activate(folder_lake, "events", "7.7.7", "bob", 1)
    assert error.value.code == "no_such_version"
    with pytest.raises(PolicyError) as error:
        activate(folder_lake, "events", "../x", "bob", 1)
    assert error.value.code == "bad_version"


def test_verdicts_are_added_and_the_later_one_holds(lake: Lake) -> None:
    assert adjudications(lake) == []
    assert adjudicate(lake, [ROW, {**ROW, "start_ns": 3}]) == 2
    assert adjudicate(lake, [ROW, {**ROW, "start_ns": 3}]) == 2  # the same again
    adjudicate(lake, [{**ROW, "verdict": "false", "at_ns": 9, "reason": "a shadow"}])
    adjudicate(lake, [{**ROW, "verdict": "true", "at_ns": 8}])
    assert [(a.start_ns, a.verdict) for a in adjudications(lake)] == [(1, False), (3, True)]
    assert adjudications(lake, ["veh002-b"]) == adjudications(lake, []) == []
    rows = lake.tables.read("adjudicated_events")
    assert rows is not None
    assert rows.num_rows == 4


def test_several_adjudicate_at_once_and_nothing_is_lost(folder_lake: Lake) -> None:
    rows = [{**ROW, "start_ns": n, "end_ns": n + 1} for n in range(8)]
    threads = [threading.Thread(target=adjudicate, args=(folder_lake, [row])) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [a.start_ns for a in adjudications(folder_lake)] == list(range(8))


@pytest.mark.parametrize(
    "bad",
    [
        {"verdict": "maybe"},
        {"start_ns": "1.5"},
        {"start_ns": -1},
        {"start_ns": True},
        {"end_ns": 0},
        {"end_ns": 1 << 63},
        {"kind": "cut in"},
        {"by": ""},
        {"drive": "../x"},
        {"colour": "red"},
    ],
)
def test_one_bad_row_refuses_all(folder_lake: Lake, bad: dict[str, Any]) -> None:
    with pytest.raises(AvError):
        adjudicate(folder_lake, [ROW, {**ROW, **bad}])
    assert adjudications(folder_lake) == []


def test_files_of_verdicts_are_read_or_refused_by_name(tmp_path: Path) -> None:
    table, listed = tmp_path / "v.csv", tmp_path / "v.json"
    table.write_text("drive,kind\nveh001-a,cut_in\n")
    listed.write_text(json.dumps([ROW]))
    assert rows_of(table) == [{"drive": "veh001-a", "kind": "cut_in"}]
    assert rows_of(listed) == [ROW]
    for text in ("{}", "[1]", "[[[[", "\udcff"):
        listed.write_text(text, "utf-8", "surrogateescape")
        with pytest.raises(AvError):
            rows_of(listed)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AV_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    return tmp_path


def call(*arguments: str) -> Any:
    command = {c.name: c for c in COMMANDS}[arguments[0]]
    outcome = CliRunner().invoke(command, [*arguments[1:], "--json"], catch_exceptions=False)
    return json.loads(outcome.output)


def test_the_commands_propose_list_and_adjudicate(home: Path) -> None:
    file = write(home, hazard__standing_s=2.5)
    assert call("policy", "propose", str(file), "--by", "ann") == {"proposed": [f"events-{version(1)}"]}
    listed = call("policy", "list")
    active = {a["kind"]: a["version"] for a in listed["active"]}
    assert (active["events"], active["geofences"]) == (SHIPPED.version, "0.0.0")
    assert listed["proposed"] == [{"policy": f"events-{version(1)}", "backtest": "none"}]
    verdicts = home / "v.csv"
    verdicts.write_text("drive,kind,start_ns,end_ns,verdict\nveh001-a,cut_in,1,2,true\n")
    assert call("adjudicate", str(verdicts), "--by", "ann") == {"adjudicated": 1}
    assert call("policy", "history", "events") == {"activations": []}
    record = call("policy", "activate", "events", "shipped", "--by", "bob")
    assert (record["how"], record["by"], record["dormant_geofences"]) == ("shipped", "bob", False)
    shown = CliRunner().invoke(COMMANDS[0], ["show", f"events-{version(1)}"], catch_exceptions=False).output
    assert yaml.safe_load(shown)["hazard"]["standing_s"] == 2.5
    schema = CliRunner().invoke(COMMANDS[0], ["show", "events", "--schema"], catch_exceptions=False).output
    assert json.loads(schema)["properties"]["hazard"]
