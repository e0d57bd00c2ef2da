"""The index of clips in the lake: LanceDB tables below `<lake>/vectors`, one per maker of vectors, never mixed.

Writers work at a table's head; readers are given a version of it (resources/vector_pointer.py). Rows that came after
the index was built are searched one by one and merged.
Belongs here: storing, tending and asking. Does not belong here: what a row holds (domain/search/rows.py), ranking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from av_assets.domain.errors import AvError, TransientError
from av_assets.domain.search.rows import FACTS, index_schema
from av_assets.policies.index import IndexPolicy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from resources.lake import Lake

SHOWN = tuple(name for name in FACTS if name != "content")
_SORTED, _FEW = ("drive", "clip_id", "start_ns", "speed"), ("light", "weather", "road_class")
_LISTS = ("kinds", "tags")


def maker_name(model_digest: str, preproc_digest: str) -> str:
    """The table of vectors that this model made of pictures prepared like this."""
    return f"clips-{model_digest[:16]}-{preproc_digest[:16]}"


def vectors(lake: Lake, policy: IndexPolicy | None = None) -> Vectors:
    """The tables of this lake; `policy` instead of the shipped one."""
    policy = policy or IndexPolicy.load()
    if not lake.uri.startswith("s3://"):
        return Vectors(f"{unquote(urlparse(lake.uri).path)}/vectors", {}, policy)
    local = {"aws_endpoint": lake.endpoint, "aws_allow_http": "true"} if lake.endpoint else {}
    return Vectors(f"{lake.uri.rstrip('/')}/vectors", local, policy)


class Vectors:
    """All tables of vectors of a lake."""

    def __init__(self, uri: str, options: Mapping[str, str], policy: IndexPolicy) -> None:
        self._uri, self._options, self._policy = uri, dict(options), policy

    def _connect(self) -> Any:
        import lancedb

        return lancedb.connect(self._uri, storage_options=self._options)

    def open(self, name: str, version: int | None = None) -> VectorTable | None:
        """The table at its head or at a version; None where there is no such thing."""
        try:
            table = self._connect().open_table(name)
            if version is not None:
                table.checkout(version)
                table.count_rows()
        except (ValueError, FileNotFoundError, RuntimeError, OSError) as error:
            if "not found" in str(error).lower() or "no longer exists" in str(error):
                return None
            raise TransientError(f"the index does not answer: {error}", code="index_failed") from error
        return VectorTable(table, name, self._policy)

    def names(self) -> list[str]:
        with _index_errors():
            return sorted(self._connect().list_tables(limit=1000).tables)

    def drop(self, name: str) -> None:
        with _index_errors():
            self._connect().drop_table(name, ignore_missing=True)

    def create(self, name: str, dimension: int) -> VectorTable:
        """The table at its head, made where there is none."""
        with _index_errors():
            self._connect().create_table(name, schema=index_schema(dimension), exist_ok=True)
        made = self.open(name)
        assert made is not None
        return made


class VectorTable:
    """One table. Read at a version, or written at its head.

    Attributes:
        exact: search without the index of vectors.
    """

    def __init__(self, table: Any, name: str, policy: IndexPolicy) -> None:
        self._table, self.name, self._policy, self.exact = table, name, policy, False

    @property
    def version(self) -> int:
        return int(self._table.version)

    @property
    def dimension(self) -> int:
        return int(self._table.schema.field("vector").type.list_size)

    # -- writing -------------------------------------------------------------------------------------------------

    def ledger(self) -> dict[str, tuple[str, int]]:
        """drive -> (content, rows) as the table itself holds it."""
        found: Counter[tuple[str, str]] = Counter()
        query = self._table.search().select(["drive", "content"])
        for batch in query.to_batches(batch_size=65536):
            found.update(zip(batch["drive"].to_pylist(), batch["content"].to_pylist(), strict=True))
        ledger: dict[str, tuple[str, int]] = {}
        for (drive, content), rows in found.items():
            # Rows of two contents are none of either: such a drive is written again.
            ledger[drive] = ("mixed", rows + ledger[drive][1]) if drive in ledger else (content, rows)
        return ledger

    def write(self, rows: pa.Table) -> None:
        """Make `rows` the only rows of their drives. Readers at a version see nothing of it."""
        self.remove(sorted(set(rows["drive"].to_pylist())))
        with _index_errors():
            self._table.add(rows)

    def remove(self, drives: Sequence[str]) -> None:
        """Take the drives' rows out."""
        with _index_errors():
            for first in range(0, len(drives), 500):
                self._table.delete(f"drive IN ({', '.join(map(_text, drives[first : first + 500]))})")

    def tend(self, keep: int | None = None, retrain: bool = False) -> None:
        """Put files together, take new rows into the indexes, drop old versions; then make what index is missing.

        Args:
            keep: version that readers use now; it stays, however old.
            retrain: build the index of vectors anew.
        """
        with _index_errors():
            self._table.optimize(cleanup_older_than=self._pruned_after(keep))
            self._build(self._policy, retrain)

    def _pruned_after(self, keep: int | None) -> timedelta:
        """Age of the versions that may go. LanceDB prunes by age alone, and stops where it would meet a tag."""
        age = timedelta(hours=self._policy.keep_versions_hours)
        made = [v["timestamp"] for v in self._table.list_versions() if v["version"] == keep]
        return max([age, *(datetime.now(at.tzinfo) - at + timedelta(hours=1) for at in made)])

    def _build(self, policy: IndexPolicy, retrain: bool) -> None:
        from lancedb.index import FTS, Bitmap, BTree, HnswSq, LabelList

        held = {column for index in self._table.list_indices() for column in index.columns}
        rows = self.count()
        if rows and "text" not in held:
            self._table.create_index("text", config=FTS())
        if rows < policy.min_rows_for_index:
            return
        for columns, config in ((_SORTED, BTree()), (_FEW, Bitmap()), (_LISTS, LabelList())):
            for column in columns:
                if column not in held:
                    self._table.create_index(column, config=config)
        if retrain or "vector" not in held:
            graphs = HnswSq(
                distance_type="cosine",
                num_partitions=_partitions(rows, policy),
                m=policy.edges,
                ef_construction=policy.ef_construction,
            )
            self._table.create_index("vector", config=graphs)

    # -- asking --------------------------------------------------------------------------------------------------

    def count(self, where: str | None = None) -> int:
        with _index_errors():
            return int(self._table.count_rows(where))

    def statistics(self) -> dict[str, Any]:
        """Rows, files of rows, bytes, and for each index of text and vectors the rows that it does not hold yet."""
        about = self._table.stats()
        rows = {
            "rows": self.count(),
            "fragments": about["fragment_stats"]["num_fragments"],
            "bytes": about["total_bytes"],
        }
        for index in self._table.list_indices():
            if set(index.columns) & {"vector", "text"}:
                known = self._table.index_stats(index.name)
                rows[f"{index.columns[0]}_index"] = known.index_type
                rows[f"{index.columns[0]}_unindexed"] = known.num_unindexed_rows
        return rows

    def near(
        self, vector: np.ndarray, k: int, where: str | None = None, exact: bool | None = None
    ) -> list[dict[str, Any]]:
        """The k rows of the largest cosine `similarity`, best first, with `SHOWN`; ties by clip.

        Args:
            exact: compare with every row; default: as readers are to.
        """
        query = self._table.search(vector).distance_type("cosine").select([*SHOWN, "_distance"]).limit(k)
        query = self._tuned(query, k, self.exact if exact is None else exact)
        rows = self._rows(query.where(where, prefilter=True) if where else query)
        found = [{"similarity": 1.0 - row.pop("_distance"), **row} for row in rows]
        return sorted(found, key=lambda row: (-row["similarity"], row["clip_id"], row["camera"]))

    def nearest_clips(self, many: np.ndarray) -> list[str]:
        """(N, D) -> the clip of the nearest row of each, as `near` finds it; far quicker than one by one."""
        query = (
            self._table.search(list(many)).distance_type("cosine").select(["clip_id", "_distance"]).limit(1)
        )
        with _index_errors():
            found = self._tuned(query, 1, self.exact).to_arrow().sort_by("query_index")
        return [str(clip_id) for clip_id in found["clip_id"].to_pylist()]

    def _tuned(self, query: Any, k: int, exact: bool) -> Any:
        if exact:
            return query.bypass_vector_index()
        everywhere = _partitions(self.count(), self._policy)
        query = query.nprobes(everywhere).ef(max(k, self._policy.ef_search))
        return query.refine_factor(self._policy.refine_factor)

    def matching(self, words: str, k: int, where: str | None = None) -> list[dict[str, Any]]:
        """The k rows whose text fits best by BM25, with `SHOWN` and `bm25`; ties by clip.

        Raises:
            AvError: `bad_text`, too long.
        """
        from lancedb.query import MatchQuery

        if len(words) > 1000:
            raise AvError("a text search takes up to 1000 characters", code="bad_text")
        if not any("text" in index.columns for index in self._table.list_indices()):
            return []
        query = (
            self._table.search(MatchQuery(words, "text"), query_type="fts")
            .select([*SHOWN, "_score"])
            .limit(k)
        )
        rows = self._rows(query.where(where, prefilter=True) if where else query)
        found = [{"bm25": row.pop("_score"), **row} for row in rows]
        return sorted(found, key=lambda row: (-row["bm25"], row["clip_id"], row["camera"]))

    def vector_of(self, clip_id: str) -> dict[str, Any]:
        """The clip's row of its first camera, with `vector`.

        Raises:
            AvError: `no_such_clip`.
        """
        query = self._table.search().where(f"clip_id = {_text(clip_id)}").select([*SHOWN, "vector"])
        rows = self._rows(query)
        if not rows:
            remedy = "a clip is <drive>/<number>; it needs a camera"
            raise AvError(f"the index holds no clip {clip_id}", code="no_such_clip", remedy=remedy)
        return min(rows, key=lambda row: row["camera"])

    def of_drives(self, drives: Sequence[str]) -> pa.Table:
        """All rows of the drives, with `vector`."""
        where = f"drive IN ({', '.join(map(_text, drives))})"
        with _index_errors():
            return self._table.search().where(where).select([*SHOWN, "vector"]).to_arrow()

    def sample(self, count: int, seed: int) -> pa.Table:
        """`count` rows, drawn without replacement, with `vector`."""
        import numpy as np

        rows = self.count()
        chosen = np.random.default_rng(seed).choice(rows, min(count, rows), replace=False)
        with _index_errors():
            return self._table.take_offsets(sorted(map(int, chosen))).select([*SHOWN, "vector"]).to_arrow()

    def neglected(self) -> bool:
        """Whether so much lies beside the indexes, or in so many files, that it has to be tended now."""
        about, policy = self.statistics(), self._policy
        if not about["rows"]:
            return False
        beside = max(about.get("text_unindexed", 0), about.get("vector_unindexed", 0))
        lacks = "text_index" not in about or (
            about["rows"] >= policy.min_rows_for_index and "vector_index" not in about
        )
        return lacks or beside > policy.max_unindexed_rows or about["fragments"] > policy.max_fragments

    def _rows(self, query: Any) -> list[dict[str, Any]]:
        with _index_errors():
            return list(query.to_arrow().to_pylist())


def _partitions(rows: int, policy: IndexPolicy) -> int:
    return max(1, -(-rows // policy.partition_rows))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


@contextmanager
def _index_errors() -> Iterator[None]:
    """What another writer or the store did is worth another try; the rest is told as it is."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        said = str(error)
        if "conflict" in said.lower() or isinstance(error, OSError):
            raise TransientError(f"the index is busy: {said[:300]}", code="index_busy") from error
        raise AvError(f"the index refuses: {said[:300]}", code="index_refused") from error
