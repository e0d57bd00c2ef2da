"""The shipped policy of redaction."""

from __future__ import annotations

import pytest

from av_assets.policies.redaction import RedactionPolicy


@pytest.fixture(scope="session")
def policy() -> RedactionPolicy:
    return RedactionPolicy.load()
