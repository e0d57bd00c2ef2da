"""Who verifies labels: people through a labelling tool, or their embedded stand-ins for synthetic drives.

Belongs here: where the annotators' knowledge comes from. Does not belong here: how they err (domain/labels).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    import pyarrow as pa


class Annotators(dg.ConfigurableResource["Annotators"]):
    """Simulated annotators. They alone, and the tests, may read the ground truth of synthetic drives."""

    truth: str

    def knows(self, drive: str) -> bool:
        return (Path(self.truth) / drive / "boxes.parquet").is_file()

    def truth_of(self, drive: str) -> dict[str, pa.Table]:
        """Tables `boxes` and `drivable` of the drive."""
        import pyarrow.parquet as pq

        folder = Path(self.truth) / drive
        return {name: pq.read_table(folder / f"{name}.parquet") for name in ("boxes", "drivable")}
