"""The part of `av` that carries labels between the lake and labelling tools: files, and a Label Studio server.

Belongs here: arguments, bundles, printing. Does not belong here: formats and rounds (domain/labels/exchange), judging.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from av_assets.cli.lake import open_lake
from av_assets.cli.logs import json_option, path_argument
from av_assets.domain.errors import AvError

if TYPE_CHECKING:
    from av_assets.domain.labels.exchange.returned import ReturnedSubmission
    from resources.label_studio import LabelStudio
    from resources.lake import Lake

ROUNDS = ("annotate", "review", "adjudicate")
round_option = click.option(
    "--round", "round_", type=click.Choice(ROUNDS), default="annotate", show_default=True
)


@click.group()
def labels() -> None:
    """Labels that people make, and what becomes of them."""


@labels.command("export")
@click.argument("drive")
@click.option("--format", "format_", type=click.Choice(["coco", "cvat", "label-studio"]), required=True)
@click.option("--out", type=path_argument, required=True, help="A new folder.")
@round_option
@json_option
def export(drive: str, format_: str, out: Path, round_: str, as_json: bool) -> None:
    """Write redacted pictures and proposals of DRIVE for a labelling tool."""
    from av_assets.domain.labels.exchange.coco import write_coco
    from av_assets.domain.labels.exchange.cvat import write_cvat
    from av_assets.domain.labels.exchange.label_studio import write_label_studio
    from av_assets.domain.labels.schema import CLASSES

    lake = open_lake()
    frames = _frames(lake, drive, round_)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise AvError(f"{out} is not empty", code="out_not_empty", file=out, remedy="name a new folder")
    pictures = out / "pictures"
    _pictures(lake, drive, frames, pictures)
    file = out / ("annotations.xml" if format_ == "cvat" else f"{format_}.json")
    if format_ == "coco":
        write_coco(file, frames, CLASSES)
    elif format_ == "cvat":
        write_cvat(file, frames, CLASSES, f"{drive} - {round_}")
    else:
        write_label_studio(file, frames, f"/data/local-files/?d={drive}/")
    count = len({frame.task_id for frame in frames})
    _say(
        as_json, {"file": str(file), "tasks": count, "boxes": sum(len(frame.boxes) for frame in frames)},
        f"{file}: {count} tasks",
    )  # fmt: skip


@labels.command("import")
@click.argument("drive")
@click.argument("files", type=path_argument, nargs=-1, required=True)
@click.option("--annotator", help="Who drew, where a file does not say.")
@json_option
def import_(drive: str, files: tuple[Path, ...], annotator: str | None, as_json: bool) -> None:
    """Hand in FILES of DRIVE (COCO, CVAT for images 1.1, Label Studio JSON); all are read before any lands."""
    from av_assets.domain.labels.exchange.returned import read_returned
    from resources.environment import environment

    # Without tasks nobody would ever look at the files.
    open_lake().require("label_tasks", _drive_name(drive))
    read = [(file, read_returned(file)) for file in files]
    folder = environment().labels / "returned" / drive
    landed = {str(file): _land(file, found, folder, annotator) for file, found in read}
    counts = {str(file): len(found) for file, found in read}
    _say(
        as_json, [{"file": name, "landed": str(landed[name]), "submissions": n} for name, n in counts.items()],
        *(f"{name}: {n} submissions, handed in as {landed[name].name}" for name, n in counts.items()),
    )  # fmt: skip


@labels.command("push")
@click.argument("drive")
@round_option
@json_option
def push(drive: str, round_: str, as_json: bool) -> None:
    """Give the tasks of DRIVE to the Label Studio server; a task that is there already stays as it is."""
    studio, lake = _studio(), open_lake()
    frames = _frames(lake, drive, round_)
    wanted = max(
        (
            row["annotations_wanted"]
            for row in lake.rows_of(lake.manifest("label_tasks", drive), "tasks.parquet")
        ),
        default=1,
    )
    with lake.workdir() as folder:
        _pictures(lake, drive, frames, folder / "pictures")
        annotations = wanted if round_ == "annotate" else 1
        found = studio.push(drive, round_, frames, folder / "pictures", annotations)
    _say(as_json, found, f"{drive} - {round_}: {found['pushed']} tasks pushed, {found['already']} were there")


@labels.command("pull")
@click.argument("drive", required=False)
@json_option
def pull(drive: str | None, as_json: bool) -> None:
    """Bring what people drew of DRIVE, or of every drive of the lake, from the Label Studio server."""
    from resources.environment import environment

    studio = _studio()
    # A title is what somebody typed on the server: only drives that have tasks become folders.
    planned = set(open_lake().partitions("label_tasks"))
    names = [_drive_name(drive)] if drive else [name for name in studio.drives() if name in planned]
    folder = environment().labels / "returned"
    changed = {name: [path.name for path in studio.pull(name, folder / name)] for name in names}
    lines = [f"{name}: {', '.join(files) or 'nothing new'}" for name, files in changed.items()]
    _say(as_json, changed, *(lines or ["the server has no project of a drive"]))


COMMANDS = (labels,)


def _frames(lake: Lake, drive: str, round_: str) -> list[ReturnedSubmission]:
    from av_assets.domain.labels.exchange.rounds import round_frames

    lake.require("label_tasks", drive)
    found = round_frames(
        round_,
        lake.rows_of(lake.manifest("label_tasks", drive), "tasks.parquet"),
        lake.rows_of(lake.manifest("auto_labels", drive), "labels.parquet"),
        lake.rows_of(lake.manifest("label_submissions", drive), "submissions.parquet"),
        lake.rows_of(lake.manifest("label_submissions", drive), "boxes.parquet"),
        {
            r["task_id"]: r["state"]
            for r in lake.rows_of(lake.manifest("verified_labels", drive), "frames.parquet")
        },
    )
    if not found:
        raise AvError(
            f"no frame of {drive} waits for {round_}",
            code="nothing_to_label",
            drive=drive,
            remedy=f"av labels status {drive} shows where its frames stand",
        )
    return found


def _pictures(lake: Lake, drive: str, frames: Sequence[ReturnedSubmission], out: Path) -> None:
    """Redacted pictures of the frames, every one of them: a person cannot label what is not there."""
    from av_assets.domain.labels.exchange.rounds import write_pictures

    names = {frame.task_id for frame in frames}
    tasks = [
        row
        for row in lake.rows_of(lake.manifest("label_tasks", drive), "tasks.parquet")
        if row["task_id"] in names
    ]
    out.mkdir(parents=True, exist_ok=True)
    with lake.workdir() as folder:
        lake.checkout(lake.require("synced_shards", drive), folder / "shards", "clips/*")
        written = write_pictures(sorted((folder / "shards" / "clips").glob("*.parquet")), tasks, out)
    if written != len(tasks):
        raise AvError(
            f"synced_shards holds the pictures of {written} of {len(tasks)} tasks",
            code="pictures_missing",
            drive=drive,
            remedy=f"av request label_tasks {drive}",
        )


def _land(file: Path, found: list[ReturnedSubmission], folder: Path, annotator: str | None) -> Path:
    """Put a file where the sensor finds it, as it came; only who drew is added, where the file does not say.

    Its name is its digest: the same file handed in twice is one file.
    """
    from dataclasses import replace

    from av_assets.domain.evidence.digests import sha256_file
    from av_assets.domain.labels.exchange.coco import write_coco
    from av_assets.domain.labels.exchange.returned import format_of

    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{sha256_file(file)[:16]}.part"
    if annotator and any(not submission.annotator for submission in found):
        said = [replace(s, annotator=s.annotator or annotator) for s in found]
        write_coco(part, said, sorted({box.cls for s in said for box in s.boxes}))
        kind = ".json"
    else:
        part.write_bytes(file.read_bytes())
        kind = ".xml" if format_of(file) == "cvat" else ".json"
    return part.replace(folder / f"{sha256_file(part)[:16]}{kind}")


def _drive_name(drive: str) -> str:
    from av_assets.domain.logs.drive_spec import drive_id

    return drive_id(drive)


def _studio() -> LabelStudio:
    from resources.label_studio import configured

    found = configured()
    if found is None:
        raise AvError(
            "this installation has no Label Studio server",
            code="no_label_studio",
            remedy="set AV_LABEL_STUDIO_URL and AV_LABEL_STUDIO_TOKEN, or use av labels export and import",
        )
    return found


def _say(as_json: bool, found: Any, *lines: str) -> None:
    for line in [json.dumps(found)] if as_json else lines:
        click.echo(line)
