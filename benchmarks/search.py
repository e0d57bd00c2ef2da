"""Filtered search among a million clip vectors, and a thousand clips put in; the index is the product's own.

The vectors are drawn from a mixture of Gaussians around random directions: of vectors without any such grouping the
nearest is hardly nearer than any other, and recall would mean nothing. HNSW and the exact searches hold everything in
memory and give row numbers; LanceDB reads files and gives whole rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure, Say, Settings
from benchmarks.report import load_now

if TYPE_CHECKING:
    from resources.vectors import VectorTable

ROWS, DIMENSION, GROUPS, SPREAD = 1_000_000, 256, 2000, 0.6
ASKED_EVERY = 10
CLIPS_OF_DRIVE, UPSERTED_DRIVES, WRITTEN_AT_ONCE = 200, 5, 100_000
QUERIES, K = 100, 10
TARGET_MS, TARGET_MISSED, TARGET_UPSERT_S = 100.0, 0.05, 5.0
HNSW_BUILD_S = 300.0
FILTERS = {
    "all": None,
    "50 %": "light = 'day'",
    "10 %": "speed < 4",
    "1 %": "road_class = 'primary_link'",
}
Search = Callable[[np.ndarray, str], list[int]]


def run(settings: Settings, say: Say) -> list[Figure]:
    """`search`: p95 and recall at four selectivities for each contender, building, and upserting."""
    from av_assets.policies.index import IndexPolicy
    from resources.vectors import Vectors

    rng = np.random.default_rng(7)
    say(f"drawing {ROWS:,} vectors")
    centres = _unit(rng.normal(size=(GROUPS, DIMENSION)).astype(np.float32))
    vectors = _clustered(rng, centres, ROWS)
    facts = {
        "speed": rng.uniform(0, 40, ROWS),
        "one": rng.integers(100, size=ROWS),
        "day": rng.random(ROWS) < 0.5,
    }
    masks = {"all": None, "50 %": facts["day"], "10 %": facts["speed"] < 4, "1 %": facts["one"] == 0}
    index = Vectors(str(settings.work / "vectors"), {}, IndexPolicy.load()).create("clips", DIMENSION)
    say("writing them")
    written_s = _timed(lambda: _write(index, vectors, facts))
    say("building the indexes")
    built_s, load = _timed(index.tend), load_now()[0]
    queries = _nearby(rng, vectors, QUERIES)
    truth, exact_ms = _exact(vectors, queries, masks)
    numbers = {f"{i // CLIPS_OF_DRIVE:06d}/{i % CLIPS_OF_DRIVE:05d}": i for i in range(ROWS)}

    def ours(query: np.ndarray, name: str) -> list[int]:
        return [numbers[row["clip_id"]] for row in index.near(query, K, FILTERS[name])]

    figures = _searched("LanceDB IVF_HNSW_SQ", ours, queries, truth, say, target=True)
    figures += [Figure(f"search.exact.{_key(n)}", f"numpy, exact, {n} of the rows: median", median(ms), "ms", None,
                       {"numpy": ms}) for n, ms in exact_ms.items()]  # fmt: skip
    hnsw, held, hnsw_s = _hnsw(vectors, masks, say)
    note = f"{held:,} rows held after {hnsw_s:.0f} s of building"
    if held == ROWS:
        figures += _searched("faiss HNSW", hnsw, queries, truth, say, note=note)
    else:  # judged by the rows that it holds
        part, _ = _exact(vectors[:held], queries, {n: m if m is None else m[:held] for n, m in masks.items()})
        figures += _searched("faiss HNSW", hnsw, queries, part, say, note=note)
    size_mb = _bytes(settings.work / "vectors") / 1e6
    about = f"load {load}; {size_mb:.0f} MB on disk with {vectors.nbytes / 1e6:.0f} MB of vectors"
    figures.append(Figure("search.write", f"{ROWS:,} rows written", written_s, "s", None))
    figures.append(Figure("search.build", "all indexes built, compacted", built_s, "s", None, note=about))
    return figures + _upsert(index, rng, centres, say)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _clustered(rng: np.random.Generator, centres: np.ndarray, count: int) -> np.ndarray:
    made = np.empty((count, DIMENSION), np.float32)
    for first in range(0, count, 50_000):
        part = made[first : first + 50_000]
        noise = rng.standard_normal(part.shape, np.float32) * np.float32(SPREAD / np.sqrt(DIMENSION))
        part[:] = _unit(centres[rng.integers(GROUPS, size=len(part))] + noise)
    return made


def _nearby(rng: np.random.Generator, vectors: np.ndarray, count: int) -> np.ndarray:
    """Vectors that are not in the index, each a little beside one that is."""
    chosen = vectors[rng.choice(len(vectors), count, replace=False)]
    return _unit(
        chosen + rng.standard_normal(chosen.shape, np.float32) * np.float32(0.2 / np.sqrt(DIMENSION))
    )


def _write(index: VectorTable, vectors: np.ndarray, facts: dict[str, np.ndarray]) -> None:
    for first in range(0, len(vectors), WRITTEN_AT_ONCE):
        part = {name: values[first : first + WRITTEN_AT_ONCE] for name, values in facts.items()}
        index.write(_rows(vectors[first : first + WRITTEN_AT_ONCE], part, first))


def _rows(vectors: np.ndarray, facts: dict[str, np.ndarray], first: int, content: str = "1") -> pa.Table:
    from av_assets.domain.search.rows import index_schema

    schema, count = index_schema(DIMENSION), len(vectors)
    numbers = range(first, first + count)
    known = {
        "clip_id": [f"{i // CLIPS_OF_DRIVE:06d}/{i % CLIPS_OF_DRIVE:05d}" for i in numbers],
        "drive": [f"{i // CLIPS_OF_DRIVE:06d}" for i in numbers],
        "camera": ["camera_front"] * count,
        "content": [content] * count,
        "start_ns": [i * 5_000_000_000 for i in numbers],
        "light": np.where(facts["day"], "day", "night"),
        "speed": facts["speed"],
        "road_class": np.where(facts["one"] == 0, "primary_link", "residential"),
        "text": [f"A drive by {'day' if day else 'night'}." for day in facts["day"]],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIMENSION),
    }
    return pa.table(
        [pa.array(known[f.name], f.type) if f.name in known and f.name != "vector" else
         known.get(f.name, pa.nulls(count, f.type)) for f in schema], schema=schema)  # fmt: skip


def _exact(
    vectors: np.ndarray, queries: np.ndarray, masks: dict[str, np.ndarray | None]
) -> tuple[dict[str, np.ndarray], dict[str, list[float]]]:
    """name -> (Q, K) similarities of the nearest, and milliseconds a query; one matrix-vector product each."""
    best: dict[str, np.ndarray] = {}
    spent: dict[str, list[float]] = {}
    for name, mask in masks.items():
        rows, spent[name] = [], []
        chosen = vectors if mask is None else vectors[mask]
        for query in queries:
            started = time.perf_counter()
            similarity = chosen @ query
            found = np.argpartition(-similarity, K)[:K]
            rows.append(np.sort(similarity[found])[::-1])
            spent[name].append(1e3 * (time.perf_counter() - started))
        best[name] = np.stack(rows)
    best["vectors"] = vectors
    return best, spent


def _searched(
    who: str, search: Search, queries: np.ndarray, truth: dict[str, np.ndarray], say: Say,
    target: bool = False, note: str = "",
) -> list[Figure]:  # fmt: skip
    """p95 and missed share per filter. A row counts as found if it is as near as the tenth of the exact search."""
    figures = []
    key = "lance" if target else "hnsw"
    for name in FILTERS:
        say(f"{who}: {name} of the rows")
        search(queries[0], name)
        spent, hits = [], 0
        for query, exact in zip(queries, truth[name], strict=True):
            started = time.perf_counter()
            found = search(query, name)
            spent.append(1e3 * (time.perf_counter() - started))
            hits += int((truth["vectors"][found] @ query >= exact[-1] - 1e-5).sum())
        missed = 1 - hits / (K * len(queries))
        p95 = float(np.quantile(spent, 0.95))
        about = f"{note}; load {load_now()[0]}" if note else f"load {load_now()[0]}"
        figures += [
            Figure(f"search.{key}.{_key(name)}", f"{who}, {name} of the rows: p95", p95, "ms",
                   TARGET_MS if target else None, {who: spent}, note=about),
            Figure(f"search.{key}.{_key(name)}.missed", "of the exact ten nearest, missed", missed, "",
                   TARGET_MISSED if target else None),
        ]  # fmt: skip
    return figures


def _hnsw(vectors: np.ndarray, masks: dict[str, np.ndarray | None], say: Say) -> tuple[Search, int, float]:
    """faiss HNSW with as many rows as fit into the time for building; how many, and the seconds it took."""
    import faiss

    graph = faiss.IndexHNSWFlat(DIMENSION, 16, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 200
    started = time.perf_counter()
    for first in range(0, len(vectors), 20_000):
        if time.perf_counter() - started > HNSW_BUILD_S:
            break
        say(f"faiss HNSW: {first:,} rows")
        graph.add(vectors[first : first + 20_000])
    spent = time.perf_counter() - started
    packed = {
        n: m if m is None else np.packbits(m[: graph.ntotal], bitorder="little") for n, m in masks.items()
    }
    wanted = {n: None if bits is None else faiss.IDSelectorBitmap(bits) for n, bits in packed.items()}

    def search(query: np.ndarray, name: str, _alive: Any = packed) -> list[int]:
        how = faiss.SearchParametersHNSW(sel=wanted[name], efSearch=100)
        _, found = graph.search(query[None], K, params=how)
        return [int(i) for i in found[0] if i >= 0]

    return search, graph.ntotal, spent


def _upsert(index: VectorTable, rng: np.random.Generator, centres: np.ndarray, say: Say) -> list[Figure]:
    """Five drives that are there are written again: counted, every row read back, and some asked for by vector."""
    count = UPSERTED_DRIVES * CLIPS_OF_DRIVE
    say(f"upserting {count} clips")
    vectors = _clustered(rng, centres, count)
    facts = {"speed": np.full(count, 1.0), "one": np.ones(count), "day": np.ones(count, bool)}
    rows = _rows(vectors, facts, first=0, content="2")
    drives = sorted(set(rows["drive"].to_pylist()))
    parts: dict[str, float] = {}
    parts["write"] = _timed(lambda: index.write(rows))
    started = time.perf_counter()
    assert index.count() == ROWS, "rows were lost, or are there twice"
    back = index.of_drives(drives).sort_by("clip_id")
    assert np.array_equal(_vectors(back), _vectors(rows)), "not what was written"
    parts["re-count and read back"] = time.perf_counter() - started
    started = time.perf_counter()
    names = rows["clip_id"].to_pylist()
    found = index.nearest_clips(vectors[::ASKED_EVERY])
    among_all = [name == clip_id for name, clip_id in zip(names[::ASKED_EVERY], found, strict=True)]
    parts[f"every {ASKED_EVERY}th asked for by its vector"] = time.perf_counter() - started
    lost = among_all.count(False)
    return [
        Figure("search.upsert", f"{count} clips of {ROWS:,} written again, counted, read back, asked for",
               sum(parts.values()), "s", TARGET_UPSERT_S, parts=parts, note=f"load {load_now()[0]}"),
        Figure("search.upsert.lost", "clips that did not find themselves", lost, "", 0),
    ]  # fmt: skip


def _vectors(rows: pa.Table) -> np.ndarray:
    return np.asarray(rows["vector"].combine_chunks().flatten()).reshape(-1, DIMENSION)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _key(name: str) -> str:
    return name.replace(" %", "pc")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
