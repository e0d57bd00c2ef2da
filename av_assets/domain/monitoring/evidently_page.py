"""The page that people know from Evidently, beside our own judgement.

It differs on purpose and is for reading only: Evidently takes bins from reference plus current data,
ignores a number of bins, and takes rows as independent. Decisions come from drift.py.
Belongs here: the adapter. Does not belong here: thresholds.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd


def render_evidently(reference: pd.DataFrame, current: pd.DataFrame, out_html: Path) -> None:
    """Write Evidently's PSI drift page of the numeric columns that both frames share. No network is used."""
    # Third-party imports and reports warn about their own internals, which no reader of this page can act on.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import Report
        from evidently.presets import DataDriftPreset

        both = [c for c in reference.columns if c in current.columns]
        usable = [
            c
            for c in both
            if reference[c].dtype.kind in "if" and reference[c].notna().any() and current[c].notna().any()
        ]
        report = Report([DataDriftPreset(num_method="psi", cat_method="psi")], include_tests=True)
        report.run(current[usable], reference[usable]).save_html(str(out_html))
