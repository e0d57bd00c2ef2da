"""Segments in the lake: made once, taken up by the next attempt, shared with no other, gone when the bundle is done."""

from pathlib import Path

import pytest

from av_assets.domain.evidence.manifest import MadeFrom
from av_assets.domain.evidence.segments import FolderSegments, Segments
from resources.lake import Lake
from resources.segments import LakeSegments, forget_segments


class Maker:
    """Counts, writes, and dies where it is told to."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.dies_at = ""

    def run(self, segments: Segments, *names: str) -> list[bytes]:
        def make(name: str, folder: Path) -> None:
            (folder / "half.bin").write_bytes(b"half")
            if name == self.dies_at:
                raise KeyboardInterrupt
            self.made.append(name)
            (folder / "part.bin").write_bytes(name.encode())

        return [(segments.once(n, lambda f, n=n: make(n, f)) / "part.bin").read_bytes() for n in names]


def attempt(lake: Lake, folder: Path, code: str = "1", drive: str = "a") -> LakeSegments:
    return LakeSegments(lake, "clips", drive, MadeFrom(code_version=code), folder)


def test_second_attempt_makes_only_what_the_first_did_not_finish(lake: Lake, tmp_path: Path) -> None:
    maker = Maker()
    maker.dies_at = "cam/00002"
    names = [f"cam/{n:05d}" for n in range(4)]
    with pytest.raises(KeyboardInterrupt):
        maker.run(attempt(lake, tmp_path / "first"), *names)
    maker.dies_at = ""
    assert maker.run(attempt(lake, tmp_path / "second"), *names) == [n.encode() for n in names]
    assert maker.made == names


def test_other_inputs_and_other_drives_share_nothing(lake: Lake, tmp_path: Path) -> None:
    maker = Maker()
    for number, (code, drive) in enumerate((("1", "a"), ("2", "a"), ("1", "b"))):
        maker.run(attempt(lake, tmp_path / str(number), code, drive), "x")
    assert maker.made == ["x", "x", "x"]


def test_segment_whose_bytes_are_gone_is_made_again(lake: Lake, tmp_path: Path) -> None:
    maker = Maker()
    maker.run(attempt(lake, tmp_path / "first"), "x")
    for key in [key for key in lake.store.keys("segments/") if key.endswith(".bin")]:
        lake.store.delete(key)
    maker.run(attempt(lake, tmp_path / "second"), "x")
    assert maker.made == ["x", "x"]


def test_finished_bundle_forgets_its_segments_of_all_attempts(lake: Lake, tmp_path: Path) -> None:
    maker = Maker()
    maker.run(attempt(lake, tmp_path / "1", "1"), "x")
    maker.run(attempt(lake, tmp_path / "2", "2"), "x")
    maker.run(attempt(lake, tmp_path / "3", "1", "b"), "x")
    forget_segments(lake, "clips", "a")
    left = list(lake.store.keys("segments/"))
    assert left
    assert all("/clips/b/" in key for key in left)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x"])
def test_name_stays_inside(lake: Lake, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="unsafe"):
        attempt(lake, tmp_path / "w").once(name, lambda _: None)


def test_folder_of_segments_keeps_the_same_promise(tmp_path: Path) -> None:
    maker = Maker()
    maker.dies_at = "b"
    with pytest.raises(KeyboardInterrupt):
        maker.run(FolderSegments(tmp_path), "a", "b")
    maker.dies_at = ""
    maker.run(FolderSegments(tmp_path), "a", "b")
    assert maker.made == ["a", "b"]


def test_files_of_segments_become_files_of_the_bundle_and_outlive_them(lake: Lake, tmp_path: Path) -> None:
    segments = attempt(lake, tmp_path / "work")
    part = segments.once("x", lambda folder: (folder / "part.bin").write_bytes(b"part") and None) / "part.bin"
    out = tmp_path / "out"
    out.mkdir()
    part.rename(out / "00000.parquet")
    manifest = lake.publish("clips", "a", out)
    forget_segments(lake, "clips", "a")
    assert lake.read_bytes(manifest, "00000.parquet") == b"part"
    assert lake.verify(manifest) == []
