"""Makes the scenes of the label tests importable."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "domain" / "labels"))
