"""`av datasets export`: frozen datasets for other tools.

Belongs here: arguments, finding the dataset and its cuboids in the lake, printing. Does not belong here: the formats
(`domain.datasets.exports`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from av_assets.cli.lake import open_lake
from av_assets.cli.logs import json_option, path_argument, with_progress

if TYPE_CHECKING:
    from av_assets.domain.evidence.manifest import Manifest
    from resources.lake import Lake

_SPLITS = ("train", "val", "test")
CUBOIDS = "cuboids.parquet"


@click.command()
@click.argument("reference", metavar="DATASET")
@click.option("--format", "to", type=click.Choice(("coco", "nuscenes", "kitti")), required=True)
@click.option("--out", type=path_argument, required=True, help="A folder that is new or empty.")
@click.option("--split", "splits", type=click.Choice(_SPLITS), multiple=True, help="All, if none is named.")
@click.option("--force", is_flag=True, help="Replace an earlier export in OUT.")
@json_option
def export(reference: str, to: str, out: Path, splits: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Write DATASET (golden, golden@1.0.0, golden@2025-06-02) as COCO, nuScenes or KITTI."""
    from av_assets.domain.datasets.exports.export import export_dataset
    from av_assets.policies.archives import ArchivesPolicy
    from resources.datasets import resolve

    lake = open_lake()
    found = resolve(lake, reference)
    about = {"dataset": found.name, "version": found.version, "tags": list(found.tags)}
    wanted = tuple(dict.fromkeys(splits)) or _SPLITS
    with lake.workdir() as folder:
        root = lay_out(lake, found.manifest, wanted, folder / "dataset")
        cuboids = {} if to == "coco" else lay_out_cuboids(lake, found.manifest, root, folder / "cuboids")
        report = with_progress(
            f"export {to}",
            lambda progress: export_dataset(
                root,
                to,  # type: ignore[arg-type]  # click has chosen among the formats
                out,
                wanted,  # type: ignore[arg-type]
                cuboids,
                ArchivesPolicy.load(),
                about,
                force=force,
                progress=progress,
            ),
        )
    if as_json:
        click.echo(json.dumps(report))
        return
    click.echo(f"{out}: {report['frames']:,} frames, {report['boxes']:,} boxes of {found.reference} as {to}")
    for line in _remarks(report):
        click.echo(f"  {line}")


def lay_out(lake: Lake, manifest: Manifest, splits: tuple[str, ...], folder: Path) -> Path:
    """The dataset's folder with the drives of these splits alone.

    Raises:
        EvidenceError: damaged_object, missing_object.
    """
    members = json.loads(lake.read_bytes(manifest, "dataset.json"))["members"]
    wanted = {member["drive"] for member in members if member["split"] in splits}
    files = tuple(
        f for f in manifest.files if f.path.split("/")[0] != "drives" or f.path.split("/")[1] in wanted
    )
    return _checked_out(lake, manifest.model_copy(update={"files": files}), folder)


def _checked_out(lake: Lake, manifest: Manifest, folder: Path) -> Path:
    """The files, every byte of them read again: what leaves the lake is not verified by anybody later."""
    from av_assets.domain.errors import EvidenceError
    from av_assets.domain.evidence.digests import sha256_file

    lake.checkout(manifest, folder)
    for entry in manifest.files:
        if sha256_file(folder / entry.path) != entry.sha256:
            raise EvidenceError("object differs from its digest", code="damaged_object", file=entry.path)
    return folder


def lay_out_cuboids(lake: Lake, manifest: Manifest, root: Path, folder: Path) -> dict[str, Path]:
    """drive -> cuboids of the very labels that people verified, found by the lineage of the dataset."""
    found = {}
    for drive in (
        sorted(path.name for path in (root / "drives").iterdir()) if (root / "drives").is_dir() else ()
    ):
        labels = ancestor(lake, manifest, "auto_labels", drive)
        if labels is not None and labels.matching(CUBOIDS):
            part = labels.model_copy(update={"files": labels.matching(CUBOIDS)})
            found[drive] = _checked_out(lake, part, folder / drive) / CUBOIDS
    return found


def ancestor(lake: Lake, manifest: Manifest, asset: str, drive: str) -> Manifest | None:
    """The bundle of `asset` and `drive` that this one was made from in the end; None where the lineage has none."""
    waiting, seen = [manifest], {manifest.digest}
    while waiting:
        here = waiting.pop()
        for bundle, digest in here.made_from.inputs.items():
            if bundle.rpartition("/")[2] != drive or digest in seen:
                continue
            seen.add(digest)
            above = lake.past_manifest(bundle, digest)
            if above is None:
                continue
            if above.asset == asset:
                return above
            waiting.append(above)
    return None


def _remarks(report: dict[str, object]) -> list[str]:
    """What a reader of the export has to know; the same is in export.json."""
    found = [f"{drive} left out: {why}" for drive, why in dict(report["left_out"]).items()]  # type: ignore[call-overload]
    if report["format"] != "coco" and report["boxes_without_cuboid"]:
        found.append(f"{report['boxes_without_cuboid']} boxes have no cuboid; {report['cuboids']}")
    if report["frames_without_picture"]:
        found.append(f"{report['frames_without_picture']} labelled frames have no picture and are left out")
    if report["distorted"]:
        found.append("pictures are not free of lens distortion: see distorted in export.json")
    return found


COMMANDS = (export,)
