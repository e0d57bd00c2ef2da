"""The cache of shards in one process: against a model of it, and each promise by itself."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pickle
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from av_assets.domain.errors import AvError, EvidenceError, TransientError
from av_assets.policies.cache import CachePolicy
from resources.objects import FolderStore
from resources.shard_cache.cache import ShardCache
from resources.shard_cache.files import Layout, stamp_ns
from resources.shard_cache.upkeep import files_of

SHARP = CachePolicy.load().model_copy(
    update={"evict_ahead_share": 0.0, "keep_free_gb": 0.0, "verify_share": 0.0, "wait_for_room_s": 0.01}
)
BUDGET = 1000


def made(number: int, size: int) -> tuple[str, bytes]:
    data = hashlib.shake_256(number.to_bytes(4, "big")).digest(size)
    return hashlib.sha256(data).hexdigest(), data


FILES = dict(made(number, size) for number, size in enumerate((10, 100, 200, 300, 400, 450, 600, 1000, 1001)))
NAMES = sorted(FILES, key=lambda sha256: len(FILES[sha256]))
name = st.sampled_from(NAMES)


@dataclass(frozen=True)
class Ref:
    sha256: str
    bytes: int


class Origin:
    """Where the cache fetches from; counts, and does to the file what a test asks for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked = files, list[str]()
        self.instead: list[Callable[[Path], None]] = []

    def __call__(self, sha256: str, target: Path) -> None:
        self.asked.append(sha256)
        if self.instead:
            self.instead.pop(0)(target)
        else:
            target.write_bytes(self.files[sha256])


@pytest.fixture
def origin() -> Origin:
    return Origin(FILES)


@pytest.fixture
def cache(tmp_path: Path, origin: Origin) -> Iterator[ShardCache]:
    with contextlib.closing(ShardCache(tmp_path / "cache", BUDGET, origin, SHARP)) as made:
        yield made


def use(cache: ShardCache, sha256: str) -> bytes:
    with cache.local(sha256, len(FILES[sha256])) as path:
        return path.read_bytes()


def stored(cache: ShardCache, sha256: str) -> Path:
    return Layout(cache.folder).object(sha256)


def overwrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """As root or a broken disk would; the time of change moves as it does for every write."""
    data = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(change(data))


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


class CacheAgainstModel(RuleBasedStateMachine):
    """Any order of calls: the same files, in the same order of use, as a page of Python says."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.origin = Origin(FILES)
        self.cache = ShardCache(Path(self._folder.name), BUDGET, self.origin, SHARP)
        self.here: OrderedDict[str, int] = OrderedDict()
        self.pinned: set[str] = set()
        self.held: dict[str, ExitStack] = {}
        self.damaged: set[str] = set()

    def teardown(self) -> None:
        for stack in self.held.values():
            stack.close()
        self.cache.close()
        self._folder.cleanup()

    def _expected(self, sha256: str) -> str:
        """What a use of this file is to end in; the model is moved on."""
        size = len(FILES[sha256])
        if sha256 in self.here and sha256 not in self.damaged:
            self.here.move_to_end(sha256)
            return "hit"
        self.here.pop(sha256, None)
        self.damaged.discard(sha256)
        if size > BUDGET:
            return "larger_than_cache"
        pinned = sum(s for n, s in self.here.items() if n in self.pinned)
        for other in [n for n in self.here if n not in self.pinned and n not in self.held]:
            if sum(self.here.values()) + size <= BUDGET:
                break
            del self.here[other]
            self.damaged.discard(other)
        if sum(self.here.values()) + size > BUDGET:
            return "cache_pinned" if pinned + size > BUDGET else "cache_full"
        self.here[sha256] = size
        return "miss"

    def _use(self, sha256: str, stack: ExitStack) -> None:
        asked, expected = len(self.origin.asked), self._expected(sha256)
        if expected in ("hit", "miss"):
            path = stack.enter_context(self.cache.local(sha256, len(FILES[sha256])))
            assert path.read_bytes() == FILES[sha256]
            assert len(self.origin.asked) - asked == (expected == "miss")
            return
        with pytest.raises(AvError) as caught:
            stack.enter_context(self.cache.local(sha256, len(FILES[sha256])))
        assert caught.value.code == expected
        assert len(self.origin.asked) == asked

    @rule(sha256=name)
    def read(self, sha256: str) -> None:
        with ExitStack() as stack:
            self._use(sha256, stack)

    @rule(sha256=name)
    def keep_open(self, sha256: str) -> None:
        if sha256 in self.held:
            return
        stack = ExitStack()
        self._use(sha256, stack)
        if sha256 in self.here:
            self.held[sha256] = stack

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        self.held.pop(data.draw(st.sampled_from(sorted(self.held)))).close()

    @rule(sha256=name)
    def pin(self, sha256: str) -> None:
        self.cache.pin([sha256])
        self.pinned.add(sha256)

    @rule(sha256=name)
    def unpin(self, sha256: str) -> None:
        self.cache.unpin([sha256])
        self.pinned.discard(sha256)

    @rule(some=st.lists(name, max_size=4, unique=True), pinned_too=st.booleans())
    def evict(self, some: list[str], pinned_too: bool) -> None:
        took = self.cache.evict(some, pinned_too=pinned_too)
        for sha256 in some:
            if sha256 not in self.here:
                assert sha256 in took.absent
            elif sha256 in self.pinned and not pinned_too:
                assert sha256 in took.pinned
            elif sha256 in self.held:
                assert sha256 in took.in_use
            else:
                assert sha256 in took.evicted
                del self.here[sha256]
                self.pinned.discard(sha256)
                self.damaged.discard(sha256)

    @rule(sha256=name)
    def forget(self, sha256: str) -> None:
        if sha256 in self.held:
            return
        assert self.cache.forget([sha256]) == ((sha256,) if sha256 in self.here else ())
        self.here.pop(sha256, None)
        self.pinned.discard(sha256)
        self.damaged.discard(sha256)

    @rule(sha256=name)
    def write_into_it(self, sha256: str) -> None:
        if sha256 in self.here and sha256 not in self.held:
            path = stored(self.cache, sha256)
            used = path.stat().st_atime_ns
            overwrite(path, flipped)
            os.utime(path, ns=(used, path.stat().st_mtime_ns))
            self.damaged.add(sha256)

    @rule()
    def verify(self) -> None:
        assert set(self.cache.verify().bad) == self.damaged
        for sha256 in self.damaged:
            del self.here[sha256]
        self.damaged.clear()

    @rule(damage=st.sampled_from((b"", b"short", b"\xff" * 16)))
    def lose_the_hint(self, damage: bytes) -> None:
        (self.cache.folder / "room").write_bytes(damage)

    @rule()
    def open_again(self) -> None:
        self.cache.close()
        self.cache = ShardCache(self.cache.folder, BUDGET, self.origin, SHARP)

    @invariant()
    def the_same_files(self) -> None:
        assert self.cache.digests() == list(self.here)

    @invariant()
    def within_the_budget(self) -> None:
        below = [p for part in ("objects", "incoming") for p in (self.cache.folder / part).rglob("*")]
        assert sum(p.stat().st_size for p in below if p.is_file()) <= BUDGET


TestCacheAgainstModel = CacheAgainstModel.TestCase
TestCacheAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class TestDamage:
    @pytest.mark.parametrize(
        "change", [flipped, lambda data: data[:-1], lambda data: b"", lambda data: data + b"1"]
    )
    def test_written_file_is_found_at_its_next_use_and_fetched_again(
        self, cache: ShardCache, origin: Origin, change: Callable[[bytes], bytes]
    ) -> None:
        use(cache, NAMES[2])
        overwrite(stored(cache, NAMES[2]), change)
        assert use(cache, NAMES[2]) == FILES[NAMES[2]]
        assert origin.asked == [NAMES[2]] * 2
        assert (cache.stats().counts["damaged"], cache.stats().counts["refetches"]) == (1, 1)

    def _rot(self, cache: ShardCache, sha256: str) -> None:
        """A bit that changes without a write: size and times are as before."""
        use(cache, sha256)
        overwrite(stored(cache, sha256), flipped)
        os.utime(stored(cache, sha256), ns=(time.time_ns(), stamp_ns(sha256)))

    def test_bit_that_rots_is_found_by_verify(self, cache: ShardCache) -> None:
        self._rot(cache, NAMES[3])
        assert use(cache, NAMES[3]) != FILES[NAMES[3]], "else the test shows nothing"
        assert cache.verify().bad == (NAMES[3],)
        assert use(cache, NAMES[3]) == FILES[NAMES[3]]

    def test_bit_that_rots_is_found_by_chance(self, tmp_path: Path, origin: Origin) -> None:
        cache = ShardCache(tmp_path, BUDGET, origin, SHARP.model_copy(update={"verify_share": 1.0}))
        self._rot(cache, NAMES[3])
        assert use(cache, NAMES[3]) == FILES[NAMES[3]]
        assert origin.asked == [NAMES[3]] * 2
        cache.close()

    def test_fetch_that_arrives_damaged_is_done_once_more(self, cache: ShardCache, origin: Origin) -> None:
        origin.instead = [lambda target: target.write_bytes(b"x" * 200)]
        assert use(cache, NAMES[2]) == FILES[NAMES[2]]

    def test_fetch_that_is_damaged_twice_is_evidence_and_leaves_nothing(
        self, cache: ShardCache, origin: Origin
    ) -> None:
        origin.instead = [lambda target: target.write_bytes(b"x" * 200)] * 2
        with pytest.raises(EvidenceError) as caught:
            use(cache, NAMES[2])
        assert caught.value.code == "damaged_object"
        assert [p for p in cache.folder.rglob("*") if p.is_file() and p.stat().st_size == 200] == []
        assert cache.stats().coming_bytes == 0

    def test_link_in_place_of_a_file_is_not_followed(self, cache: ShardCache, tmp_path: Path) -> None:
        use(cache, NAMES[1])
        (tmp_path / "other").write_bytes(FILES[NAMES[1]])
        for check in (lambda: use(cache, NAMES[1]), lambda: cache.verify()):
            stored(cache, NAMES[1]).unlink()
            stored(cache, NAMES[1]).symlink_to(tmp_path / "other")
            check()
            assert not stored(cache, NAMES[1]).is_symlink()
            use(cache, NAMES[1])
        assert (tmp_path / "other").exists()

    def test_folder_that_cannot_be_one_is_said(self, tmp_path: Path, origin: Origin) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(TransientError) as caught:
            use(ShardCache(tmp_path / "file" / "cache", BUDGET, origin, SHARP), NAMES[0])
        assert caught.value.code == "cache_failed"


class TestFullDisk:
    @staticmethod
    def full(target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def test_what_was_used_longest_ago_goes_and_the_fetch_begins_again(
        self, cache: ShardCache, origin: Origin
    ) -> None:
        for sha256 in NAMES[:3]:
            use(cache, sha256)
        origin.instead = [self.full]
        assert use(cache, NAMES[3]) == FILES[NAMES[3]]
        assert NAMES[0] not in cache.digests()

    def test_nothing_left_to_evict_is_said(self, cache: ShardCache, origin: Origin) -> None:
        with cache.local(NAMES[0], 10):
            origin.instead = [self.full] * 10
            with pytest.raises(TransientError) as caught:
                use(cache, NAMES[3])
        assert caught.value.code == "disk_full"
        assert cache.digests() == [NAMES[0]]
        assert list((cache.folder / "incoming").iterdir()) == []

    def test_counters_do_without_a_disk(
        self, tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("resources.shard_cache.metrics.os.posix_fallocate", full)
        cache = ShardCache(tmp_path, BUDGET, origin, SHARP)
        assert use(cache, NAMES[0]) == FILES[NAMES[0]]
        assert list((tmp_path / "metrics").iterdir()) == []
        cache.close()

    def test_space_of_others_is_left_to_them(self, tmp_path: Path, origin: Origin) -> None:
        greedy = SHARP.model_copy(update={"keep_free_gb": 1e9})
        with pytest.raises(TransientError) as caught:
            use(ShardCache(tmp_path, BUDGET, origin, greedy), NAMES[0])
        assert caught.value.code == "disk_full"
        assert origin.asked == []


class TestInUse:
    def test_room_is_waited_for(self, tmp_path: Path, origin: Origin) -> None:
        patient = SHARP.model_copy(update={"wait_for_room_s": 10.0})
        cache = ShardCache(tmp_path, BUDGET, origin, patient)
        holding = ExitStack()
        holding.enter_context(cache.local(NAMES[6], 600))
        threading.Timer(0.3, holding.close).start()
        assert use(cache, NAMES[5]) == FILES[NAMES[5]]
        assert cache.digests() == [NAMES[5]]
        cache.close()

    def test_erased_file_goes_although_it_is_in_use(self, cache: ShardCache) -> None:
        cache.pin([NAMES[4]])
        with cache.local(NAMES[4], 400) as path, path.open("rb") as file:
            assert cache.forget([NAMES[4]]) == (NAMES[4],)
            assert not path.exists()
            assert file.read() == FILES[NAMES[4]], "whoever reads it already reads it whole"
        assert cache.digests() == []
        assert cache.stats().pinned_files == 0

    def test_erasure_finds_all_that_is_about_a_digest_and_the_cache_goes_on(
        self, cache: ShardCache, origin: Origin
    ) -> None:
        cache.pin([NAMES[4]])
        use(cache, NAMES[4])
        found: list[Path] = []

        def look(target: Path) -> None:
            found.extend(files_of(cache.folder, {NAMES[0], NAMES[4]}))
            for path in found:
                path.unlink()

        origin.instead = [look]
        assert use(cache, NAMES[0]) == FILES[NAMES[0]], "the fetch whose file was taken away began again"
        assert [path.parent.name for path in found] == [NAMES[4][:2], "pins", "incoming"]
        for part in ("pins", "incoming"):
            (cache.folder / part).rmdir()
        assert files_of(cache.folder, {NAMES[4]}) == []
        assert use(cache, NAMES[3]) == FILES[NAMES[3]]
        cache.pin([NAMES[3]])

    def test_forked_child_does_not_hold_what_its_parent_let_go(self, cache: ShardCache) -> None:
        reading, writing = os.pipe()
        with cache.local(NAMES[4], 400):
            if (child := os.fork()) == 0:
                os.read(reading, 1)
                os._exit(0)
        assert cache.evict([NAMES[4]]).evicted == (NAMES[4],)
        os.write(writing, b"1")
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


class TestPreload:
    def wanted(self, *numbers: int) -> list[Ref]:
        return [Ref(NAMES[n], len(FILES[NAMES[n]])) for n in numbers]

    def test_all_is_here_and_stays(self, cache: ShardCache) -> None:
        use(cache, NAMES[6])
        *_, last = cache.preload(self.wanted(0, 1, 2), pin=True)
        assert (last.done, last.files, last.bytes, last.bytes_total, last.left_s) == (True, 3, 310, 310, 0.0)
        use(cache, NAMES[4])
        use(cache, NAMES[5 - 2])
        assert set(NAMES[:3]) <= set(cache.digests())
        with pytest.raises(AvError) as caught:
            use(cache, NAMES[7])
        assert caught.value.code == "cache_pinned"

    def test_what_cannot_fit_is_refused_before_anything_is_fetched(
        self, cache: ShardCache, origin: Origin
    ) -> None:
        with pytest.raises(AvError) as caught:
            list(cache.preload(self.wanted(5, 6)))
        assert caught.value.code == "larger_than_cache"
        assert origin.asked == []

    def test_nothing_is_wanted(self, cache: ShardCache) -> None:
        assert list(cache.preload([])) == []

    def test_error_ends_it(self, cache: ShardCache, origin: Origin) -> None:
        def broken(_: Path) -> None:
            raise TransientError("down", code="store_failed")

        origin.instead = [broken] * 3
        with pytest.raises(TransientError):
            list(cache.preload(self.wanted(0, 1, 2), threads=1))

    def test_end_is_predicted(self, tmp_path: Path) -> None:
        """A source of constant rate: from a fifth on, the predicted end is right to a quarter."""
        files = dict(made(100 + number, 50) for number in range(40))

        def slow(sha256: str, target: Path) -> None:
            time.sleep(0.05)
            target.write_bytes(files[sha256])

        cache = ShardCache(tmp_path, 10_000, slow, SHARP)
        said = list(cache.preload([Ref(s, 50) for s in files], threads=2))
        cache.close()
        took = said[-1].elapsed_s
        predicted = [p.elapsed_s + p.left_s for p in said if p.left_s is not None and p.bytes >= 400]
        assert predicted
        assert all(abs(end / took - 1) < 0.25 for end in predicted), (took, predicted)


class TestBounds:
    @pytest.mark.parametrize("sha256", ["", "ab", "../../etc/passwd", "A" * 64, "0" * 63 + "/"])
    def test_only_digests_are_names(self, cache: ShardCache, sha256: str) -> None:
        with pytest.raises(AvError) as caught, cache.local(sha256, 1):
            pass
        assert caught.value.code == "bad_digest"

    def test_missing_object(self, tmp_path: Path) -> None:
        cache = ShardCache(tmp_path / "cache", BUDGET, FolderStore(tmp_path / "lake"), SHARP)
        with pytest.raises(EvidenceError) as caught:
            use(cache, NAMES[0])
        assert caught.value.code == "missing_object"
        assert cache.stats().counts["failures"] == 1
        cache.close()

    def test_evicts_ahead(self, tmp_path: Path, origin: Origin) -> None:
        ahead = SHARP.model_copy(update={"evict_ahead_share": 0.3})
        cache = ShardCache(tmp_path, BUDGET, origin, ahead)
        for number in (3, 2, 5):
            use(cache, NAMES[number])
        use(cache, NAMES[1])
        assert cache.digests() == [NAMES[5], NAMES[1]], "200 bytes of place were enough, 300 more were made"
        cache.close()

    def test_is_opened_again_in_another_process(self, cache: ShardCache, tmp_path: Path) -> None:
        lake = FolderStore(tmp_path / "lake")
        sent = pickle.loads(pickle.dumps(ShardCache(tmp_path / "c", 7, lake, SHARP)))
        assert (sent.folder, sent.budget_bytes, sent.policy) == (tmp_path / "c", 7, SHARP)

    def test_folder_is_private(self, cache: ShardCache) -> None:
        use(cache, NAMES[0])
        assert (cache.folder / "objects").stat().st_mode & 0o077 == 0
        assert stored(cache, NAMES[0]).stat().st_mode & 0o777 == 0o444


@contextmanager
def timer(done: dict[str, Any]) -> Iterator[None]:
    began = time.monotonic()
    yield
    done["took_s"] = time.monotonic() - began


def test_those_who_waited_fail_with_the_one_who_fetched(tmp_path: Path) -> None:
    """Sixteen threads on a source that needs half a second to fail: one failure, not sixteen in a row."""
    asked: list[str] = []

    def down(sha256: str, _: Path) -> None:
        asked.append(sha256)
        time.sleep(0.5)
        raise TransientError("down", code="store_failed")

    cache, codes, done = ShardCache(tmp_path, BUDGET, down, SHARP), list[str](), dict[str, Any]()

    def ask() -> None:
        try:
            use(cache, NAMES[0])
        except TransientError as error:
            codes.append(error.code)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    with timer(done):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert codes == ["store_failed"] * 16
    assert len(asked) <= 2
    assert done["took_s"] < 3.0
    assert list((cache.folder / "flights").iterdir()) == []
    cache.close()
