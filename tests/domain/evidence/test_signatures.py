"""Signatures over bundles: over this bundle, by this key, or not at all. With the first test vector of RFC 8032."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.errors import EvidenceError
from av_assets.domain.evidence.manifest import FileEntry, MadeFrom, Manifest
from av_assets.domain.evidence.signatures import check_signature, key_id, public_bytes, sign, statement

KEY = Ed25519PrivateKey.from_private_bytes(
    bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
)
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
MINE = key_id(public_bytes(KEY))


def bundle(sha256: str = "a" * 64, code: str = "1") -> Manifest:
    file = FileEntry(path="redaction_report.json", bytes=3, sha256=sha256)
    return Manifest(
        asset="redacted_clips", partition="d", files=(file,), made_from=MadeFrom(code_version=code)
    )


def test_key_is_that_of_the_rfc() -> None:
    assert public_bytes(KEY).hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_same_bundle_and_key_give_the_same_bytes_and_check() -> None:
    assert sign(KEY, bundle()) == sign(KEY, bundle())
    assert check_signature(sign(KEY, bundle()), bundle(), {MINE}) == MINE


@pytest.mark.parametrize("changed", [bundle("b" * 64), bundle(code="2")])
def test_other_file_or_other_lineage_breaks_it(changed: Manifest) -> None:
    with pytest.raises(EvidenceError, match="broken_signature"):
        check_signature(sign(KEY, bundle()), changed, {MINE})


def test_good_signature_of_a_stranger_is_not_enough() -> None:
    with pytest.raises(EvidenceError, match="untrusted_key"):
        check_signature(sign(OTHER, bundle()), bundle(), {MINE})


def test_swapped_public_key_is_caught() -> None:
    held = json.loads(sign(OTHER, bundle()))
    held["public_key"] = json.loads(sign(KEY, bundle()))["public_key"]
    with pytest.raises(EvidenceError, match="broken_signature"):
        check_signature(json.dumps(held).encode(), bundle(), {MINE})


def test_statement_names_what_everything_follows_from() -> None:
    said = json.loads(statement(bundle()))
    assert (said["manifest"], said["content"]) == (bundle().digest, bundle().content)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_damage_is_always_told(noise: bytes, at: int) -> None:
    good = sign(KEY, bundle())
    damaged = good[:at] + noise + good[at + len(noise) :]
    if damaged[: len(good)] != good:
        try:
            held, was = json.loads(damaged), json.loads(good)
            same = all(held[k] == was[k] for k in ("public_key", "signature"))
        except (ValueError, KeyError, TypeError):
            same = False
        if not same:
            with pytest.raises(EvidenceError):
                check_signature(damaged, bundle(), {MINE})
