"""The part of `av` that shows one clip to people.

Belongs here: which bundles a view is made of. Does not belong here: what is drawn (domain/viewing).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from av_assets.cli.logs import json_option, path_argument
from av_assets.domain.errors import AvError

if TYPE_CHECKING:
    from resources.lake import Lake

_LABELS = ("verified_labels", "auto_labels")


@click.command()
@click.argument("clip")
@click.option("--out", type=path_argument, default=".", help="Folder that the files are written into.")
@click.option("--open", "show", is_flag=True, help="Open the recording in the Rerun viewer.")
@json_option
def view(clip: str, out: Path, show: bool, as_json: bool) -> None:
    """Write CLIP (drive/number) as a Rerun recording and an MCAP excerpt; redacted frames only."""
    from av_assets.cli.lake import open_lake

    written = write_view(open_lake(), clip, out)
    click.echo(json.dumps(written) if as_json else "\n".join(f"{k}: {v}" for k, v in written.items()))
    if show:
        import subprocess
        import sys

        subprocess.run([sys.executable, "-m", "rerun", written["rerun"]], check=False)


def write_view(lake: Lake, clip_id: str, out: Path) -> dict[str, Any]:
    """The two files of a clip in folder `out`, as name -> path.

    Raises:
        AvError: no_such_clip.
        EvidenceError: what the lake holds of the drive does not match its digests.
    """
    from av_assets.domain.sync.exporters.clips import Shards
    from av_assets.domain.viewing.mcap_view import write_excerpt
    from av_assets.domain.viewing.overlay import overlay_of
    from av_assets.domain.viewing.rerun_view import write_rrd

    drive, _, number = clip_id.partition("/")
    manifest = lake.manifest("synced_shards", drive)
    path = f"clips/{number}.parquet"
    if manifest is None or not manifest.holds(path):
        raise AvError(
            f"no clip {clip_id}", code="no_such_clip", drive=drive, remedy='list them: av sql "FROM clips"'
        )
    out.mkdir(parents=True, exist_ok=True)
    stem = f"{drive}-{number}"
    with lake.workdir() as folder:
        (folder / "shards").mkdir()
        shards = Shards.open(lake.checkout(manifest, folder / "shards", path, "*.json"))
        clip = next(iter(shards.clips()))
        events = _rows(lake, "events", drive)
        told = [row for row in _rows(lake, "scenes", drive) if clip_id in row["clip_ids"]]
        text = "\n\n".join(row["description"] for row in sorted(told, key=lambda row: row["start_ns"]))
        labels, origin = _labels(lake, drive, folder / "labels")
        overlay = overlay_of(clip_id, labels, events, text)
        write_rrd(shards, clip, overlay, out / f"{stem}.rrd")
        (out / f"{stem}.mcap").unlink(missing_ok=True)
        topics = write_excerpt(shards, clip, overlay, out / f"{stem}.mcap")
    boxes = sum(map(len, overlay.boxes.values()))
    return {
        "rerun": str(out / f"{stem}.rrd"),
        "mcap": str(out / f"{stem}.mcap"),
        "boxes": f"{boxes} of {origin}" if origin else "none",
        "events": len(overlay.events),
        "messages": sum(topics.values()),
    }


def _rows(lake: Lake, table: str, drive: str) -> list[dict[str, Any]]:
    found = lake.tables.read(table, [("drive", "=", drive)])
    return [] if found is None else found.to_pylist()


def _labels(lake: Lake, drive: str, folder: Path) -> tuple[Path | None, str]:
    """The best labels that the drive has, and which asset they are of."""
    for asset in _LABELS:
        manifest = lake.manifest(asset, drive)
        if manifest is not None and manifest.holds("labels.parquet"):
            folder.mkdir()
            return lake.checkout(manifest, folder, "labels.parquet") / "labels.parquet", asset
    return None, ""


COMMANDS = (view,)
