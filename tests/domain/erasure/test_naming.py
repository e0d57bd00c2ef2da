"""A drive is named as a whole word."""

from __future__ import annotations

import json

import pytest

from av_assets.domain.erasure.naming import names_in_bytes, names_of


@pytest.mark.parametrize(
    "text", ["veh1-a", "veh1-a/00000", '"veh1-a"', json.dumps("lost:\nveh1-a\tgone"), ".veh1-a.tmp"]
)
def test_a_drive_is_found(text: str) -> None:
    assert names_of(["other", "veh1-a"]).search(text)
    assert names_in_bytes(["veh1-a"]).search(text.encode())


@pytest.mark.parametrize("text", ["veh1-ab", "veh1-a-2", "xveh1-a", "veh2-a", ""])
def test_another_drive_is_not(text: str) -> None:
    assert not names_of(["veh1-a"]).search(text)
    assert not names_of([]).search(text)
