"""Ed25519 signatures over statements about bundles (RFC 8032), detached from what they sign.

A signature lies beside the manifest, not in the bundle: the same inputs give the same bundle whoever signs it.
Belongs here: statements, signing, checking. Does not belong here: where keys and signatures are kept.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import EvidenceError
from av_assets.domain.evidence.digests import canonical_json, sha256_bytes

if TYPE_CHECKING:
    from collections.abc import Collection

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from av_assets.domain.evidence.manifest import Manifest

ALGORITHM = "ed25519"
MAX_BYTES = 64 << 10


def statement(manifest: Manifest) -> bytes:
    """What is signed: which bundle this is, and the digests that everything in it follows from. Canonical JSON."""
    return canonical_json(
        {
            "asset": manifest.asset,
            "partition": manifest.partition,
            "content": manifest.content,
            "manifest": manifest.digest,
        }
    )


def sign(key: Ed25519PrivateKey, manifest: Manifest) -> bytes:
    """The signature file of a bundle: JSON with statement, public key and signature."""
    payload = statement(manifest)
    held = {
        "algorithm": ALGORITHM,
        "key_id": key_id(public_bytes(key)),
        "public_key": base64.b64encode(public_bytes(key)).decode(),
        "signature": base64.b64encode(key.sign(payload)).decode(),
        "statement": json.loads(payload),
    }
    return canonical_json(held)


def check_signature(data: bytes, manifest: Manifest, trusted: Collection[str]) -> str:
    """The id of the key that signed `manifest`, which must be one of `trusted`.

    Raises:
        EvidenceError: broken_signature (not a signature file, or not over this bundle), untrusted_key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        held: dict[str, Any] = json.loads(data[:MAX_BYTES])
        public = base64.b64decode(held["public_key"], validate=True)
        Ed25519PublicKey.from_public_bytes(public).verify(
            base64.b64decode(held["signature"], validate=True), statement(manifest)
        )
        told = held["statement"], held["key_id"], held["algorithm"]
        if told != (json.loads(statement(manifest)), key_id(public), ALGORITHM):
            raise _broken("the signature file says other things than it signs", manifest)
    except InvalidSignature as error:
        raise _broken("the signature is not over this bundle", manifest) from error
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise _broken("not a signature file", manifest) from error
    if key_id(public) not in trusted:
        raise EvidenceError(
            f"signed by key {key_id(public)}, which is not trusted here",
            code="untrusted_key",
            file=f"{manifest.asset}/{manifest.partition}",
            drive=manifest.partition,
            remedy="put the public key of the signer among the trusted ones, if you trust it",
        )
    return key_id(public)


def key_id(public: bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the raw public key."""
    return sha256_bytes(public)[:16]


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of the public half."""
    return key.public_key().public_bytes_raw()


def _broken(reason: str, manifest: Manifest) -> EvidenceError:
    where = f"{manifest.asset}/{manifest.partition}"
    return EvidenceError(reason, code="broken_signature", file=where, drive=manifest.partition)
