"""Why a drive is in a frozen dataset or not, from what is known of it.

Belongs here: the order of the reasons. Does not belong here: reading them; the funnel of mining (explain).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from av_assets.domain.mining.explain import Answer

NS_PER_DAY = 86_400 * 10**9


@dataclass(frozen=True)
class DriveFacts:
    """What the lake knows of a drive today; None where it knows nothing.

    Attributes:
        start_ns: of the catalogue.
        labels_note: of the verified labels: "" where there are some, a note where they are empty, None without.
        quarantine: "stage: code: reason" of a drive that was put aside.
    """

    start_ns: int | None
    labels_note: str | None
    quarantine: str | None


def why_not_member(
    subject: str, drive: str, dataset: Mapping[str, Any], week_start_ns: int, facts: DriveFacts
) -> Answer:
    """The first reason for which the drive (of the clip) `subject` is not in the dataset of a week.

    Reasons that the dataset itself wrote down come first; others are told from what is known now, and say so.

    Args:
        dataset: `dataset.json`.
    """
    name = f"golden_slices/{dataset['week']}"
    stage, sentence = _reason(drive, dataset, week_start_ns, facts)
    return Answer(subject, name, stage == "member", stage, sentence)


def _reason(drive: str, dataset: Mapping[str, Any], week_start_ns: int, facts: DriveFacts) -> tuple[str, str]:
    member = next((m for m in dataset["members"] if m["drive"] == drive), None)
    if member is not None:
        slices = sorted(name for name, drives in dataset["slices"].items() if drive in drives)
        where = f", slices {', '.join(slices)}" if slices else ""
        return "member", f"it is a member: split {member['split']}, {member['frames']} frames{where}"
    if drive in dataset.get("left_out", {}):
        return "min_frames", f"left out when it was planned: {dataset['left_out'][drive]}"
    if facts.quarantine is not None:
        return "quarantine", f"the drive is in quarantine: {facts.quarantine}"
    if facts.start_ns is None:
        return "catalog", "the catalogue does not know the drive"
    if facts.start_ns >= week_start_ns + 7 * NS_PER_DAY:
        days = (facts.start_ns - week_start_ns) / NS_PER_DAY - 7
        return "week", f"it started {days:.1f} days after the week had ended"
    if facts.labels_note is None:
        return "labels", "it has no verified labels"
    if facts.labels_note:
        return "labels", f"its verified labels are empty: {facts.labels_note}"
    return (
        "frozen",
        "the dataset was frozen before the drive's labels were verified: it can enter a later week",
    )
