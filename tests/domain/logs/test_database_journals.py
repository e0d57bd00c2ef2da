"""Databases as a killed recorder leaves them: with a rollback journal or a write-ahead log, or cut."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from log_writers import DELAY_NS, IMU, drive, store, write_rosbag2

from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.reader import LogReader, header_stamp_ns

if TYPE_CHECKING:
    from pathlib import Path

Contents = list[tuple[str, int, bytes]]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    types = store()
    return next(write_rosbag2(tmp_path / "bag", drive(types), types, "SQLITE3").glob("*.db3"))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def contents(path: Path) -> Contents:
    with LogReader(path) as reader:
        return [(raw.topic, raw.log_ns, raw.data) for raw in reader.messages()]


def killed(database: Path, folder: Path, mode: str, committed: int, uncommitted: int) -> Path:
    """A copy of the database taken while a recorder writes: some rows committed, then some not."""
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA cache_size = 2")  # what is not committed spills into the files
        insert = "INSERT INTO messages (topic_id, timestamp, data) "
        insert += "SELECT topic_id, timestamp + ?, data FROM messages WHERE id = ?"
        for rows in (committed, uncommitted):
            db.execute("BEGIN")
            for row in range(1, rows + 1):
                db.execute(insert, (1 << 40, row))
            if rows == committed:
                db.execute("COMMIT")
        folder.mkdir()
        for path in database.parent.glob("*.db3*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, folder / path.name)
        db.execute("ROLLBACK")
    return folder


@pytest.mark.parametrize(("mode", "ending"), [("WAL", "-wal"), ("DELETE", "-journal")])
def test_committed_messages_are_kept_and_uncommitted_ones_are_not(
    database: Path, tmp_path: Path, temporary: Path, mode: str, ending: str
) -> None:
    before = contents(database)
    folder = killed(database, tmp_path / "killed", mode, committed=30, uncommitted=150)
    (side,) = folder.glob(f"*{ending}")
    assert side.stat().st_size
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    kept = contents(folder)
    assert set(before) < set(kept)
    assert len(kept) == 180 + 30
    verdict = inspect_log(folder)
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "hot_journal", 210)
    assert side.name in verdict.reason
    assert "became 210" in verdict.reason
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert not list(temporary.iterdir())


def test_a_database_whose_tables_are_all_in_the_write_ahead_log(tmp_path: Path, database: Path) -> None:
    source = sqlite3.connect(database)
    target = sqlite3.connect(tmp_path / "x.db3")
    target.execute("PRAGMA journal_mode = WAL")
    target.execute("PRAGMA wal_autocheckpoint = 0")
    with closing(source), closing(target):
        target.executescript("\n".join(source.iterdump()))
        (tmp_path / "killed").mkdir()
        for name in ("x.db3", "x.db3-wal"):
            shutil.copy(tmp_path / name, tmp_path / "killed" / name)
    assert contents(tmp_path / "killed") == contents(database)


def test_a_journal_that_is_done_or_no_journal_changes_nothing(database: Path) -> None:
    journal = database.with_name(database.name + "-journal")
    journal.write_bytes(bytes(512))  # a finished one that is kept has a header of zeros
    assert (inspect_log(database).state, inspect_log(database).messages) == ("ok", 180)
    journal.unlink()
    database.with_name(database.name + "-wal").write_bytes(b"no log of changes")
    assert (inspect_log(database).code, inspect_log(database).messages) == ("hot_journal", 180)


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_a_cut_database_gives_the_rows_of_its_whole_pages(database: Path, share: float) -> None:
    whole, data = contents(database), database.read_bytes()
    for size in (int(len(data) * share), int(len(data) * share) // 4096 * 4096):
        database.write_bytes(data[:size])
        kept = contents(database)
        assert (share - 0.39) * len(whole) < len(kept) < len(whole)  # the schema takes the first pages
        assert set(kept) < set(whole)
        verdict = inspect_log(database)
        assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "cut_record", len(kept))


def test_a_window_of_time_opens_only_its_own_ranges(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av_assets.domain.logs.files.sqlite_log.BLOCK_BYTES", 4096)
    whole = contents(database)
    with LogReader(database) as reader:
        source = reader.sources[0]
        assert len(source.blocks) > 10
        assert [(raw.topic, raw.log_ns, raw.data) for raw in reader.messages()] == whole
        start_ns, end_ns = whole[60][1], whole[90][1]
        opened: list[int] = []
        original = source.read
        source.read = lambda block, wanted: (opened.append(1), original(block, wanted))[1]  # type: ignore[method-assign]
        part = [(raw.topic, raw.log_ns, raw.data) for raw in reader.messages(None, start_ns, end_ns)]
        assert part == [one for one in whole if start_ns <= one[1] < end_ns]
        assert len(opened) < len(source.blocks) / 2


def test_without_an_index_on_time_the_rows_still_come_in_order(database: Path) -> None:
    whole = contents(database)
    with closing(sqlite3.connect(database)) as db:
        db.execute("DROP INDEX IF EXISTS timestamp_idx")
        db.commit()
    assert contents(database) == whole
    with LogReader(database) as reader:
        assert len(reader.sources[0].blocks) == 1
        assert sum(1 for _ in reader.messages([IMU])) == 100


def test_rows_without_a_time_are_told(database: Path) -> None:
    with closing(sqlite3.connect(database)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '') WHERE name = 'messages'")
        db.commit()
    with closing(sqlite3.connect(database)) as db:
        db.execute("UPDATE messages SET timestamp = 'noon' WHERE id = 50")
        db.execute("UPDATE messages SET timestamp = NULL WHERE id = 51")
        db.commit()
    verdict = inspect_log(database)
    assert (verdict.state, verdict.messages) == ("salvaged", 178)


@pytest.mark.parametrize("with_metadata", [True, False])
def test_a_split_recording_of_databases(tmp_path: Path, with_metadata: bool) -> None:
    types = store()
    sent = drive(types)
    folder = tmp_path / "split"
    folder.mkdir()
    names = ["x_0.db3", "x_1.db3"]
    for name, part in zip(names, (sent[:90], sent[90:]), strict=True):
        bag = write_rosbag2(tmp_path / f"{name}_bag", part, types, "SQLITE3")
        shutil.copy(next(bag.glob("*.db3")), folder / name)
    if with_metadata:
        lines = ["rosbag2_bagfile_information:", "  relative_file_paths:", *(f"  - {name}" for name in names)]
        (folder / "metadata.yaml").write_text("\n".join(lines))
    with LogReader(folder) as reader:
        assert [raw.log_ns for raw in reader.messages()] == [one.log_ns for one in sent]
    assert (inspect_log(folder).state, inspect_log(folder).messages) == ("ok", 180)


def test_an_old_database_without_definitions(database: Path) -> None:
    """Early versions of rosbag2 kept no definitions: the bundled ones and the known headers serve."""
    with closing(sqlite3.connect(database)) as db:
        db.executescript("DROP TABLE message_definitions; DROP TABLE schema; DROP TABLE metadata;")
    with LogReader(database) as reader:
        imu = list(reader.messages([IMU]))
        assert [header_stamp_ns(raw) for raw in imu] == [raw.log_ns - DELAY_NS for raw in imu]
        assert reader.deserialize(imu[0]).linear_acceleration.z == 9.81
    assert inspect_log(database).state == "ok"
