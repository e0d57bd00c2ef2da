"""A dataset written in another tool's format, into a folder that is there whole or not at all.

Belongs here: choosing splits, the folder, and saying what was written and what could not be. Does not belong here: the
formats.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from av_assets.domain.datasets.exports.coco import export_coco
from av_assets.domain.datasets.exports.frames import DatasetFrames
from av_assets.domain.datasets.exports.kitti import export_kitti
from av_assets.domain.datasets.exports.nuscenes import export_nuscenes
from av_assets.domain.errors import AvError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from av_assets.domain.models.golden import Split
    from av_assets.policies.archives import ArchivesPolicy

Format = Literal["coco", "nuscenes", "kitti"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
REPORT: Final = "export.json"


def export_dataset(
    root: Path,
    to: Format,
    out: Path,
    splits: Sequence[Split],
    cuboids: Mapping[str, Path],
    policy: ArchivesPolicy,
    about: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write the dataset in folder `root` to the new folder `out`; gives what `export.json` says there.

    Args:
        cuboids: see DatasetFrames.
        about: facts that the report begins with, e.g. name and version.
        force: an earlier export in `out` is replaced when the new one is whole.
        progress: told how many of how many frames are done.

    Raises:
        DatasetError: empty_export, the splits hold no frame that can be written; what reading raises.
        AvError: out_not_empty, not_an_export.
    """
    frames = DatasetFrames(root, cuboids)
    total, done = sum(frames.labelled(split) for split in splits), 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    with new_folder(out, force) as folder:
        if to == "coco":
            left_out = export_coco(frames, splits, folder, advance)
        elif to == "kitti":
            left_out = export_kitti(frames, splits, folder, policy, advance)
        else:
            left_out = export_nuscenes(frames, splits, folder, advance)
        report = {**(about or {}), **_report(frames, to, splits, left_out)}
        if not frames.counts["frames"]:
            raise DatasetError(
                f"no frame of {', '.join(splits)} can be written as {to}: {left_out or 'there are none'}",
                code="empty_export",
                remedy="choose other splits, or another format",
            )
        (folder / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", "utf-8")
    return report


@contextmanager
def new_folder(out: Path, force: bool) -> Iterator[Path]:
    """A folder beside `out` that takes its name when the block ends well, and is gone when it does not.

    Raises:
        AvError: out_not_empty; not_an_export, `force` would remove something else than an export.
    """
    out = out.absolute()
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise AvError("this is no folder", code="not_an_export", file=out, remedy="name a new folder")
    if out.is_dir() and any(out.iterdir()):
        if not force:
            raise AvError(
                "the folder holds something",
                code="out_not_empty",
                file=out,
                remedy="use --force, or another one",
            )
        if not (out / REPORT).is_file():
            raise AvError(
                f"the folder holds something that is no export: there is no {REPORT}",
                code="not_an_export",
                file=out,
                remedy="name another folder",
            )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as beside:
        folder = Path(beside) / "new"
        folder.mkdir()
        yield folder
        if out.exists():
            out.rename(Path(beside) / "old")
        folder.rename(out)


def _report(
    frames: DatasetFrames, to: Format, splits: Sequence[Split], left_out: Mapping[str, str]
) -> dict[str, Any]:
    drives = [drive for split in splits for drive in frames.spec.drives(split)]
    names = ("frames", "boxes", "boxes_without_cuboid", "frames_without_picture", "frames_without_points")
    solid = sum(frames.cuboids_of(drive) is not None for drive in drives)
    return {
        "format": to,
        "camera": frames.spec.camera,
        "splits": {split: list(frames.spec.drives(split)) for split in splits},
        "left_out": dict(left_out),
        "cuboids": f"{solid} of {len(drives)} drives have cuboids"
        if to != "coco"
        else "not part of the format",
        "distorted": [] if to == "coco" else [d for d in drives if _distorted(frames, d)],
        **{name: frames.counts[name] for name in names},
    }


def _distorted(frames: DatasetFrames, drive: str) -> bool:
    """Whether the camera bends lines: the formats take pictures as free of distortion, these are as they were taken."""
    camera = frames.calibration(drive).get("cameras", {}).get(frames.spec.camera) or {}
    return any(abs(float(v)) > 0 for v in camera.get("D") or ())
