from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from signed_bundles import TEMPLATES, signed

from av_assets.domain.models.runtime import OnnxPerception, read_config
from av_assets.domain.packaging.bundle import Policies, make_bundle
from av_assets.domain.packaging.check import check_bundle
from av_assets.domain.packaging.sbom import installed_closure

NAMES = ["signature", "files", "weights", "bill of materials", "parity", "serving", "loading"]


def test_the_same_inputs_give_the_same_bytes(
    packed: Path, checkpoint: Path, golden: Path, policies: Policies, tmp_path: Path
) -> None:
    latency_ms = make_bundle(checkpoint, golden, TEMPLATES, tmp_path / "again", policies)
    names = sorted(p.relative_to(packed) for p in packed.rglob("*") if p.is_file())
    assert names == sorted(
        p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file()
    )
    for name in names:
        assert (packed / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    assert set(latency_ms) == set(read_config(packed)["usable"])


def test_parity_is_measured_on_real_frames_and_noise(packed: Path) -> None:
    parity = json.loads((packed / "parity.json").read_text())
    assert parity["kinds"]["frame"] == 24
    assert parity["inputs"] == 64
    assert parity["onnx"]["box_drift"]["boxes"]["mean"] < 0.005


def test_every_file_says_what_it_is(packed: Path) -> None:
    config = read_config(packed)
    assert {"fp32", "torchscript"} <= set(config["files"])
    for precision in config["usable"]:
        assert OnnxPerception(packed, precision=precision).precision == precision
    engines = json.loads((packed / "tensorrt.json").read_text())
    assert bool(engines["engines"]) != bool(engines["reason"])


def test_the_bill_names_weights_dataset_and_packages(packed: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (packed / "sbom.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill, config = json.loads(text), read_config(packed)
    hashes = {h["content"] for part in bill["components"] for h in part.get("hashes", ())}
    assert {f["sha256"] for f in config["files"].values()} | {config["dataset_digest"]} <= hashes
    named = {(part["name"], part["version"]) for part in bill["components"]}
    assert {(p.name, p.version) for p in installed_closure()} <= named
    assert "numpy" in (packed / "requirements.txt").read_text()
    assert "torch" not in {name for name, _ in named}


def test_a_whole_bundle_passes_every_link(packed: Path, tmp_path: Path) -> None:
    folder, trusted = signed(packed, tmp_path)
    links = check_bundle(folder, trusted)
    assert [link.name for link in links if link.whole] == NAMES


@pytest.mark.parametrize("name", ["model.onnx", "model.ts.pt", "sbom.json", "triton/perception/1/model.py"])
def test_a_changed_file_is_the_first_broken_link(name: str, packed: Path, tmp_path: Path) -> None:
    folder, trusted = signed(packed, tmp_path)
    path = folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    last = check_bundle(folder, trusted)[-1]
    assert (last.name, last.whole) == ("files", False)
    assert name in last.found


def test_missing_and_added_files_are_named(packed: Path, tmp_path: Path) -> None:
    folder, trusted = signed(packed, tmp_path)
    (folder / "extra.bin").write_bytes(b"x")
    assert "extra.bin" in check_bundle(folder, trusted)[-1].found
    (folder / "extra.bin").unlink()
    (folder / "parity.json").unlink()
    assert "parity.json" in check_bundle(folder, trusted)[-1].found


def test_a_foreign_signature_is_refused(packed: Path, tmp_path: Path) -> None:
    folder, _ = signed(packed, tmp_path)
    assert "untrusted_key" in check_bundle(folder, {"0" * 16})[-1].found


def test_parts_that_contradict_each_other_are_found_even_if_signed(packed: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(packed, tmp_path / "changed")
    config = json.loads((changed / "inference_config.json").read_text())
    config["dataset_digest"] = "0" * 64
    (changed / "inference_config.json").write_text(json.dumps(config))
    folder, trusted = signed(changed, tmp_path)
    last = check_bundle(folder, trusted)[-1]
    assert (last.name, last.whole) == ("weights", False)
    assert "dataset_digest" in last.found


def test_the_command_says_which_link_is_broken(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from av_assets.cli.models import model
    from resources import signing

    folder, trusted = signed(packed, tmp_path)
    monkeypatch.setattr(signing, "trusted_keys", lambda: trusted)
    good = CliRunner().invoke(model, ["check", str(folder)])
    assert good.exit_code == 0, good.output
    (folder / "parity.json").write_text("{}")
    bad = CliRunner().invoke(model, ["check", str(folder), "--json"])
    assert bad.exit_code == 1
    links = json.loads(bad.output)
    assert [link["name"] for link in links] == ["signature", "files"]
    assert "parity.json" in links[-1]["found"]
