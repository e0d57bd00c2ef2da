"""Checkpoints: everything that a resumed run needs to go on as if it had never stopped.

Belongs here: what is in the file, and writing it so that a reader sees the old or the new one, never half.
Does not belong here: when to write one.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
from pathlib import Path
from typing import Any, Final

import torch

from av_assets.domain.errors import ModelError

CHECKPOINT_FILE: Final = "checkpoint.pt"
SCHEMA: Final = 1
KEYS: Final = frozenset(
    (
        *(
            "schema",
            "model",
            "ema",
            "optimizer",
            "scheduler",
            "torch_rng",
            "seed",
            "epoch",
            "batch_in_epoch",
            "step",
        ),
        *("loss_sums", "history", "classes", "dataset_digest", "config_digest", "config"),
    )
)


def write_atomically(path: Path, data: bytes) -> None:
    """Temporary file, fsync, rename, fsync of the folder: survives a power cut at any point."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; equal states give equal bytes, whatever the file is called."""
    buffer = io.BytesIO()  # a path would leave its name in the archive
    torch.save(_plain({"schema": SCHEMA, **state}), buffer)
    write_atomically(path, buffer.getvalue())


def _plain(value: Any) -> Any:
    """The same value in fresh containers with shared strings: bytes of a pickle depend on object identity."""
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(v) for v in value)
    return sys.intern(value) if isinstance(value, str) else value


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code that it might hold.

    Raises:
        ModelError: missing, torn, of another kind or schema.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        remedy = "use an earlier checkpoint, or train again"
        raise ModelError("cannot read checkpoint", code="bad_checkpoint", file=path, remedy=remedy) from error
    if not isinstance(state, dict) or state.get("schema") != SCHEMA or not KEYS.issubset(state):
        raise ModelError("not a checkpoint of this platform", code="bad_checkpoint", file=path)
    return dict(state)


def weights_to_use(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The moving average where there is one, else the last weights."""
    weights: dict[str, torch.Tensor] = state["ema"] or state["model"]
    return weights
