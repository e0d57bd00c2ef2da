"""Delta tables: one partition is replaced at a time, whoever else is writing."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from av_assets.domain.catalog.schemas import column, meanings
from av_assets.domain.errors import TransientError
from resources.lake import Lake
from resources.tables import FOLD_EVERY, Tables


def rows(drive: str, *numbers: int) -> pa.Table:
    return pa.table(
        {
            "drive": pa.array([drive] * len(numbers), pa.string()),
            "frames": pa.array(numbers, pa.int64()),
        }
    )


def replace(tables: Tables, drive: str, *numbers: int) -> None:
    tables.replace("clips", rows(drive, *numbers), key="drive", value=drive)


def found(tables: Tables) -> list[tuple[str, int]]:
    table = tables.read("clips")
    assert table is not None
    return sorted((row["drive"], row["frames"]) for row in table.to_pylist())


def test_replace_touches_one_partition_only(lake: Lake) -> None:
    replace(lake.tables, "veh001", 1, 2)
    replace(lake.tables, "veh002", 3)
    replace(lake.tables, "veh001", 4)
    assert found(lake.tables) == [("veh001", 4), ("veh002", 3)]


def test_replace_by_nothing_empties_the_partition(lake: Lake) -> None:
    replace(lake.tables, "veh001", 1)
    replace(lake.tables, "veh002", 2)
    replace(lake.tables, "veh001")
    assert found(lake.tables) == [("veh002", 2)]


def test_repeating_a_replace_changes_no_rows(lake: Lake) -> None:
    for _ in range(3):
        replace(lake.tables, "veh001", 1, 2)
    assert found(lake.tables) == [("veh001", 1), ("veh001", 2)]


def test_remove_takes_one_partition_out(lake: Lake) -> None:
    replace(lake.tables, "veh001", 1)
    replace(lake.tables, "veh002", 2)
    lake.tables.remove("clips", key="drive", value="veh001")
    assert found(lake.tables) == [("veh002", 2)]
    lake.tables.remove("nothing", key="drive", value="veh001")


def test_value_with_a_quote_is_a_value(lake: Lake) -> None:
    replace(lake.tables, "o'hara", 1)
    replace(lake.tables, "o'hara", 2)
    assert found(lake.tables) == [("o'hara", 2)]
    lake.tables.remove("clips", key="drive", value="o'hara")
    assert found(lake.tables) == []


def test_read_filters_and_knows_what_is_not_there(lake: Lake) -> None:
    assert lake.tables.read("clips") is None
    assert lake.tables.version("clips") is None
    replace(lake.tables, "veh001", 1, 5)
    replace(lake.tables, "veh002", 9)
    table = lake.tables.read("clips", filters=[("drive", "=", "veh001"), ("frames", ">", 2)])
    assert table is not None
    assert table.to_pylist() == [{"drive": "veh001", "frames": 5}]


def test_version_grows_with_every_replace(lake: Lake) -> None:
    replace(lake.tables, "veh001", 1)
    first = lake.tables.version("clips")
    replace(lake.tables, "veh001", 2)
    assert first is not None
    assert lake.tables.version("clips") == first + 1


def test_column_that_comes_later_is_empty_in_older_rows(lake: Lake) -> None:
    replace(lake.tables, "veh001", 1)
    wider = rows("veh002", 2).append_column("weather", pa.array(["fog"]))
    lake.tables.replace("clips", wider, key="drive", value="veh002")
    table = lake.tables.read("clips")
    assert table is not None
    assert {r["drive"]: r["weather"] for r in table.to_pylist()} == {"veh001": None, "veh002": "fog"}


def test_duckdb_sees_the_tables_as_views(lake: Lake) -> None:
    replace(lake.tables, "veh001", 1, 2)
    replace(lake.tables, "veh002", 3)
    with lake.tables.connect("clips", "not_written_yet") as connection:
        sums = connection.sql(
            "select drive, sum(frames)::int from clips group by drive order by drive"
        ).fetchall()
    assert sums == [("veh001", 3), ("veh002", 3)]


def test_four_processes_at_once_lose_nothing(folder_lake: Lake) -> None:
    """They race for the first commit as well: nobody made the table for them."""
    context = multiprocessing.get_context("spawn")
    root = str(Path(folder_lake.store.root))  # type: ignore[union-attr]
    with ProcessPoolExecutor(4, mp_context=context) as pool:
        list(pool.map(_replace_three, [root] * 4, range(4)))
    assert found(folder_lake.tables) == [(f"veh00{w}-{n}", 2) for w in range(4) for n in range(3)]


def _replace_three(root: str, worker: int) -> None:
    tables = Tables(root, {})
    for number in range(3):
        for take in (1, 2):
            replace(tables, f"veh00{worker}-{number}", take)


def test_removals_beside_each_other_all_happen(folder_lake: Lake) -> None:
    for number in range(6):
        replace(folder_lake.tables, f"veh{number}", 1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: folder_lake.tables.remove("clips", key="drive", value=f"veh{n}"), range(5)))
    assert found(folder_lake.tables) == [("veh5", 1)]


def test_table_that_stays_busy_says_so(folder_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    from deltalake.exceptions import CommitFailedError

    def busy(*_: object, **__: object) -> None:
        raise CommitFailedError("somebody else was first")

    monkeypatch.setattr("deltalake.write_deltalake", busy)
    monkeypatch.setattr("resources.tables.time.sleep", lambda _: None)
    with pytest.raises(TransientError) as caught:
        replace(folder_lake.tables, "veh001", 1)
    assert caught.value.code == "table_busy"


def test_names_are_those_of_the_tables_that_there_are(lake: Lake) -> None:
    assert lake.tables.names() == []
    lake.store.put("tables/no_table/readme.txt", b"x")
    replace(lake.tables, "veh001", 1)
    lake.tables.replace("drives", rows("veh001", 1), key="drive", value="veh001")
    assert lake.tables.names() == ["clips", "drives"]


def test_connect_without_names_takes_all_and_reaches_nothing_else(lake: Lake, tmp_path: Path) -> None:
    replace(lake.tables, "veh001", 1, 2)
    lake.tables.replace("drives", rows("veh001", 7), key="drive", value="veh001")
    (tmp_path / "x.csv").write_text("a\n1\n")
    with lake.tables.connect() as connection:
        found = connection.sql(
            "select max(d.frames), count(*) from clips join drives d using (drive)"
        ).fetchall()
        assert found == [(7, 2)]
        with pytest.raises(duckdb.Error):
            connection.sql(f"select * from read_csv('{tmp_path / 'x.csv'}')").fetchall()


def test_query_of_a_drive_opens_only_its_files(folder_lake: Lake) -> None:
    """The other drive's file is damaged: who read it would notice."""
    replace(folder_lake.tables, "veh001", 1)
    replace(folder_lake.tables, "veh002", 2)
    root = Path(folder_lake.tables.path("clips"))
    [path] = [file for file in root.glob("*.parquet") if "veh002" in pq.read_table(file)["drive"].to_pylist()]
    path.write_bytes(b"damaged")
    with folder_lake.tables.connect("clips") as connection:
        assert connection.sql("select frames from clips where drive = 'veh001'").fetchall() == [(1,)]
    with (
        folder_lake.tables.connect("clips") as connection,
        pytest.raises((duckdb.Error, RuntimeError, OSError)),
    ):
        connection.sql("select frames from clips").fetchall()


def test_facts_are_those_of_the_rows(lake: Lake) -> None:
    assert lake.tables.facts("clips") is None
    replace(lake.tables, "veh001", 1, 2)
    replace(lake.tables, "veh002", 3)
    facts = lake.tables.facts("clips")
    assert facts is not None
    assert (facts.rows, facts.files) == (3, 2)
    assert facts.version == lake.tables.version("clips")
    assert set(facts.schema.names) == {"drive", "frames"}


def test_meaning_of_columns_travels_with_the_table(lake: Lake) -> None:
    replace(lake.tables, "veh001", 1)
    said = pa.schema(
        [column("drive", pa.string(), "the drive"), column("weather", pa.string(), "as declared")]
    )
    lake.tables.replace(
        "clips", pa.table({"drive": ["veh002"], "weather": ["fog"]}, said), key="drive", value="veh002"
    )
    replace(lake.tables, "veh003", 3)
    facts = lake.tables.facts("clips")
    assert facts is not None
    assert meanings(facts.schema) == {"drive": "the drive", "weather": "as declared"}
    with lake.tables.connect("clips") as connection:
        found = connection.sql("select drive, weather from clips order by drive").fetchall()
    assert found == [("veh001", None), ("veh002", "fog"), ("veh003", None)]


def test_removed_rows_are_gone_from_every_reader(lake: Lake) -> None:
    replace(lake.tables, "veh001", 1)
    replace(lake.tables, "veh002", 2)
    lake.tables.remove("clips", key="drive", value="veh001")
    with lake.tables.connect("clips") as connection:
        assert connection.sql("select drive, frames from clips").fetchall() == [("veh002", 2)]
    facts = lake.tables.facts("clips")
    assert facts is not None
    assert facts.rows == 1


def test_small_files_are_folded_and_no_row_is_lost(folder_lake: Lake) -> None:
    names = [f"veh{number:03d}" for number in range(2 * FOLD_EVERY + 5)]
    for number, name in enumerate(names):
        replace(folder_lake.tables, name, number)
    replace(folder_lake.tables, names[3], 777)
    facts = folder_lake.tables.facts("clips")
    assert facts is not None
    assert facts.files < FOLD_EVERY
    assert found(folder_lake.tables) == [(n, 777 if i == 3 else i) for i, n in enumerate(names)]


def test_a_table_that_was_partitioned_by_drive_goes_on_working(folder_lake: Lake) -> None:
    write_deltalake(folder_lake.tables.path("clips"), rows("veh001", 1), partition_by=["drive"])
    replace(folder_lake.tables, "veh002", 2)
    replace(folder_lake.tables, "veh001", 3, 4)
    assert found(folder_lake.tables) == [("veh001", 3), ("veh001", 4), ("veh002", 2)]
