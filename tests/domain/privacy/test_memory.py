"""Peak memory of redaction is that of a part: a drive ten times as long does not need more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

PROGRAM = """
import re, sys
from functools import lru_cache
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from scripted_camera import TOPIC, Log, Scripted, encoded, image_message, picture
from av_assets.domain.evidence.segments import FolderSegments
from av_assets.domain.logs.drive_spec import StreamSpec
from av_assets.domain.privacy.redact import redact_drive
from av_assets.policies.redaction import RedactionPolicy

@lru_cache
def noisy(number):
    rgb = np.random.default_rng(number).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    rgb[:8, :128] = picture(number)[:8, :128]
    return encoded(rgb)

class Endless(Log):
    '''Two frames a second, made as they are read.'''
    def messages(self, topics=None, start_ns=0, end_ns=1 << 63):
        first = image_message(b"", 0).log_ns
        for i in range(max(0, -(-(start_ns - first) // (5 * 10**8))), int(sys.argv[3])):
            if first + i * 5 * 10**8 >= end_ns:
                return
            yield image_message(noisy(i % 8), 5 * i)

out = Path(sys.argv[2])
cameras = {"camera_front": StreamSpec(topic=TOPIC, kind="camera", rate_hz=2)}
detector = Scripted(face=lambda n: [(40, 40, 200, 200, 0.9)])
total = redact_drive(Endless([]), cameras, detector, RedactionPolicy.load(), out, FolderSegments(out / "kept")).total
assert total.redacted == int(sys.argv[3])
# Not ru_maxrss, which remembers the process that started this one.
print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])
"""


def peak_kib(frames: int, folder: Path) -> int:
    folder.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(HERE), str(folder), str(frames)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_ten_minutes_need_no_more_memory_than_one(tmp_path: Path):
    short, long = (peak_kib(frames, tmp_path / str(frames)) for frames in (120, 1200))
    written = sum(p.stat().st_size for p in (tmp_path / "1200").glob("camera_front/*.parquet"))
    assert written > 0.2 * short * 1024  # keeping what was written would show
    assert long < 1.2 * short
