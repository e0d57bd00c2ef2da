"""A bundle folder with a manifest and a signature beside it, as `av model fetch` lays it out."""

from __future__ import annotations

import shutil
from pathlib import Path

from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.evidence.manifest import FileEntry, Manifest
from av_assets.domain.evidence.signatures import key_id, public_bytes, sign
from av_assets.domain.packaging.check import MANIFEST_FILE, SIGNATURE_FILE

TEMPLATES = Path(__file__).parents[2] / "deployments" / "triton"


def signed(bundle: Path, tmp_path: Path) -> tuple[Path, set[str]]:
    """A signed copy of `bundle`, and the ids of the keys that are trusted."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder = shutil.copytree(bundle, tmp_path / "signed")
    files = [p for p in folder.rglob("*") if p.is_file()]
    entries = tuple(
        FileEntry(path=p.relative_to(folder).as_posix(), bytes=p.stat().st_size, sha256=sha256_file(p))
        for p in files
    )
    manifest = Manifest(asset="model_bundles", partition="w20250602-00000000", files=entries)
    key = Ed25519PrivateKey.generate()
    (folder / MANIFEST_FILE).write_bytes(manifest.to_json())
    (folder / SIGNATURE_FILE).write_bytes(sign(key, manifest))
    return folder, {key_id(public_bytes(key))}
