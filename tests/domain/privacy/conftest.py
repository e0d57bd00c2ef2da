"""The real weights, where a package registry is near, and the shipped policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from av_assets.policies.redaction import RedactionPolicy

if TYPE_CHECKING:
    pass


@pytest.fixture(scope="session")
def policy() -> RedactionPolicy:
    return RedactionPolicy.load()
