"""Returned boxes as a constrained frame of dagster-pandas: one type for whole frames, and its constraints row by row.

dagster-pandas stops at the first constraint that a frame breaks; returned labels need every bad row with its
constraint, so the columns' own constraints are run one by one and their offending rows collected.
Belongs here: the type and running it. Does not belong here: what follows for a submission
(domain/labels/people/submission_rules).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_assets.domain.labels.schema import CLASSES
from av_assets.policies.annotation import AnnotationPolicy

if TYPE_CHECKING:
    import dagster as dg
    import pandas as pd
    from dagster_pandas import PandasColumn

COLUMNS = ("cls", "x1", "y1", "x2", "y2", "shorter_side_px", "outside_px", "occlusion")
FARTHEST_PX = 1e9  # infinities are farther
_CORNERS = ("x1", "y1", "x2", "y2")


def columns(policy: AnnotationPolicy) -> dict[str, list[PandasColumn]]:
    """Constraint -> the columns that it is on; the first one that a row breaks is the one it is rejected for."""
    from dagster_pandas import PandasColumn
    from dagster_pandas.constraints import (
        CategoricalColumnConstraint,
        InRangeColumnConstraint,
        MaxValueColumnConstraint,
        MinValueColumnConstraint,
        NonNullableColumnConstraint,
    )

    finite = [NonNullableColumnConstraint(), InRangeColumnConstraint(-FARTHEST_PX, FARTHEST_PX, False)]
    side, outside = float(policy.min_side_px), float(policy.box_tolerance_px)
    return {
        "not_finite": [PandasColumn(name, finite) for name in _CORNERS],
        "unknown_class": [PandasColumn("cls", [CategoricalColumnConstraint(set(CLASSES), False)])],
        "empty_box": [PandasColumn("shorter_side_px", [MinValueColumnConstraint(side, False)])],
        "outside_picture": [PandasColumn("outside_px", [MaxValueColumnConstraint(outside, False)])],
        "occlusion_out_of_range": [PandasColumn("occlusion", [InRangeColumnConstraint(0.0, 1.0, True)])],
    }


def returned_boxes(policy: AnnotationPolicy) -> dg.DagsterType:
    """The type of a frame of accepted boxes."""
    from dagster_pandas import create_dagster_pandas_dataframe_type

    return create_dagster_pandas_dataframe_type(
        name="ReturnedBoxes",
        description="Boxes that people drew, one row each, in pixels of their picture.",
        columns=[column for held in columns(policy).values() for column in held],
    )


def frame_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of `box_facts` as a frame whose index is their place in the list."""
    import pandas as pd

    frame = pd.DataFrame([[row[name] for name in COLUMNS] for row in rows], columns=list(COLUMNS))
    numbers = [name for name in COLUMNS if name != "cls"]
    frame[numbers] = frame[numbers].astype("float64")
    return frame


def judge_boxes(policy: AnnotationPolicy, rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Place of every bad row -> the first constraint that it breaks."""
    if not rows:
        return {}
    frame, bad = frame_of(rows), {}
    for name, held in columns(policy).items():
        for column in held:
            for constraint in column.constraints:
                bad = dict.fromkeys(_offending(frame, column.name, constraint), name) | bad
    return dict(sorted(bad.items()))


def _offending(frame: pd.DataFrame, column: str, constraint: Any) -> list[int]:
    """Index of the rows that a constraint of dagster-pandas refuses."""
    from dagster_pandas.constraints import ColumnConstraintViolationException

    try:
        constraint.validate(frame, column)
    except ColumnConstraintViolationException as error:
        offending = error.offending_rows
        if hasattr(offending, "index"):
            return [int(i) for i in offending.index]
        return [int(i) for i, _ in offending]  # pairs of index and value
    return []


def accepted_boxes_problem(submissions: Path, tasks: Path, policy: AnnotationPolicy) -> dict[str, str]:
    """Whether the accepted boxes of a bundle are a ReturnedBoxes frame, as {"boxes.parquet": what is wrong}."""
    from av_assets.domain.labels.people.submission_rules import box_facts
    from av_assets.domain.labels.people.submissions import BOXES_FILE, read_submissions
    from av_assets.domain.labels.people.tasks import read_tasks

    known = {task.task_id: task for task in read_tasks(tasks)}
    held = read_submissions(submissions)
    rows = [box_facts(box, known[one.task_id]) for one in held for box in one.boxes]
    result = returned_boxes(policy).type_check(None, frame_of(rows))
    return {} if result.success else {BOXES_FILE: result.description or "not a frame of returned boxes"}
