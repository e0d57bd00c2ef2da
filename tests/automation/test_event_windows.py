"""event_windows over a small lake: the rows of its table, what it reads, and what happens on bad clips.

Belongs here: the asset. Does not belong here: the detectors (tests/domain/events).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from av_assets.domain.evidence.claims import Claim
from av_assets.gates import Gate
from av_assets.mining.scenes import event_windows
from av_assets.policies.events import EventsPolicy
from resources import quarantine
from resources.lake import Lake

S = 1_000_000_000
START_NS = 1_748_764_800 * S


@dataclass
class Toy:
    lake: Lake
    instance: dg.DagsterInstance
    folder: Path

    def record(
        self, drive: str, brakings: tuple[float, ...], checked: bool = True, twice: bool = False
    ) -> None:
        """Four clips of 5 s at 15 m/s with brakings of 1.5 s at 5.5 m/s2."""
        out = self.folder / f"{drive}-{len(list(self.folder.iterdir()))}"
        (out / "clips").mkdir(parents=True)
        stamps = START_NS + np.arange(200) * S // 10
        stamps[7] = stamps[8] if twice else stamps[7]
        accel = np.zeros(200)
        for at in brakings:
            accel[round(at * 10) : round(at * 10) + 15] = -5.5
        for number in range(4):
            rows = slice(number * 50, number * 50 + 50)
            signals = pa.StructArray.from_arrays(
                [pa.array(accel[rows]), pa.array(np.full(50, 0.7 * (accel[rows].min() < 0)))],
                names=["accel_mps2", "brake"],
            )
            clip = pa.table(
                {"clip_id": [f"{drive}/{number:05d}"] * 50, "ref_ns": stamps[rows], "signals": signals}
            )
            pq.write_table(clip, out / "clips" / f"{number:05d}.parquet")
        if checked:
            Gate("synced_shards_are_good", lambda _: [Claim("synced_shards_are_good", True)]).write_record(
                out
            )
        self.lake.publish("synced_shards", drive, out)

    def run(self, drive: str) -> dg.ExecuteInProcessResult:
        self.instance.add_dynamic_partitions("drive", [drive])
        return dg.materialize(
            [event_windows], partition_key=drive, instance=self.instance,
            resources={"lake": self.lake}, raise_on_error=False,
        )  # fmt: skip

    def rows(self) -> list[dict[str, object]]:
        found = self.lake.tables.read("events")
        return (
            sorted(found.to_pylist(), key=lambda r: (r["drive"], r["start_ns"])) if found is not None else []
        )


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Toy]:
    (tmp_path / "made").mkdir()
    lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Toy(lake, instance, tmp_path / "made")


def test_rows_name_clip_policy_evidence_and_tags(toy: Toy) -> None:
    toy.record("d1", (3.0, 12.0))
    result = toy.run("d1")
    assert result.success
    first, second = toy.rows()
    assert [row["clip_id"] for row in (first, second)] == ["d1/00000", "d1/00002"]
    assert (first["kind"], first["level"], first["drive"]) == ("harsh_brake", 2, "d1")
    assert first["policy_digest"] == EventsPolicy.load().digest
    assert first["tags"] == []
    evidence = json.loads(str(first["evidence"]))
    assert evidence["sources_agree"] is True
    assert 0 < len(evidence["samples"]) <= 20
    assert json.loads(str(first["made_from"])) == {
        "synced_shards": toy.lake.require("synced_shards", "d1").content
    }
    [event] = result.asset_materializations_for_node("event_windows")
    assert event.metadata["dagster/row_count"].value == 2
    assert event.metadata["kinds"].value == {"harsh_brake": 2}
    assert "tags" in event.metadata["events"].records[0].data  # type: ignore[union-attr]


def test_a_drive_that_is_made_again_replaces_its_rows_and_no_others(toy: Toy) -> None:
    toy.record("d1", (3.0, 12.0))
    toy.record("d2", (8.0,))
    assert toy.run("d1").success
    assert toy.run("d2").success
    assert [row["drive"] for row in toy.rows()] == ["d1", "d1", "d2"]
    toy.record("d1", (5.5,))
    assert toy.run("d1").success
    assert [(row["drive"], row["clip_id"]) for row in toy.rows()] == [("d1", "d1/00001"), ("d2", "d2/00001")]


def test_a_calm_drive_gives_an_empty_table_and_says_so(toy: Toy) -> None:
    toy.record("d1", ())
    assert toy.run("d1").success
    assert toy.rows() == []
    assert toy.lake.require("event_windows", "d1").note == "no event found"


def test_clips_without_a_record_of_their_checks_are_refused(toy: Toy) -> None:
    toy.record("d1", (3.0,), checked=False)
    result = toy.run("d1")
    assert not result.success
    assert toy.rows() == []


def test_frames_with_one_stamp_put_the_drive_into_quarantine(toy: Toy) -> None:
    toy.record("d1", (3.0,), twice=True)
    assert toy.run("d1").success
    assert toy.rows() == []
    [row] = quarantine.listing(toy.lake)
    assert (row["drive"], row["stage"], row["code"]) == ("d1", "event_windows", "duplicate_stamps")
