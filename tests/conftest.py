"""What every test may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--real-data", default=None, help="folder with real recordings (drives/, bags/, metrics/)")


@pytest.fixture(scope="session")
def real_data(request: pytest.FixtureRequest) -> Path:
    folder = request.config.getoption("--real-data")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no real recordings: pass --real-data DIR")
    return Path(folder)
