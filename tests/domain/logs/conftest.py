"""One small log of every format, written once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # log_writers

from log_writers import drive, store, write_mcap, write_ros1, write_rosbag2


@pytest.fixture(scope="session")
def small_logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("logs")
    ros1, ros2 = store(ros1=True), store()
    sent1, sent2 = drive(ros1), drive(ros2)
    logs = {f"bag_{c}": write_ros1(folder / f"{c}.bag", sent1, ros1, c) for c in ("none", "bz2", "lz4")}
    logs |= {f"mcap_{c}": write_mcap(folder / f"{c}.mcap", sent2, ros2, c) for c in ("none", "lz4", "zstd")}
    logs["mcap_ros1"] = write_mcap(folder / "ros1.mcap", sent1, ros1, "zstd", ros1=True)
    logs["mcap_unchunked"] = write_mcap(folder / "flat.mcap", sent2, ros2, use_chunking=False)
    logs["db3"] = write_rosbag2(folder / "db3", sent2, ros2, "SQLITE3")
    logs["rosbag2_mcap"] = write_rosbag2(folder / "rosbag2", sent2, ros2, "MCAP")
    logs["db3_per_message"] = write_rosbag2(folder / "db3z", sent2, ros2, "SQLITE3", "MESSAGE")
    return logs
