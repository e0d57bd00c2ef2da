"""The network as TorchScript: for hosts that run libtorch, and a second witness of what the network computes.

Belongs here: tracing, and bytes that follow from the network alone. Does not belong here: ONNX (`onnx_file`).
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

ALIGNMENT: Final = 64  # libtorch maps tensors from the file; its own writer aligns them to this
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_COUNTER: Final = re.compile(rb"___torch_mangle_\d+")
# Source positions hold the paths of the machine; the id is a hash over them.
_LEFT_OUT: Final = re.compile(r"\.debug_pkl$|/\.data/serialization_id$")


def to_torchscript(deployable: torch.nn.Module, example: Sequence[Tensor]) -> bytes:
    """The traced and frozen module; equal networks give equal bytes, in whichever process and folder."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer names each size that it takes for a constant
        traced = torch.jit.freeze(torch.jit.trace(deployable, tuple(example), check_trace=False))
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
    return _settled(buffer.getvalue())


def load_torchscript(data: bytes) -> torch.jit.ScriptModule:
    """The module that `to_torchscript` wrote. TorchScript runs code of its file: load only what was made here."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of TorchScript as a whole; hosts still ask for it
        return torch.jit.load(io.BytesIO(data))


def _settled(archive: bytes) -> bytes:
    """The archive without what differs from process to process: counters in names, positions in sources."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            if not _LEFT_OUT.search(name):
                data = source.read(name)
                if name.endswith((".py", "/data.pkl")):
                    data = _COUNTER.sub(b"___torch_mangle_0", data)
                _store(target, _COUNTER.sub(b"___torch_mangle_0", name.encode()).decode(), data)
    return out.getvalue()


def _store(target: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    header = target.fp.tell() + 30 + len(name.encode())  # type: ignore[union-attr]
    padding = -(header + 4) % ALIGNMENT
    entry.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    target.writestr(entry, data)
