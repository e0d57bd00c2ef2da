"""The key that this installation signs with, and the keys that it trusts.

Belongs here: finding, making and reading key files. Does not belong here: what is signed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from av_assets.domain.errors import AvError
from av_assets.domain.evidence.signatures import key_id, public_bytes
from resources.environment import environment

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

TRUSTED_FOLDER = "trusted"


def signing_key(path: Path | None = None) -> Ed25519PrivateKey:
    """The private key (PEM, PKCS 8); the first use makes one, readable by its owner only.

    Raises:
        AvError: bad_key, the file holds no Ed25519 key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = path or environment().signing_key
    if not path.exists():
        _make(path)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise _bad(path) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _bad(path)
    return key


def trusted_keys(path: Path | None = None) -> set[str]:
    """Ids of the own key and of every `trusted/*.pem` beside it.

    Raises:
        AvError: bad_key, one of the files holds no Ed25519 public key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    path = path or environment().signing_key
    found = {key_id(public_bytes(signing_key(path)))}
    for file in sorted((path.parent / TRUSTED_FOLDER).glob("*.pem")):
        try:
            key = load_pem_public_key(file.read_bytes())
        except (OSError, ValueError) as error:
            raise _bad(file) from error
        if not isinstance(key, Ed25519PublicKey):
            raise _bad(file)
        found.add(key_id(key.public_bytes_raw()))
    return found


def _make(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    path.parent.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    growing = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(growing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    try:
        os.link(growing, path)  # of two that make one at once, the first wins and both use it
        path.with_suffix(".pub.pem").write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
    except FileExistsError:
        pass
    finally:
        growing.unlink()


def _bad(path: Path) -> AvError:
    return AvError("not an Ed25519 key in PEM", code="bad_key", file=path, remedy="set AV_SIGNING_KEY")
