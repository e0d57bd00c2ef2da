"""The tables of vectors on a folder and on a bucket.

Belongs here: writing, tending and asking one table. Does not belong here: which table readers are given.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from av_assets.domain.errors import AvError
from av_assets.domain.search.embedding import nearest, unit
from av_assets.domain.search.judging import judge
from av_assets.domain.search.rows import index_rows
from av_assets.policies.index import IndexPolicy
from resources.lake import Lake
from resources.vectors import Vectors, VectorTable, vectors

D = 16
SMALL = IndexPolicy.load().model_copy(update={"min_rows_for_index": 300, "partition_rows": 150})


@pytest.fixture
def store(lake: Lake) -> Vectors:
    return vectors(lake, SMALL)


@pytest.fixture
def table(store: Vectors) -> VectorTable:
    return store.create("clips-a-b", D)


def drive(name: str, count: int, seed: int = 0, content: str = "1") -> tuple[pa.Table, np.ndarray]:
    found = unit(np.random.default_rng(seed).normal(size=(count, D)).astype(np.float32))
    ids = [f"{name}/{i:05d}" for i in range(count)]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), D)
    embeddings = pa.table({"clip_id": ids, "camera": ["camera_front"] * count, "embedding": flat})
    clips = [{"clip_id": c, "start_ns": i, "mean_speed_mps": float(i), "light": "day" if i % 2 else "night"}
             for i, c in enumerate(ids)]  # fmt: skip
    scene = {"scene_id": "0", "start_ns": 0, "clip_ids": ids[:2], "kinds": ["cut_in"], "max_level": 2,
             "description": "A cut-in by night in the rain."}  # fmt: skip
    return index_rows(name, embeddings, clips, [scene], content), found


def ids(rows: list[dict[str, object]]) -> list[object]:
    return [row["clip_id"] for row in rows]


def test_exact_search_is_the_oracle_s(table: VectorTable) -> None:
    rows, found = drive("d1", 40)
    table.write(rows)
    query = unit(np.random.default_rng(9).normal(size=D).astype(np.float32))
    wanted = nearest(found, query, 5)
    held = table.near(query, 5, exact=True)
    assert ids(held) == [f"d1/{row:05d}" for row, _ in wanted]
    assert [r["similarity"] for r in held] == pytest.approx([s for _, s in wanted], abs=1e-5)


def test_rows_newer_than_the_indexes_are_found(table: VectorTable) -> None:
    table.write(drive("d1", 400)[0])
    table.tend()
    assert table.statistics()["vector_index"] == "IVF_HNSW_SQ"
    rows, found = drive("d2", 20, seed=2)
    rows = rows.set_column(rows.column_names.index("text"), "text", pa.array(["zebra crossing"] * 20))
    table.write(rows)
    about = table.statistics()
    assert (about["vector_unindexed"], about["text_unindexed"]) == (20, 20)
    assert [ids(table.near(v, 1)) for v in found] == [[f"d2/{i:05d}"] for i in range(20)]
    assert table.nearest_clips(found) == [f"d2/{i:05d}" for i in range(20)]
    assert {r["drive"] for r in table.matching("zebra", 50)} == {"d2"}
    table.tend()
    assert (table.statistics()["vector_unindexed"], table.count()) == (0, 420)
    assert table.nearest_clips(found) == [f"d2/{i:05d}" for i in range(20)]


def test_index_finds_what_exact_search_finds_under_filters(table: VectorTable) -> None:
    table.write(drive("d1", 600)[0])
    table.tend()
    judged = judge(table, table.sample(30, 1), 10)
    assert judged["recall"] >= 0.95
    assert judged["found_themselves"] == 30
    query = unit(np.ones(D, np.float32))
    for where in ("light = 'day'", "speed < 60", "array_has(kinds, 'cut_in')"):
        assert ids(table.near(query, 2, where)) == ids(table.near(query, 2, where, exact=True))


def test_written_again_and_removed_is_really_gone(store: Vectors, table: VectorTable) -> None:
    old, before = drive("d1", 30)
    table.write(old)
    table.write(drive("d2", 10, seed=5)[0])
    version = table.version
    new, after = drive("d1", 25, seed=3, content="2")
    table.write(new)
    assert table.ledger() == {"d1": ("2", 25), "d2": ("1", 10)}
    assert table.near(before[7], 1)[0]["similarity"] < 0.999
    assert table.nearest_clips(after) == [f"d1/{i:05d}" for i in range(25)]
    table.remove(["d1"])
    assert {r["drive"] for r in table.near(after[0], 99)} == {"d2"}
    table.tend(keep=version)
    held = store.open("clips-a-b", version)  # who reads that version is not disturbed
    assert held is not None
    assert held.ledger() == {"d1": ("1", 30), "d2": ("1", 10)}


def test_drive_with_rows_of_two_contents_is_not_taken_for_whole(table: VectorTable) -> None:
    table.write(drive("d1", 3)[0])
    table._table.add(drive("d1", 2, content="2")[0])
    assert table.ledger() == {"d1": ("mixed", 5)}


def test_what_is_not_there_is_said(store: Vectors, table: VectorTable) -> None:
    assert store.open("nothing") is None
    assert store.open("clips-a-b", 99) is None
    assert table.matching("rain", 5) == []
    with pytest.raises(AvError) as caught:
        table.vector_of("d'1/00000")
    assert caught.value.code == "no_such_clip"
    with pytest.raises(AvError) as caught:
        table.count("nonsense >")
    assert caught.value.code == "index_refused"
