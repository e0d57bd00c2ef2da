"""Charts of datasets: bounded, the same for the same numbers, and words where there is nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from av_assets.domain.datasets.pictures import diff_png, slice_counts_png, splits_png

MAX_BYTES, MAX_WIDTH = 1_000_000, 1000
BLUE = (0x00, 0x72, 0xB2)


def image(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int64)


def inked(png: bytes, colour: tuple[int, int, int]) -> int:
    return int((np.abs(image(png) - colour).max(axis=2) < 8).sum())


def a_slice(**more: Any) -> dict[str, Any]:
    return {"drives": 3, "frames": 200, "objects": 1500, "thin": ""} | more


DRAWN: dict[str, Callable[[], bytes]] = {
    "slices": lambda: slice_counts_png(
        {f"slice {n}": a_slice(thin="1 of 2 drives" * (n % 2)) for n in range(90)}
    ),
    "splits": lambda: splits_png(
        {
            name: {"drives": 9_000, "frames": 10**6, "objects": {f"c{n}": n * 10**5 for n in range(9)}}
            for name in ("train", "val", "test", "spare")
        }
    ),
    "diff": lambda: diff_png(
        {f"thing {n}": {"removed": n, "same": 50, "changed": 1, "added": 9} for n in range(12)}
    ),
}
EMPTY: dict[str, Callable[[], bytes]] = {
    "slices": lambda: slice_counts_png({}),
    "unknown": lambda: slice_counts_png({"night": {}}),
    "splits": lambda: splits_png({}),
    "empty_split": lambda: splits_png({"train": {"drives": 0, "frames": 0, "objects": {}}}),
    "diff": lambda: diff_png({}),
    "no_change": lambda: diff_png({"drives": {"same": 0}}),
}


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_many_things_stay_readable_and_small(name: str) -> None:
    png = DRAWN[name]()
    assert image(png).shape[1] <= MAX_WIDTH
    assert len(png) < MAX_BYTES


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert DRAWN["diff"]() == DRAWN["diff"]()


@pytest.mark.parametrize("name", sorted(EMPTY))
def test_nothing_is_said_in_words(name: str) -> None:
    assert (image(EMPTY[name]()) < 128).all(axis=2).sum() > 50


def test_thin_slices_are_hatched() -> None:
    full, thin = (slice_counts_png({"night": a_slice(thin=why)}) for why in ("", "3 of 9 drives"))
    assert 0 < inked(thin, BLUE) < 0.6 * inked(full, BLUE)


def test_what_is_added_takes_its_share() -> None:
    few, many = (inked(diff_png({"drives": {"same": 10, "added": n}}), BLUE) for n in (1, 10))
    assert 3 * few < many
