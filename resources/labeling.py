"""Who labels: people through labelling tools, whose files are handed over in a folder, and simulated people.

    <labels>/returned/<drive>/<file>   what people drew (COCO, CVAT XML, Label Studio JSON)
    <labels>/gold/<drive>.json         known answers of hidden tasks (COCO)

Belongs here: where people's files and the simulated annotators' knowledge come from. Does not belong here: what the
files say (domain/labels/exchange), how people err (domain/labels/people/annotators).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from av_assets.domain.evidence.digests import sha256_file

if TYPE_CHECKING:
    import pyarrow as pa

ON_ITS_WAY = ".part"


def file_facts(path: Path) -> dict[str, str]:
    """A file of people as the bundles that were made from it name it: another name or content is another input."""
    return {"file": path.name, "sha256": sha256_file(path)}


class Annotators(dg.ConfigurableResource["Annotators"]):
    """Simulated annotators and returned files. They alone, and tests, may read the truth of synthetic drives.

    Attributes:
        truth: folder with the ground truth of synthetic drives.
        labels: folder that labelling tools hand files over in; empty: none.
    """

    truth: str
    labels: str = ""

    def knows(self, drive: str) -> bool:
        """Whether simulated people can label the drive."""
        return (Path(self.truth) / drive / "boxes.parquet").is_file()

    def truth_of(self, drive: str) -> dict[str, pa.Table]:
        """Tables `boxes` and `drivable` of the drive; none where nobody knows it."""
        import pyarrow.parquet as pq

        folder = Path(self.truth) / drive
        if not self.knows(drive):
            return {}
        return {name: pq.read_table(folder / f"{name}.parquet") for name in ("boxes", "drivable")}

    def returned(self, drive: str) -> list[Path]:
        """Files that came back for the drive, by name, whatever they are called: a format is told by its content, and
        what nobody can read is told, too. Hidden files, and those still on their way, are not looked at.
        """
        folder = Path(self.labels) / "returned" / drive
        if not self.labels or not folder.is_dir():
            return []
        found = (p for p in folder.iterdir() if not p.name.startswith(".") and p.suffix != ON_ITS_WAY)
        return sorted(p for p in found if p.is_file())

    def gold_of(self, drive: str) -> Path | None:
        """The file with the known answers of the drive, if there is one."""
        path = Path(self.labels) / "gold" / f"{drive}.json"
        return path if self.labels and path.is_file() else None
