"""How fast the vehicle drove in each row of a shard, which is what radar velocities are relative to.

Belongs here: that signal out of the column `signals`. Does not belong here: other signals (`events`), what is made
of it (`models.grid`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SIGNALS: Final = "signals"
SPEED: Final = "speed_mps"
SPEED_COLUMN: Final = f"{SIGNALS}.{SPEED}"
"""Its name for readers of Parquet."""


def tells_speed(schema: pa.Schema) -> bool:
    """Whether the shard has the signal; one of a vehicle that tells nothing has no such column.

    Raises:
        ValueError: there is one, and it holds no numbers.
    """
    if SIGNALS not in schema.names:
        return False
    kind = schema.field(SIGNALS).type
    if not pa.types.is_struct(kind):
        raise ValueError(f"{SIGNALS} is {kind}, no struct")
    if kind.get_field_index(SPEED) < 0:
        return False
    found = kind.field(SPEED).type
    if not (pa.types.is_floating(found) or pa.types.is_integer(found)):
        raise ValueError(f"{SPEED_COLUMN} is {found}, no number")
    return True


def ego_speeds_mps(signals: pa.ChunkedArray) -> NDArray[np.float64]:
    """(rows,) over ground, along ego x, of a column that was read as SPEED_COLUMN; NaN for whatever is no number."""
    speeds = signals.combine_chunks().flatten()[0].cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.where(np.isfinite(speeds), speeds, np.nan)
