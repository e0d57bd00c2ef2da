"""Makes the scenes of the label tests importable: drift is measured on the same clips."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "labels"))
