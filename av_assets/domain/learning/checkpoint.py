"""Checkpoints: everything that a resumed run needs to go on as if it had never stopped.

A folder of a run holds `checkpoint.pt` (the newest), `kept/<step>.pt` (the newest few) and `best.pt`: names of the
same few files, each of which was written whole before it got a name.

Belongs here: what is in the file, and writing it so that a reader sees the old or the new one, never half.
Does not belong here: when to write one.
"""

from __future__ import annotations

import errno
import io
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

from av_assets.domain.errors import ModelError, TransientError

CHECKPOINT_FILE: Final = "checkpoint.pt"
BEST_FILE: Final = "best.pt"
KEPT: Final = "kept"
SCHEMA: Final = 2
_UNREADABLE: Final = (
    *(OSError, RuntimeError, EOFError, ValueError, KeyError),
    *(pickle.UnpicklingError, zipfile.BadZipFile),
)
KEYS: Final = frozenset(
    (
        *("schema", "model", "ema", "optimizer", "scheduler", "scaler", "random", "loader"),
        *("seed", "epoch", "batch_in_epoch", "step", "skipped_steps", "loss_sums", "history", "best"),
        *("classes", "dataset_digest", "config_digest", "recipe_digest", "config", "world_size"),
    )
)


def write_atomically(path: Path, data: bytes) -> None:
    """Temporary file, fsync, rename, fsync of the folder: survives a power cut at any point.

    Raises:
        TransientError: disk_full, or write_failed; what was there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise TransientError(
            f"cannot write: {error.strerror}",
            code="disk_full" if full else "write_failed",
            file=path,
            remedy="free space and run it again; the checkpoint before is whole",
        ) from error


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; equal states give equal bytes, whatever the file is called."""
    buffer = io.BytesIO()  # a path would leave its name in the archive
    torch.save(_plain({"schema": SCHEMA, **state}), buffer)
    write_atomically(path, buffer.getvalue())


def save_among(folder: Path, state: dict[str, Any], keep: int, best: bool) -> Path:
    """Write the newest checkpoint of a run, keep the newest `keep`, and name it the best where it is.

    A full disk costs the older ones before it costs this one.

    Raises:
        TransientError: it could not be written; the newest one before is whole.
    """
    path = folder / CHECKPOINT_FILE
    try:
        save(path, state)
    except TransientError as error:
        if error.code != "disk_full" or not _prune(folder, 0):
            raise
        save(path, state)
    kept = folder / KEPT
    kept.mkdir(exist_ok=True)
    _name_too(path, kept / f"{state['step']:09d}.pt")
    if best:
        _name_too(path, folder / BEST_FILE)
    _prune(folder, keep)
    return path


def _name_too(path: Path, other: Path) -> None:
    """A second name for the same bytes; a copy where the file system has no links."""
    temporary = other.with_name(f".{other.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    temporary.replace(other)


def _prune(folder: Path, keep: int) -> int:
    """Forget all kept ones but the newest `keep`; returns how many went."""
    kept = sorted((folder / KEPT).glob("*.pt"))
    old = kept[: max(0, len(kept) - keep)]
    for path in old:
        path.unlink()
    return len(old)


def newest_sound(folder: Path) -> Path | None:
    """The newest checkpoint of a run that can be read; None where there is none."""
    return next((path for path in _newest_first(folder) if _is_sound(path)), None)


def _newest_first(folder: Path) -> Iterator[Path]:
    if (newest := folder / CHECKPOINT_FILE).is_file():
        yield newest
    yield from sorted((folder / KEPT).glob("*.pt"), reverse=True)


def _is_sound(path: Path) -> bool:
    try:
        load(path)
    except ModelError:
        return False
    return True


def _plain(value: Any) -> Any:
    """The same value in fresh containers with shared strings: bytes of a pickle depend on object identity."""
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(v) for v in value)
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    return sys.intern(value) if isinstance(value, str) else value


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code that it might hold.

    Raises:
        ModelError: missing, torn, damaged, of another kind or schema.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch reads damaged weights without a word
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        remedy = "use an earlier checkpoint, or train again"
        raise ModelError("cannot read checkpoint", code="bad_checkpoint", file=path, remedy=remedy) from error
    if not isinstance(state, dict) or state.get("schema") != SCHEMA or not KEYS.issubset(state):
        raise ModelError("not a checkpoint of this platform", code="bad_checkpoint", file=path)
    return dict(state)


def weights_to_use(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The moving average where there is one, else the last weights."""
    weights: dict[str, torch.Tensor] = state["ema"] or state["model"]
    return weights
