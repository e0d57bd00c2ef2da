"""`av verify` on a lake with a short chain: whole, then broken in every way that somebody could break it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from av_assets.domain.errors import AvError, EvidenceError
from av_assets.domain.evidence.claims import Claim, Record
from av_assets.domain.evidence.manifest import MadeFrom, Manifest
from av_assets.domain.evidence.signatures import sign
from av_assets.verification import Link, verify_drive
from resources.lake import Lake, object_key
from resources.signing import signing_key, trusted_keys


def publish(lake: Lake, asset: str, files: dict[str, str], inputs: dict[str, str] | None = None) -> Manifest:
    with lake.workdir() as folder:
        for name, text in files.items():
            (folder / name).write_text(text)
        return lake.publish(asset, "d", folder, made_from=MadeFrom(inputs=inputs or {}))


@pytest.fixture
def chain(lake: Lake, tmp_path: Path) -> dict[str, Manifest]:
    raw = publish(lake, "raw_logs", {"a.mcap": "bytes"})
    record = Record((Claim("log_has_messages", True),)).to_json()
    report = publish(
        lake, "log_reports", {"report.json": "{}", "checks.json": record}, {"raw_logs/d": raw.digest}
    )
    lake.keep_signature(report, sign(signing_key(tmp_path / "keys" / "k.pem"), report))
    return {"raw_logs": raw, "log_reports": report}


def look(lake: Lake, tmp_path: Path) -> dict[str, Link]:
    return {link.asset: link for link in verify_drive(lake, "d", trusted_keys(tmp_path / "keys" / "k.pem"))}


def test_whole_chain_is_whole_and_signed(lake: Lake, chain: dict[str, Manifest], tmp_path: Path) -> None:
    links = look(lake, tmp_path)
    assert {a: (link.state, link.checks) for a, link in links.items()} == {
        "raw_logs": ("whole", "none"),
        "log_reports": ("whole", "passed"),
    }
    assert links["log_reports"].key


def test_changed_byte_names_its_file(lake: Lake, chain: dict[str, Manifest], tmp_path: Path) -> None:
    entry = chain["log_reports"].entry("report.json")
    lake.store.delete(object_key(entry.sha256))
    lake.store.put(object_key(entry.sha256), b"[]")
    link = look(lake, tmp_path)["log_reports"]
    assert (link.state, "report.json" in link.reason) == ("broken", True)


def test_rewritten_report_with_a_new_manifest_has_no_signature(
    lake: Lake, chain: dict[str, Manifest], tmp_path: Path
) -> None:
    record = lake.read_bytes(chain["log_reports"], "checks.json").decode()
    publish(
        lake,
        "log_reports",
        {"report.json": "[]", "checks.json": record},
        chain["log_reports"].made_from.inputs,
    )
    link = look(lake, tmp_path)["log_reports"]
    assert (link.state, link.reason.split(":")[0]) == ("broken", "unsigned")


def test_input_that_is_not_held_breaks_the_chain(
    lake: Lake, chain: dict[str, Manifest], tmp_path: Path
) -> None:
    lake.store.delete(f"manifests/raw_logs/d/{chain['raw_logs'].digest}.json")
    link = look(lake, tmp_path)["log_reports"]
    assert (link.state, "raw_logs/d" in link.reason) == ("broken", True)


def test_signature_of_another_installation_needs_trust(
    lake: Lake, chain: dict[str, Manifest], tmp_path: Path
) -> None:
    stranger = tmp_path / "elsewhere" / "k.pem"
    lake.keep_signature(chain["log_reports"], sign(signing_key(stranger), chain["log_reports"]))
    assert look(lake, tmp_path)["log_reports"].reason.startswith("untrusted_key")
    (tmp_path / "keys" / "trusted").mkdir()
    (tmp_path / "keys" / "trusted" / "them.pem").write_bytes(stranger.with_suffix(".pub.pem").read_bytes())
    assert look(lake, tmp_path)["log_reports"].state == "whole"


def test_unknown_drive_is_an_error(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="missing_bundle"):
        verify_drive(lake, "nobody", set())


def test_key_is_readable_by_its_owner_only_and_bad_keys_are_named(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "k.pem"
    assert signing_key(path).private_bytes_raw() == signing_key(path).private_bytes_raw()
    assert path.stat().st_mode & 0o077 == 0
    path.write_text(json.dumps({"not": "a key"}))
    with pytest.raises(AvError, match="bad_key"):
        signing_key(path)
