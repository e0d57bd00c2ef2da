"""What goes wrong while loading says what and where, ends, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from toy_shards import (
    COLUMNS,
    fail_at_five,
    hang_at_five,
    kill_at_five,
    number_only,
    row_of,
    seen,
    uneven_at_five,
    write_shard,
    write_shards,
)

from av_assets.domain.errors import AvError, DatasetError, TransientError
from av_assets.domain.loading.loader import Loader
from av_assets.domain.loading.sample_index import SampleIndex
from av_assets.domain.loading.sources import FolderSource, ShardRef

SIZES = [4, 4, 4]


@pytest.fixture
def index(tmp_path: Path) -> SampleIndex:
    return write_shards(tmp_path, SIZES)


def loader(index: SampleIndex, root: Path, **how: Any) -> Loader:
    chosen = {
        "columns": COLUMNS,
        "batch_size": 3,
        "seed": 3,
        "shuffle": False,
        "transform": seen,
        "last_batch": "keep",
    }
    return Loader(index, how.pop("source", FolderSource(root)), **(chosen | how))


def samples(batches: Loader) -> list[int]:
    return [sample for batch in batches for sample in batch["sample"].tolist()]


def damage_picture(path: Path, row: int) -> None:
    """The row's picture loses its second half; everything around it stays where it is."""
    from av_assets.domain.loading.shard_file import ShardFile

    start, length = ShardFile(path, COLUMNS)._sensors["camera_front"].ranges[row].tolist()
    data = bytearray(path.read_bytes())
    data[start + length // 2 : start + length] = bytes(length - length // 2)
    path.write_bytes(data)


def damaged(root: Path, how: str) -> None:
    path = root / "00001.parquet"
    if how == "undecodable_frame":
        damage_picture(path, 2)
    elif how == "missing_shard":
        path.unlink()
    elif how == "shard_changed":
        path.write_bytes(path.read_bytes()[:-40])
    elif how == "bad_shard":
        path.write_bytes(b"x" * path.stat().st_size)
    else:
        raise KeyError(how)


@pytest.mark.parametrize("how", ["undecodable_frame", "missing_shard", "shard_changed", "bad_shard"])
def test_a_bad_sample_names_shard_row_and_remedy(index: SampleIndex, tmp_path: Path, how: str) -> None:
    damaged(tmp_path, how)
    row = 2 if how == "undecodable_frame" else 0
    batches = loader(index, tmp_path)
    with pytest.raises(DatasetError) as caught:
        samples(batches)
    assert (caught.value.code, caught.value.file, caught.value.drive) == (how, "00001.parquet", "drive-1")
    assert caught.value.reason.startswith(f"row {row}: ")
    assert caught.value.remedy
    assert batches.position == (6 if row else 3)


def test_workers_name_the_same(index: SampleIndex, tmp_path: Path) -> None:
    damaged(tmp_path, "undecodable_frame")
    errors = []
    for workers in (0, 2):
        with loader(index, tmp_path, workers=workers) as batches, pytest.raises(DatasetError) as caught:
            samples(batches)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("how", ["undecodable_frame", "missing_shard", "shard_changed", "bad_shard"])
def test_skipping_is_chosen_recorded_and_the_same_everywhere(
    index: SampleIndex, tmp_path: Path, how: str
) -> None:
    damaged(tmp_path, how)
    bad = [6] if how == "undecodable_frame" else [4, 5, 6, 7]
    alone = loader(index, tmp_path, on_bad="skip")
    found = {name: [row for batch in alone for row in batch[name].tolist()] for name in ("sample", "real")}
    assert [place for place, real in enumerate(found["real"]) if not real] == bad
    assert not set(bad) & set(found["sample"])
    # A stand-in may itself be bad: it is noted, too, and they are the same rows.
    assert alone.skipped == {f"00001.parquet row {place - 4}": how for place in bad}
    shares = [loader(index, tmp_path, on_bad="skip", rank=rank, world_size=2) for rank in range(2)]
    parts = [samples(share) for share in shares]
    assert sorted(parts[0] + parts[1]) == sorted(found["sample"])
    assert shares[0].skipped | shares[1].skipped == alone.skipped


def test_skipping_with_workers_is_the_same(index: SampleIndex, tmp_path: Path) -> None:
    damaged(tmp_path, "missing_shard")
    alone = loader(index, tmp_path, on_bad="skip")
    with loader(index, tmp_path, on_bad="skip", workers=2) as batches:
        assert samples(batches) == samples(alone)
        assert batches.skipped == alone.skipped
        assert batches.state_dict()["skipped"] == alone.skipped


def test_a_dataset_that_is_all_bad_ends(index: SampleIndex, tmp_path: Path) -> None:
    for path in tmp_path.glob("*.parquet"):
        path.unlink()
    with pytest.raises(DatasetError) as caught:
        samples(loader(index, tmp_path, on_bad="skip"))
    assert caught.value.code == "too_many_bad_samples"


def test_digests_are_compared_where_asked(index: SampleIndex, tmp_path: Path) -> None:
    damage_picture(tmp_path / "00001.parquet", 2)
    with pytest.raises(DatasetError) as caught:
        samples(
            loader(index, tmp_path, transform=number_only, source=FolderSource(tmp_path, verify="sha256"))
        )
    assert caught.value.code == "shard_changed"
    assert "digest" in caught.value.reason


@pytest.mark.parametrize("path", ["../secret.parquet", "/etc/passwd"])
def test_shards_lie_in_their_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(DatasetError) as caught, FolderSource(tmp_path).local(ShardRef("", 0, path)):
        pass
    assert caught.value.code == "foreign_shard"


def test_pictures_without_the_mark_are_refused(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    index = write_shards(tmp_path, [3])
    table = pq.read_table(tmp_path / "00000.parquet").replace_schema_metadata({"drive": "drive-0"})
    pq.write_table(table, tmp_path / "00000.parquet", compression="none", use_dictionary=False)
    refs = [ShardRef("", 0, "00000.parquet")]
    with pytest.raises(DatasetError) as caught:
        samples(loader(SampleIndex.of_shards(refs, FolderSource(tmp_path)), tmp_path))
    assert caught.value.code == "unredacted_file"
    assert len(index) == 3


def test_a_row_that_is_not_there(index: SampleIndex, tmp_path: Path) -> None:
    write_shard(tmp_path / "00001.parquet", "drive-1/00001", [row_of(4)])
    unsized = SampleIndex.of_shards(
        [ShardRef("", 0, ref.path) for ref in index.shards[:1]], FolderSource(tmp_path)
    )
    index = type(index)(
        (ShardRef("", 0, "00000.parquet"), ShardRef("", 0, "00001.parquet"), *index.shards[2:]),
        index.drives, index.clips, index.shard, index.row, index.ref_ns, index.drive, index.clip,
    )  # fmt: skip
    with pytest.raises(DatasetError) as caught:
        samples(loader(index, tmp_path))
    assert caught.value.code == "no_such_row"
    assert len(unsized) == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_in_a_transform_is_not_skipped(index: SampleIndex, tmp_path: Path, workers: int) -> None:
    with loader(index, tmp_path, transform=fail_at_five, on_bad="skip", workers=workers) as batches:
        with pytest.raises(AvError, match="ZeroDivisionError: a mistake in a transform") as caught:
            samples(batches)
        assert (caught.value.code, caught.value.file) == ("transform_failed", "00001.parquet")
        assert batches.skipped == {}


def test_samples_of_uneven_shape_are_refused(index: SampleIndex, tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"00001.parquet row 1: .* float64 \(3,\) instead of float64 \(2,\)"
    ):
        samples(loader(index, tmp_path, transform=uneven_at_five))


def test_columns_that_were_not_asked_for(index: SampleIndex, tmp_path: Path) -> None:
    with pytest.raises(AvError, match="lidar_top is not among the loader's columns"):
        samples(loader(index, tmp_path, columns=("camera_front",)))


def test_transforms_that_cannot_be_sent(index: SampleIndex, tmp_path: Path) -> None:
    with pytest.raises(AvError) as caught:
        samples(loader(index, tmp_path, transform=lambda sample, rng: {}, workers=1))
    assert caught.value.code == "not_picklable"
    assert children() == []


OTHERS: set[int] = set()
"""Processes that tests of other modules have left running in this process."""


@pytest.fixture(autouse=True)
def others() -> None:
    OTHERS.clear()
    OTHERS.update(children())


def children() -> list[int]:
    """Worker processes; the tracker of resources, which multiprocessing starts, is none."""
    found = [c for c in psutil.Process().children(recursive=True) if c.pid not in OTHERS]
    return [c.pid for c in found if "resource_tracker" not in " ".join(c.cmdline())]


def test_a_killed_worker_is_an_error_and_iterating_again_goes_on(index: SampleIndex, tmp_path: Path) -> None:
    batches = loader(index, tmp_path, transform=kill_at_five, workers=2)
    with pytest.raises(TransientError) as caught:
        samples(batches)
    assert caught.value.code == "worker_died"
    assert "SIGKILL" in caught.value.reason
    assert children() == []
    given = batches.position
    assert given in (0, 3)  # the one before may be done by then, or not
    batches._maker.transform = number_only
    with batches:
        assert samples(batches) == list(range(given, 12))


def test_a_worker_killed_between_batches(index: SampleIndex, tmp_path: Path) -> None:
    batches = loader(index, tmp_path, workers=2, batch_size=1, prefetch=1)
    going = iter(batches)
    next(going)
    os.kill(batches._pool.pids[1], 9)
    batches._pool._processes[1].join(10)  # else all batches may be done before it is dead
    with pytest.raises(TransientError) as caught:
        list(going)
    assert caught.value.code == "worker_died"
    assert children() == []


def test_a_worker_that_hangs_is_an_error(index: SampleIndex, tmp_path: Path) -> None:
    batches = loader(index, tmp_path, transform=hang_at_five, workers=1, patience_s=3.0)
    with pytest.raises(TransientError) as caught:
        samples(batches)
    assert caught.value.code == "worker_stalled"
    assert children() == []


def test_closing_in_the_middle_leaves_no_process(index: SampleIndex, tmp_path: Path) -> None:
    batches = loader(index, tmp_path, workers=2, batch_size=1)
    next(iter(batches))
    assert len(children()) == 2
    batches.close()
    assert children() == []


def test_workers_end_with_the_process_that_reads(tmp_path: Path) -> None:
    """Also when it is killed, and so cannot close anything."""
    write_shards(tmp_path, SIZES)
    script = tmp_path / "reads.py"
    script.write_text(
        "import time\nfrom pathlib import Path\n"
        "from toy_shards import COLUMNS, number_only\n"
        "from av_assets.domain.loading.loader import Loader\n"
        "from av_assets.domain.loading.sample_index import SampleIndex\n"
        "from av_assets.domain.loading.sources import FolderSource, ShardRef\n"
        "if __name__ == '__main__':\n"
        f"    root = Path({str(tmp_path)!r})\n"
        "    refs = [ShardRef('', 0, p.name) for p in sorted(root.glob('*.parquet'))]\n"
        "    index = SampleIndex.of_shards(refs, FolderSource(root))\n"
        "    how = {'columns': COLUMNS, 'batch_size': 1, 'seed': 1, 'workers': 2}\n"
        "    loader = Loader(index, FolderSource(root), number_only, **how)\n"
        "    going = iter(loader)\n    next(going)\n    print(*loader._pool.pids, flush=True)\n    time.sleep(60)\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    reader = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=env)
    assert reader.stdout is not None
    pids = [int(pid) for pid in reader.stdout.readline().split()]
    assert len(pids) == 2
    reader.send_signal(signal.SIGKILL)
    reader.communicate()
    until = time.monotonic() + 10
    while time.monotonic() < until and any(map(psutil.pid_exists, pids)):
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, pids))
