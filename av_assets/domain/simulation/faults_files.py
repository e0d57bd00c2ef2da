"""Faults of files: cut, empty, flipped, without index or a part, and of what the vehicle declares.

Belongs here: damage below the level of messages. Does not belong here: the catalogue (`faults`), faults of times
(`faults_timing`) and of contents (`faults_content`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from av_assets.domain.logs.drive_spec import MARKER_FILE, SPEC_FILE
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.simulation.recorder import SUMS_FILE, write_sums
from av_assets.domain.simulation.rewrite import log_file_of, rewrite

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


def truncate(folder: Path, rng: np.random.Generator) -> None:
    _cut(log_file_of(folder), float(rng.uniform(0.55, 0.85)))


def truncate_at_byte(folder: Path, rng: np.random.Generator) -> None:
    """Anywhere behind the first blocks: without a message there would be nothing to report on."""
    _cut(rewrite(folder), float(rng.uniform(0.2, 0.9999)))


def _cut(log: Path, share: float) -> None:
    data = log.read_bytes()
    log.write_bytes(data[: int(len(data) * share)])


def empty_file(folder: Path, rng: np.random.Generator) -> None:
    log_file_of(folder).write_bytes(b"")


def not_a_bag(folder: Path, rng: np.random.Generator) -> None:
    log_file_of(folder).write_text("<html><body>502 Bad Gateway</body></html>\n" * 40, "utf-8")


def zero_messages(folder: Path, rng: np.random.Generator) -> None:
    rewrite(folder, lambda message: None)


def bit_flip(folder: Path, rng: np.random.Generator) -> None:
    if not (folder / SUMS_FILE).exists():
        write_sums(folder)
    log = log_file_of(folder)
    data = bytearray(log.read_bytes())
    data[int(rng.integers(len(data) // 8, len(data) * 7 // 8))] ^= 1 << int(rng.integers(8))
    log.write_bytes(bytes(data))


def chunk_bit_flip(folder: Path, rng: np.random.Generator) -> None:
    """One bit in the middle of one chunk, whose checksum then disagrees."""
    log = rewrite(folder)
    with LogReader(log) as reader:
        blocks = reader.sources[0].blocks
        block = blocks[int(rng.integers(len(blocks) // 4, len(blocks) * 3 // 4))]
    data = bytearray(log.read_bytes())
    data[block.offset + block.length // 2] ^= 1 << int(rng.integers(8))
    log.write_bytes(bytes(data))


def no_index(folder: Path, rng: np.random.Generator) -> None:
    from mcap.writer import IndexType

    rewrite(
        folder, index_types=IndexType.NONE, use_statistics=False, use_summary_offsets=False,
        repeat_channels=False, repeat_schemas=False,
    )  # fmt: skip


def missing_split(folder: Path, rng: np.random.Generator) -> None:
    """The recording is said to go on in a second file, which did not come."""
    import yaml

    log = rewrite(folder)
    path = log.parent / "metadata.yaml"
    data = yaml.safe_load(path.read_text("utf-8")) if path.exists() else {}
    info = data.setdefault("rosbag2_bagfile_information", {})
    info["relative_file_paths"] = [log.name, f"{log.stem}_1{log.suffix}"]
    path.write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")


def drop_marker(folder: Path, rng: np.random.Generator) -> None:
    (folder / MARKER_FILE).unlink(missing_ok=True)


def bad_id(folder: Path, rng: np.random.Generator) -> None:
    path = folder / SPEC_FILE
    text = path.read_text("utf-8") if path.exists() else "schema: 1\ndrive: x\n"
    path.write_text(re.sub(r"(?m)^drive:.*$", "drive: 'Veh 042, Monday'", text), "utf-8")
