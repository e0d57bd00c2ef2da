"""The assets of mining over a small lake: candidates, the evidence behind why-not, the ledger and its next specs.

Belongs here: assets, checks and commands. Does not belong here: the algorithms (tests/domain/mining).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from av_assets.cli import mining as cli_mining
from av_assets.domain.evidence.manifest import Manifest
from av_assets.domain.search.keyframe_hashes import KeyframeHash, hash_rows, write_hashes
from av_assets.mining import accepted, pools, scenarios
from av_assets.policies.mining import MiningPolicy, MiningSpec, Weights
from partitions.drives import drives
from resources.lake import Lake

DAY, NS = "2026-03-04", 10**9
NIGHT, SUN, GOLDEN = "veh001-night", "veh001-sun", "veh002-golden"
RELEVANCE = {"relevance": 1, "rarity": 0, "uncertainty": 0, "disagreement": 0, "diversity": 0}
CLIPS = {NIGHT: 6, SUN: 3, GOLDEN: 2}
UPSTREAM = ("drive_catalog", "enriched_clips", "event_windows", "scenes", "auto_labels", "golden_slices")


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("AV_HOME", str(tmp_path / "home"))
    made = Lake(uri=(tmp_path / "home" / "lake").as_uri(), scratch=str(tmp_path / "home" / "scratch"))
    for number, (drive, clips) in enumerate(CLIPS.items()):
        _fill_tables(made, drive, clips, number * 1000 * NS)
        _fill_bundles(made, drive, clips, tmp_path / drive)
    folder = tmp_path / "golden"
    folder.mkdir()
    dataset = {
        "week": "2025-06-02",
        "members": [{"drive": GOLDEN, "split": "train", "frames": 9}],
        "slices": {"all": []},
        "left_out": {},
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))
    made.publish("golden_slices", "2025-06-02", folder)
    return made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def _fill_tables(lake: Lake, drive: str, clips: int, start_ns: int) -> None:
    light = "day" if drive == SUN else "night"
    rows = [
        {"drive": drive, "clip_id": f"{drive}/{n:05d}", "start_ns": start_ns + n * 5 * NS,
         "end_ns": start_ns + n * 5 * NS + 4_900_000_000, "frames": 50, "mean_speed_mps": 12.0, "light": light,
         "sun_elevation_deg": 23.1 if light == "day" else -20.0, "camera_valid_share": 1.0,
         "sensor_health": 1.0}
        for n in range(clips)
    ]  # fmt: skip
    context = [
        {"drive": drive, "clip_id": r["clip_id"], "weather": "rain", "road_class": "primary"} for r in rows
    ]
    events = [
        {"drive": drive, "kind": kind, "level": 2, "start_ns": r["start_ns"], "end_ns": r["end_ns"],
         "clip_id": r["clip_id"], "peak": -5.0, "evidence": "{}", "policy_digest": "", "tags": ["dark"]}
        for r, kind in zip(rows, ["cut_in", "harsh_brake"] * clips, strict=False)
    ]  # fmt: skip
    scene = {"drive": drive, "clip_ids": [rows[0]["clip_id"]], "tags": ["wet"], "max_level": 2, "pedestrians": 1,
             "description": f"A cut-in at {light} in the rain.", "scene_id": f"{drive}-0", "start_ns": start_ns,
             "end_ns": start_ns + 5 * NS}  # fmt: skip
    start = {"drive": drive, "start_ns": start_ns, "vehicle": drive[:6], "zone": "urban", "region": "eu"}
    for name, held in (
        ("clips", rows),
        ("clip_context", context),
        ("events", events),
        ("scenes", [scene]),
        ("drives", [start]),
    ):
        lake.tables.replace(name, pa.Table.from_pylist(held), key="drive", value=drive)


def _fill_bundles(lake: Lake, drive: str, clips: int, folder: Path) -> None:
    """Clips 0 and 1 of a drive show the same picture, clips 2 and 3 have the same vector."""
    rng = np.random.default_rng(sum(drive.encode()))
    for part in ("synced_shards/clips", "clip_embeddings", "auto_labels"):
        (folder / part).mkdir(parents=True)
    vectors = np.linalg.qr(rng.normal(size=(8, 8)))[0][:clips].astype(np.float32)
    if clips > 3:
        vectors[3] = vectors[2]
    for n in range(clips):
        _write_clip(folder / "synced_shards" / "clips" / f"{n:05d}.parquet", 1 if n == 0 else n, drive)
    pq.write_table(
        pa.table(
            {
                "clip_id": [f"{drive}/{n:05d}" for n in range(clips)],
                "camera": ["camera_front"] * clips,
                "model_digest": ["m"] * clips,
                "preproc_digest": ["p"] * clips,
                "embedding": pa.array([v.tolist() for v in vectors], pa.list_(pa.float32(), 8)),
            }
        ),
        folder / "clip_embeddings" / "embeddings.parquet",
    )
    labels = [{"clip_id": f"{drive}/00000", "ref_ns": 1, "cls": "vehicle", "score": 0.5}] * 2
    pq.write_table(pa.Table.from_pylist(labels), folder / "auto_labels" / "labels.parquet")
    frames = [{"clip_id": f"{drive}/{n:05d}", "ref_ns": 1} for n in range(clips)]
    pq.write_table(pa.Table.from_pylist(frames), folder / "auto_labels" / "drivable.parquet")
    for asset in ("synced_shards", "clip_embeddings", "auto_labels"):
        lake.publish(asset, drive, folder / asset)


def _write_clip(path: Path, seed: int, drive: str) -> None:
    import cv2

    picture = np.random.default_rng([seed, *drive.encode()]).integers(0, 256, (8, 9, 3), np.uint8)
    data = cv2.imencode(".png", cv2.resize(picture, (90, 80), interpolation=cv2.INTER_NEAREST))[1].tobytes()
    cell = {"data": data, "encoding": "png", "sensor_ns": 1, "log_ns": 1, "delta_ns": 0, "valid": True}
    table = pa.table({"camera_front": [cell] * 3}).replace_schema_metadata({"redacted": "true"})
    pq.write_table(table, path)


def make(lake: Lake, instance: dg.DagsterInstance, *chosen: str) -> dg.ExecuteInProcessResult:
    stubs = [dg.AssetSpec(name, partitions_def=drives) for name in UPSTREAM] + [
        dg.AssetSpec("similarity_index")
    ]
    assets: list[Any] = [scenarios.scenario_candidates, scenarios.coverage_ledgers]
    checks = [scenarios.candidates_respect_budget_and_quotas, scenarios.coverage_gaps_are_listed]
    return dg.materialize(
        [*assets, *checks, *stubs],
        selection=list(chosen),
        partition_key=DAY,
        instance=instance,
        resources={"lake": lake},
    )


def test_candidates_come_with_their_funnel(lake: Lake, instance: dg.DagsterInstance) -> None:
    result = make(lake, instance, "scenario_candidates")
    assert result.success
    assert all(evaluation.passed for evaluation in result.get_asset_check_evaluations())
    manifest = lake.require("scenario_candidates", DAY)
    assert {f.path for f in manifest.files} == {
        "candidates.parquet", "contact_sheet.png", "funnel.parquet", "specs.json"
    }  # fmt: skip
    rows = lake.tables.read("candidates").to_pylist()
    night = sorted(r["clip_id"] for r in rows if r["spec"] == "hard-night")
    assert night == [f"{NIGHT}/{n:05d}" for n in (0, 2, 4, 5)]
    assert {r["day"] for r in rows} == {DAY}
    funnel = pq.read_table(pa.BufferReader(lake.read_bytes(manifest, "funnel.parquet")))
    specs = json.loads(lake.read_bytes(manifest, "specs.json"))
    assert funnel.num_rows == len(specs) * sum(CLIPS.values())
    empty = {one["name"]: one["empty"] for one in specs if one["empty"]}
    assert empty == {
        "night-rain-cut-in": "where.occluded_pedestrians removed the last 4 of 11 clips after where.light 11 -> 8, "
        "where.events 8 -> 4",
        "takeovers": "where.events removed the last 11 of 11 clips",
        "people-in-the-way": "where.pedestrians removed the last 5 of 11 clips after where.events 11 -> 5",
    }
    again = make(lake, instance, "scenario_candidates")
    assert again.asset_materializations_for_node("scenario_candidates")[0].metadata["reused"].value is True


def test_specs_that_people_accepted_run_every_night(
    lake: Lake, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """And their going is told from a night without change, since it changes what was looked for."""
    before = json.loads(lake.read_bytes(_mined(lake, instance), "specs.json"))
    path = accepted.accept(
        MiningSpec(name="by-hand", like=f"{NIGHT}/00002", budget=1, weights=Weights(**RELEVANCE))
    )
    assert path == tmp_path / "home" / "policies" / "mining" / "by-hand.yaml"
    made = _mined(lake, instance)
    assert [one["name"] for one in json.loads(lake.read_bytes(made, "specs.json"))] == [
        *(one["name"] for one in before), "by-hand"
    ]  # fmt: skip
    rows = lake.tables.read("candidates").to_pylist()
    assert [r["clip_id"] for r in rows if r["spec"] == "by-hand"] == [f"{NIGHT}/00003"]
    path.unlink()
    assert json.loads(lake.read_bytes(_mined(lake, instance), "specs.json")) == before
    assert not [r for r in lake.tables.read("candidates").to_pylist() if r["spec"] == "by-hand"]


def _mined(lake: Lake, instance: dg.DagsterInstance) -> Manifest:
    assert make(lake, instance, "scenario_candidates").success
    return lake.require("scenario_candidates", DAY)


def test_why_not_answers_from_the_bundle(lake: Lake, instance: dg.DagsterInstance) -> None:
    make(lake, instance, "scenario_candidates")
    lake.tables.remove("clips", key="drive", value=SUN)  # what is asked later is not what was mined

    def ask(*words: str) -> str:
        done = CliRunner().invoke(cli_mining.why_not, list(words))
        assert done.exit_code == 0, done.output
        return done.output

    sun = ask(SUN, "--in", "hard-night", "--day", DAY)
    assert "where light is 'night' or 'twilight': it was day (sun at 23.1 deg)" in sun
    assert f"near duplicate of {NIGHT}/00000: Hamming 0 <= 8" in ask(f"{NIGHT}/00001", "--in", "hard-night")
    assert f"shows the same as {NIGHT}/00002" in ask(f"{NIGHT}/00003", "--in", "hard-night")
    assert "split train" in ask(GOLDEN, "--in", "bad-weather")
    assert "it is a member" in ask(GOLDEN, "--in", "golden_slices")
    assert "it has no verified labels" in ask(f"{SUN}/00001", "--in", "golden_slices", "--day", "2025-06-02")
    answers = json.loads(ask(NIGHT, "--in", "scenario_candidates", "--json"))
    assert {a["set"] for a in answers} >= {"hard-night", "bad-weather"}


def test_hashes_that_the_embedding_noted_are_not_made_again(lake: Lake, tmp_path: Path) -> None:
    """They count for the file that they were made from, where as many frames were looked at as mining asks."""
    policy = MiningPolicy.load()
    shards, held = (lake.require(name, NIGHT) for name in ("synced_shards", "clip_embeddings"))
    noted = [KeyframeHash(1, bits, None) for bits in (7, 8, 9)]
    rows = []
    for n, asked in ((2, policy.keyframes), (3, policy.keyframes + 1)):
        sha256 = shards.entry(f"clips/{n:05d}.parquet").sha256
        rows += hash_rows(f"{NIGHT}/{n:05d}", policy.camera, sha256, asked, noted)
    rows += hash_rows(f"{NIGHT}/00004", policy.camera, "0" * 64, policy.keyframes, noted)
    (tmp_path / "noted").mkdir()
    write_hashes(rows, tmp_path / "noted" / "hashes.parquet")
    clips = [f"{NIGHT}/{n:05d}" for n in range(6)]

    def hashes() -> Any:
        inputs = {
            f"{name}/{NIGHT}": lake.require(name, NIGHT) for name in ("synced_shards", "clip_embeddings")
        }
        return pools.evidence_of(lake, inputs, policy).hashes(clips)

    before = hashes()
    lake.publish("clip_embeddings", NIGHT, tmp_path / "noted", links=held.files)
    assert hashes() == before | {clips[2]: [7, 8, 9]}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((NIGHT, "--in", "no-such-spec"), "no_such_set"),
        (("veh999-x", "--in", "hard-night"), "no_such_subject"),
        ((NIGHT, "--in", "hard-night", "--day", "2026-01-01"), "no_such_day"),
        ((NIGHT, "--in", "golden_slices", "--day", "1999-01-04"), "no_such_day"),
    ],
)
def test_wrong_questions_are_refused(
    lake: Lake, instance: dg.DagsterInstance, words: tuple[str, ...], code: str
) -> None:
    make(lake, instance, "scenario_candidates")
    done = CliRunner().invoke(cli_mining.why_not, list(words))
    assert getattr(done.exception, "code", None) == code


def test_the_ledger_lists_gaps_and_the_next_night_mines_them(
    lake: Lake, instance: dg.DagsterInstance
) -> None:
    result = make(lake, instance, "coverage_ledgers")
    assert all(evaluation.passed for evaluation in result.get_asset_check_evaluations())
    manifest = lake.require("coverage_ledgers", DAY)
    report = json.loads(lake.read_bytes(manifest, "coverage.json"))
    assert report["hours"]["fleet"] == pytest.approx(sum(CLIPS.values()) * 5 / 3600, abs=1e-6)
    assert report["hours"]["training"] == pytest.approx(CLIPS[GOLDEN] * 5 / 3600, abs=1e-6)
    first = report["gaps"][0]
    assert first["remedy"] == "mine"
    cells = lake.tables.read("coverage").to_pylist()
    assert {(c["scope"], c["density"]) for c in cells} >= {("fleet", "empty"), ("fleet", "sparse")}
    assert math.isclose(sum(c["km"] for c in cells if c["scope"] == "fleet"), 11 * 5 * 12 / 1000)
    wanted = {s["name"] for s in yaml.safe_load(lake.read_bytes(manifest, "next_specs.yaml"))["specs"]}
    assert make(lake, instance, "scenario_candidates").success
    specs = json.loads(lake.read_bytes(lake.require("scenario_candidates", DAY), "specs.json"))
    assert wanted <= {one["name"] for one in specs}
    assert "gaps; specs for the first ones" in CliRunner().invoke(cli_mining.coverage, []).output


def test_mine_runs_a_file_of_specs_now(lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "specs.yaml"
    where = {"events": ["cut_in"], "road_users": {"min": 1}}
    asked = [
        {"name": "asked", "where": where, "text": "night rain", "budget": 2},
        {"name": "then", "sequence": "cut_in then harsh_brake within 20 s", "budget": 3},
        {"name": "like", "like": f"{NIGHT}/00002", "budget": 1, "weights": RELEVANCE},
    ]
    file.write_text(yaml.safe_dump({"specs": asked}))
    done = CliRunner().invoke(cli_mining.mine, [str(file), "--json"])
    assert done.exit_code == 0, done.exception
    found = {one["name"]: one for one in json.loads(done.output)}
    assert [c["clip_id"] for c in found["asked"]["candidates"]] == [f"{NIGHT}/00000"]
    assert found["then"]["chosen"] == 3
    assert [c["clip_id"] for c in found["like"]["candidates"]] == [f"{NIGHT}/00003"]
    shown = CliRunner().invoke(cli_mining.mine, [str(file)])
    assert "asked: 1 chosen" in shown.output


def test_labels_that_people_changed_count_as_disagreement(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "verified"
    folder.mkdir()
    rows = [{"clip_id": f"{NIGHT}/00000", "status": status} for status in ("accepted", "added")]
    pq.write_table(pa.Table.from_pylist(rows), folder / "labels.parquet")
    lake.publish("verified_labels", NIGHT, folder)
    from av_assets.policies.mining import MiningPolicy

    inputs = {f"{a}/{NIGHT}": lake.require(a, NIGHT) for a in ("auto_labels", "verified_labels")}
    evidence = pools.evidence_of(lake, inputs, MiningPolicy.load())
    assert evidence.disagreement == {f"{NIGHT}/00000": pytest.approx(2 / 3)}  # 2 automatic, 1 kept, 1 added
    assert evidence.scores == {f"{NIGHT}/00000": [0.5, 0.5]}


def test_an_empty_lake_says_so(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "scratch"))
    result = make(lake, instance, "scenario_candidates", "coverage_ledgers")
    assert result.success
    assert "the catalogue holds no clip" in lake.require("scenario_candidates", DAY).note
    assert lake.require("coverage_ledgers", DAY).note == "the catalogue holds no clip"
    assert {command.name for command in cli_mining.COMMANDS} == {"mine", "why-not", "coverage"}
