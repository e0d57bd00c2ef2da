"""`av verify`: the chain of a drive is whole, or the first broken link is named and the exit code says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resources.lake import Lake, object_key
from tests.faults.conftest import Installation

pytestmark = pytest.mark.slow
STAGES = ("raw_logs", "log_reports")


def _verify(installation: Installation, drive: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = installation.av("verify", drive, "--json", check=False)
    return done.returncode, {link["asset"]: link for link in json.loads(done.stdout)["links"]}


def _flip(lake: Lake, root: Path, asset: str, drive: str, path: str) -> bytes:
    """Change one bit of the object behind a file of a bundle; gives its name, to put it back."""
    target = root / object_key(lake.require(asset, drive).entry(path).sha256)
    good = target.read_bytes()
    target.chmod(0o644)
    target.write_bytes(good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
    return good


def test_every_broken_link_is_named(installation: Installation, short_drive_folder: Path) -> None:
    drive = installation.many(["land", str(short_drive_folder), "--json"])[0]["drive"]
    assert installation.backfill_range([drive], list(STAGES))
    code, links = _verify(installation, drive)
    assert code == 0
    assert {asset: link["state"] for asset, link in links.items()} == dict.fromkeys(STAGES, "whole")
    assert links["log_reports"]["checks"] == "passed"
    assert links["log_reports"]["key"]

    lake, root = installation.lake, installation.home / "lake"
    for asset, path in (("raw_logs", "recording/recording.mcap"), ("log_reports", "report.json")):
        good = _flip(lake, root, asset, drive, path)
        code, links = _verify(installation, drive)
        assert code == 1
        assert links[asset]["state"] == "broken"
        assert path in links[asset]["reason"]
        assert [a for a in STAGES if links[a]["state"] == "broken"] == [asset], (
            "only what is broken is blamed"
        )
        (root / object_key(lake.require(asset, drive).entry(path).sha256)).write_bytes(good)

    report = lake.require("log_reports", drive)
    signature = root / f"manifests/log_reports/{drive}/{report.digest}.signature"
    kept = signature.read_bytes()
    signature.unlink()
    code, links = _verify(installation, drive)
    assert code == 1
    assert links["log_reports"]["state"] == "broken"
    assert links["log_reports"]["reason"].startswith("unsigned: ")
    said = installation.av("verify", drive, check=False)
    assert said.returncode == 1
    assert "log_reports" in said.stdout
    signature.write_bytes(kept)
    assert _verify(installation, drive)[0] == 0
