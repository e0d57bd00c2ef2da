"""Copies of tables with many files: never older than the table, whatever happened to it since."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources import table_copies
from resources.tables import Tables


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tables:
    monkeypatch.setattr(table_copies, "MIN_FILES", 4)
    monkeypatch.setattr(table_copies, "MAX_CHANGED", 2)
    return Tables(str(tmp_path / "lake"), {}, tmp_path / "copies")


def fill(tables: Tables, drives: int) -> None:
    names = [f"d{n}" for n in range(drives) for _ in range(3)]
    rows = pa.table({"drive": names, "n": list(range(len(names)))})
    write_deltalake(tables.path("clips"), rows, partition_by=["drive"])


def put(tables: Tables, drive: str, *numbers: int) -> None:
    rows = pa.table(
        {"drive": pa.array([drive] * len(numbers), pa.string()), "n": pa.array(numbers, pa.int64())}
    )
    tables.replace("clips", rows, key="drive", value=drive)


def by_sql(tables: Tables, columns: str = "drive, n") -> list[tuple[object, ...]]:
    with tables.connect("clips") as connection:
        return sorted(connection.sql(f"select {columns} from clips").fetchall(), key=str)


def by_delta(tables: Tables) -> list[tuple[object, ...]]:
    table = tables.read("clips")
    assert table is not None
    return sorted(((row["drive"], row["n"]) for row in table.to_pylist()), key=str)


def copies(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "copies").rglob("*.parquet"))


def test_copy_is_made_once_and_read_after(tables: Tables, tmp_path: Path) -> None:
    fill(tables, 6)
    assert by_sql(tables) == by_delta(tables)
    [copy] = copies(tmp_path)
    assert by_sql(tables) == by_delta(tables)
    assert copies(tmp_path) == [copy]


def test_small_tables_have_no_copy(tables: Tables, tmp_path: Path) -> None:
    fill(tables, 3)
    assert by_sql(tables) == by_delta(tables)
    assert copies(tmp_path) == []


def test_what_changed_since_is_read_from_the_table(tables: Tables, tmp_path: Path) -> None:
    fill(tables, 6)
    by_sql(tables)
    put(tables, "d1", 100)
    put(tables, "o'hara", 101)
    assert by_sql(tables) == by_delta(tables)
    assert len(copies(tmp_path)) == 1
    put(tables, "d2", 102)
    assert by_sql(tables) == by_delta(tables)
    assert len(copies(tmp_path)) == 2  # three changes are more than allowed: folded


def test_what_was_removed_leaves_the_newest_copy_at_once(tables: Tables, tmp_path: Path) -> None:
    fill(tables, 6)
    by_sql(tables)
    tables.remove("clips", key="drive", value="d3")
    assert "d3" not in {drive for drive, _ in by_sql(tables)}
    assert "d3" not in pa.parquet.read_table(copies(tmp_path)[-1])["drive"].to_pylist()


def test_column_that_came_later_is_null_in_the_copy(tables: Tables) -> None:
    fill(tables, 6)
    by_sql(tables)
    wider = pa.table({"drive": ["d9"], "n": [1], "weather": ["fog"]})
    tables.replace("clips", wider, key="drive", value="d9")
    found = by_sql(tables, "drive, weather")
    assert found[-1] == ("d9", "fog")
    assert {weather for _, weather in found[:-1]} == {None}


def test_damaged_copy_is_made_again(tables: Tables, tmp_path: Path) -> None:
    fill(tables, 6)
    by_sql(tables)
    [copy] = copies(tmp_path)
    copy.write_bytes(b"damaged")
    assert by_sql(tables) == by_delta(tables)


def test_full_disk_costs_speed_only(tables: Tables, tmp_path: Path) -> None:
    fill(tables, 6)
    (tmp_path / "copies").write_text("a file where the folder would be")
    assert by_sql(tables) == by_delta(tables)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["put", "remove", "read"]), st.integers(0, 7)), max_size=8))
def test_any_history_gives_the_rows_of_the_table(
    tmp_path_factory: pytest.TempPathFactory, tables: Tables, history: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    here = Tables(str(folder / "lake"), {}, folder / "copies")
    fill(here, 6)
    for number, (act, drive) in enumerate(history):
        if act == "put":
            put(here, f"d{drive}", 1000 + number, 2000 + number)
        elif act == "remove":
            here.remove("clips", key="drive", value=f"d{drive}")
        else:
            assert by_sql(here) == by_delta(here)
    assert by_sql(here) == by_delta(here)
