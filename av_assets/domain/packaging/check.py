"""Whether a bundle on disk is what was signed, and whether its parts agree; asked of nobody but the files.

The links are looked at in the order in which trust runs, and the first that is broken is named: signature, files,
description, weights, bill of materials, parity, serving.
Belongs here: these links. Does not belong here: where bundles and keys come from (cli/models).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from av_assets.domain.errors import AvError, EvidenceError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.evidence.manifest import Manifest
from av_assets.domain.evidence.signatures import check_signature
from av_assets.domain.models.runtime import CONFIG_FILE, OnnxPerception, read_config, read_weights

MANIFEST_FILE: Final = "manifest.json"
SIGNATURE_FILE: Final = "manifest.signature"
_BESIDE: Final = frozenset({MANIFEST_FILE, SIGNATURE_FILE})


@dataclass(frozen=True)
class Link:
    """One link of the chain; `found` says what was seen, or what is broken."""

    name: str
    whole: bool
    found: str


def check_bundle(folder: Path, trusted: Collection[str]) -> list[Link]:
    """The links of the bundle in `folder`, up to the first broken one.

    Args:
        folder: the files with manifest.json and manifest.signature beside them. trusted: ids of keys.
    """
    links: list[Link] = []
    looks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("signature", lambda: _signature(folder, trusted)),
        ("files", lambda: _files(folder)),
        ("weights", lambda: _weights(folder)),
        ("bill of materials", lambda: _bill(folder)),
        ("parity", lambda: _parity(folder)),
        ("serving", lambda: _serving(folder)),
        ("loading", lambda: _loading(folder)),
    )
    for name, look in looks:
        try:
            links.append(Link(name, True, look()))
        except (AvError, OSError, ValueError, KeyError, TypeError) as error:
            links.append(Link(name, False, str(error)))
            break
    return links


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_FILE
    return Manifest.from_json(path.read_bytes(), str(path))


def _signature(folder: Path, trusted: Collection[str]) -> str:
    manifest = _manifest(folder)
    key = check_signature((folder / SIGNATURE_FILE).read_bytes(), manifest, trusted)
    return f"{manifest.asset}/{manifest.partition}, signed by {key}"


def _files(folder: Path) -> str:
    manifest = _manifest(folder)
    for entry in manifest.files:
        path = folder / entry.path
        if not path.is_file():
            raise _broken(entry.path, "the manifest names it, and it is not there")
        if path.stat().st_size != entry.bytes or sha256_file(path) != entry.sha256:
            raise _broken(entry.path, "its bytes are not those that were signed")
    named = {entry.path for entry in manifest.files} | _BESIDE
    held = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    if held - named:
        raise _broken(min(held - named), "nobody signed it")
    return f"{len(manifest.files)} files"


def _weights(folder: Path) -> str:
    """Every file of the description has its digest, and every ONNX file says what the description says."""
    import onnx

    config = read_config(folder)
    for described in config["files"].values():
        data = read_weights(folder, described)
        if str(described["path"]).endswith(".onnx"):
            said = {p.key: p.value for p in onnx.load_from_string(data).metadata_props}
            for name in ("checkpoint_sha256", "dataset_digest", "config_digest"):
                if said.get(name) != config[name]:
                    raise _broken(str(described["path"]), f"{name} inside is not that of {CONFIG_FILE}")
    return f"{', '.join(sorted(config['files']))}; usable: {', '.join(config['usable'])}"


def _bill(folder: Path) -> str:
    config, bill = read_config(folder), json.loads((folder / "sbom.json").read_bytes())
    hashes = {h["content"] for part in bill["components"] for h in part.get("hashes", ())}
    wanted = {f["path"]: f["sha256"] for f in config["files"].values()}
    wanted |= {"the dataset": config["dataset_digest"], "the checkpoint": config["checkpoint_sha256"]}
    for name, sha256 in wanted.items():
        if sha256 not in hashes:
            raise _broken("sbom.json", f"it does not name {name}")
    return f"{len(bill['components'])} components"


def _parity(folder: Path) -> str:
    parity: dict[str, Any] = json.loads((folder / "parity.json").read_bytes())
    if not parity["passed"]:
        raise _broken("parity.json", "the exports do not compute what the checkpoint does")
    return f"{parity['inputs']} inputs"


def _serving(folder: Path) -> str:
    """Weights in the model repository are those of the bundle."""
    digests = {f["sha256"] for f in read_config(folder)["files"].values()}
    served = sorted((folder / "triton").glob("*/*/*.onnx"))
    for path in served:
        if sha256_file(path) not in digests:
            raise _broken(path.relative_to(folder).as_posix(), "these weights are not in the description")
    return f"{len(served)} model"


def _loading(folder: Path) -> str:
    for precision in read_config(folder)["usable"]:
        OnnxPerception(folder, precision=precision)
    return "every usable precision"


def _broken(file: str, reason: str) -> EvidenceError:
    return EvidenceError(reason, code="broken_bundle", file=file)
