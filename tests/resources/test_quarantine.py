"""The quarantine: one reason per drive, and out again by the stage that put it in."""

from __future__ import annotations

from av_assets.domain.errors import LogError, SyncError
from resources import quarantine
from resources.lake import Lake

ROTTEN = LogError(
    "log ends in the middle of a record", code="truncated", file="recording/0.mcap", remedy="copy again"
)


def put(lake: Lake, drive: str, stage: str = "raw_logs", error: LogError | SyncError = ROTTEN) -> None:
    quarantine.put(lake, drive, stage, error, run_id="run-1", now_ns=17)


def test_row_says_where_why_and_what_to_do(lake: Lake) -> None:
    put(lake, "veh001-a")
    assert quarantine.listing(lake) == [
        {
            "drive": "veh001-a",
            "stage": "raw_logs",
            "code": "truncated",
            "reason": "log ends in the middle of a record",
            "file": "recording/0.mcap",
            "remedy": "copy again",
            "run_id": "run-1",
            "at_ns": 17,
        }
    ]


def test_listing_is_sorted_and_empty_before_the_first(lake: Lake) -> None:
    assert quarantine.listing(lake) == []
    put(lake, "veh002")
    put(lake, "veh001")
    assert [row["drive"] for row in quarantine.listing(lake)] == ["veh001", "veh002"]


def test_later_reason_replaces_the_earlier_one(lake: Lake) -> None:
    put(lake, "veh001")
    put(lake, "veh001", "synced_shards", SyncError("clocks drift apart"))
    [row] = quarantine.listing(lake)
    assert (row["stage"], row["code"], row["file"]) == ("synced_shards", "sync_failed", "")


def test_only_the_stage_that_put_a_drive_in_lets_it_out(lake: Lake) -> None:
    put(lake, "veh001")
    put(lake, "veh002")
    assert not quarantine.release(lake, "veh001", "synced_shards")
    assert len(quarantine.listing(lake)) == 2
    assert quarantine.release(lake, "veh001", "raw_logs")
    assert [row["drive"] for row in quarantine.listing(lake)] == ["veh002"]


def test_release_of_a_drive_that_is_not_in_writes_nothing(lake: Lake) -> None:
    put(lake, "veh001")
    before = lake.tables.version("quarantine")
    quarantine.release(lake, "veh009", "raw_logs")
    assert lake.tables.version("quarantine") == before
