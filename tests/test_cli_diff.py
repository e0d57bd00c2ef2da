"""How `av diff` tells why: one change once, where it began, with the drives that it reached."""

from __future__ import annotations

from typing import Any

from av_assets.cli.diff import _grouped


def step(bundle: str, because: list[str], *above: dict[str, Any]) -> dict[str, Any]:
    return {"bundle": bundle, "because": because, "above": list(above)}


def relabelled(drive: str, reason: str) -> list[dict[str, Any]]:
    tasks = step(f"label_tasks/{drive}", [reason])
    verified = step(f"verified_labels/{drive}", [reason, f"input label_tasks/{drive}"], tasks)
    return [verified]


def test_one_change_of_many_drives_is_told_once_from_where_it_begins() -> None:
    found = _grouped({drive: relabelled(drive, "policy annotation a -> b") for drive in "xyz"})
    assert found == {("policy annotation a -> b", ("x", "y", "z")): ["label_tasks", "verified_labels"]}


def test_other_reasons_and_other_drives_stay_apart() -> None:
    found = _grouped({"x": relabelled("x", "code version 1 -> 2"), "y": [step("scenes/y", ["it is gone"])]})
    assert found == {
        ("code version 1 -> 2", ("x",)): ["label_tasks", "verified_labels"],
        ("it is gone", ("y",)): ["scenes"],
    }


def test_an_input_that_is_not_looked_into_is_the_reason() -> None:
    found = _grouped({"x": [step("auto_labels/x", ["input synced_shards/x"])]})
    assert found == {("input synced_shards", ("x",)): ["auto_labels"]}
