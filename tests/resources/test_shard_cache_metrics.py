"""What the cache counts, over processes that come and go, and what it says of that."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from av_assets.domain.errors import TransientError
from av_assets.policies.cache import CachePolicy
from resources.shard_cache import spans as cache_spans
from resources.shard_cache.cache import ShardCache
from resources.shard_cache.metrics import BOUNDS_S, Latency, Meter, gather, merged
from resources.shard_cache.report import as_dict, as_prometheus, lines

POLICY = CachePolicy.load().model_copy(update={"keep_free_gb": 0.0, "verify_share": 0.0})
DATA = b"shard" * 100
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ShardCache]:
    with closing(
        ShardCache(tmp_path / "c", 10_000, lambda _, file: file.write_bytes(DATA) and None, POLICY)
    ) as made:
        yield made


def use(cache: ShardCache) -> None:
    with cache.local(DIGEST, len(DATA)):
        pass


class TestQuantiles:
    @given(st.lists(st.floats(2e-6, 3000.0), min_size=1, max_size=200), st.sampled_from((0.5, 0.95, 0.99)))
    def test_lie_within_a_bucket_of_the_sorted_list(self, seconds: list[float], share: float) -> None:
        counts = [0] * (len(BOUNDS_S) + 1)
        for one in seconds:
            counts[next(n for n, bound in enumerate((*BOUNDS_S, math.inf)) if one <= bound)] += 1
        found = Latency(tuple(counts), sum(seconds)).quantile(share)
        exact = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
        assert found is not None
        assert exact / 1.2 <= found <= exact * 1.2

    def test_nothing_was_measured(self) -> None:
        assert Latency((0,) * (len(BOUNDS_S) + 1), 0.0).quantile(0.5) is None


class TestCounting:
    def test_every_outcome(self, cache: ShardCache) -> None:
        for _ in range(3):
            use(cache)
        cache.evict([DIGEST])
        use(cache)
        said = as_dict(cache.stats())
        assert (said["hits"], said["misses"], said["evictions"], said["hit_rate"]) == (2, 2, 1, 0.5)
        assert (said["fetched_bytes"], said["served_bytes"], said["evicted_bytes"]) == (1000, 2000, 500)
        assert said["latency_s"]["miss"]["p50"] > said["latency_s"]["hit"]["p50"] > 0

    def test_process_that_was_killed_is_counted(self, cache: ShardCache) -> None:
        use(cache)
        if (child := os.fork()) == 0:
            use(cache)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        assert cache.stats().counts["hits"] == 1, "the child opened counters of its own"
        again = ShardCache(cache.folder, 10_000, lambda *_: None, POLICY)
        assert again.stats().counts["hits"] == 1, "and they were taken into the total"
        assert len(list((cache.folder / "metrics").iterdir())) == 3, "total, ours, and that of the second"
        again.close()

    def test_files_of_the_dead_are_added_once(self, tmp_path: Path) -> None:
        for hits in (1, 2, 3):
            meter = Meter(tmp_path)
            meter.add(hits=hits)
            meter.close()
        living = Meter(tmp_path)
        living.add(hits=10)
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        assert merged(tmp_path)["hits"] == 16
        gather(tmp_path)
        assert merged(tmp_path)["hits"] == 16
        assert len(list(tmp_path.iterdir())) == 2
        for name, data in before.items():  # killed after the total was written, before the files went
            if not (tmp_path / name).exists():
                (tmp_path / name).write_bytes(data)
        assert merged(tmp_path)["hits"] == 16
        gather(tmp_path)
        assert merged(tmp_path)["hits"] == 16
        living.close()

    @pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"names": 1, "buckets": 2, "values": [1]}'])
    def test_damaged_total_begins_anew(self, tmp_path: Path, damage: bytes) -> None:
        (tmp_path / "total.json").write_bytes(damage)
        (tmp_path / "1-torn").write_bytes(b"1234")
        meter = Meter(tmp_path)
        meter.add(hits=5)
        assert merged(tmp_path)["hits"] == 5
        meter.close()
        gather(tmp_path)
        assert merged(tmp_path)["hits"] == 5


class TestReport:
    def test_prometheus_reads_what_scripts_read(self, cache: ShardCache) -> None:
        use(cache)
        use(cache)
        stats = cache.stats()
        families = {family.name: family for family in text_string_to_metric_families(as_prometheus(stats))}
        assert families["av_cache_hits"].samples[0].value == 1
        assert families["av_cache_bytes"].samples[0].value == 500
        buckets = [
            s.value
            for s in families["av_cache_seconds"].samples
            if s.name.endswith("_bucket") and s.labels["outcome"] == "miss"
        ]
        assert buckets == sorted(buckets)
        assert buckets[-1] == 1

    def test_script_can_read_it_before_anything_was_asked(self, cache: ShardCache) -> None:
        said = json.loads(json.dumps(as_dict(cache.stats())))
        assert said["hit_rate"] is None
        assert said["latency_s"]["hit"]["p99"] is None
        assert "hit: none yet" in lines(cache.stats())


class TestSpans:
    @pytest.fixture
    def spans(self, monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(cache_spans, "_tracer", lambda: provider.get_tracer("test"))
        return exporter

    def names(self, spans: InMemorySpanExporter) -> list[str]:
        return [span.name.removeprefix("shard_cache.") for span in spans.get_finished_spans()]

    def test_miss_shows_where_its_time_went(self, cache: ShardCache, spans: InMemorySpanExporter) -> None:
        use(cache)
        assert self.names(spans) == ["lookup", "wait", "room", "fetch", "verify", "publish"]
        assert dict(spans.get_finished_spans()[3].attributes or {}) == {
            "shard.sha256": DIGEST,
            "shard.bytes": 500,
        }

    def test_hit_is_a_lookup(self, cache: ShardCache, spans: InMemorySpanExporter) -> None:
        use(cache)
        spans.clear()
        use(cache)
        assert self.names(spans) == ["lookup"]

    def test_failed_fetch_is_an_error(self, tmp_path: Path, spans: InMemorySpanExporter) -> None:
        def down(*_: object) -> None:
            raise TransientError("down", code="store_failed")

        with closing(ShardCache(tmp_path, 1000, down, POLICY)) as cache, pytest.raises(TransientError):
            use(cache)
        (fetch,) = [span for span in spans.get_finished_spans() if span.name == "shard_cache.fetch"]
        assert not fetch.status.is_ok


def test_without_an_exporter_nothing_is_recorded() -> None:
    with cache_spans.span("lookup", DIGEST, 1) as span:
        assert span is None


def test_share_that_is_verified_is_chosen_by_the_given_chance(cache: ShardCache) -> None:
    use(cache)
    assert cache.verify(0.5, random.Random(1)).files + cache.verify(0.5, random.Random(2)).files == 1
