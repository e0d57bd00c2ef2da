"""Rendered street scenes with known faces, as the log and as the video that two redactors are given.

Belongs here: making both from the same pictures. Does not belong here: redacting, measuring.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROLE, TOPIC = "camera_front", "/camera_front/image/compressed"
RATE_HZ = 10
JPEG_QUALITY = 90
VIDEO_CRF = "10"


@dataclass(frozen=True)
class Street:
    """`log` holds JPEG pictures, `video` the same as H.264; `faces` are boxes (N, 4) px of every frame."""

    log: Path
    video: Path
    pictures: Sequence[np.ndarray]
    faces: Sequence[np.ndarray]


def render(width: int, height: int, count: int, seed: int) -> tuple[list[bytes], list[np.ndarray]]:
    """JPEG pictures of a seeded drive, 10 Hz, more people about than usual, and the faces in them."""
    import cv2

    from av_assets.domain.simulation.camera import FRONT
    from av_assets.domain.simulation.samples import short_drive
    from av_assets.domain.simulation.scene import Renderer
    from av_assets.domain.simulation.world import build_world

    camera = replace(FRONT, width=width, height=height)
    renderer = Renderer(build_world(short_drive(seconds=count / RATE_HZ, seed=seed, pedestrians=1.5)))
    jpegs, faces = [], []
    for number in range(count):
        frame = renderer.frame(camera, number / RATE_HZ, np.random.default_rng([seed, number]))
        bgr = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR)
        jpegs.append(bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]))
        boxes = [(p.x1, p.y1, p.x2, p.y2) for p in frame.private if p.kind == "face"]
        faces.append(np.array(boxes, np.float32).reshape(-1, 4))
    return jpegs, faces


def street(folder: Path, jpegs: Sequence[bytes], faces: Sequence[np.ndarray]) -> Street:
    """Write the log and the video; the video is made from the decoded JPEG pictures."""
    import cv2

    folder.mkdir(parents=True)
    decoded = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for data in jpegs]
    _write_log(folder / "recording", jpegs)
    _write_video(folder / "street.mp4", decoded)
    return Street(folder, folder / "street.mp4", decoded, faces)


def _write_log(folder: Path, jpegs: Sequence[bytes]) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer

    from av_assets.domain.simulation import messages

    store, kind = messages.typestore(), "sensor_msgs/msg/CompressedImage"
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, kind, typestore=store)
        for number, data in enumerate(jpegs):
            stamp_ns = 1_750_000_000_000_000_000 + number * 1_000_000_000 // RATE_HZ
            message: Any = messages.jpeg_image(stamp_ns, ROLE, np.frombuffer(data, np.uint8))
            writer.write(connection, stamp_ns, store.serialize_cdr(message, kind))


def _write_video(path: Path, pictures: Sequence[np.ndarray]) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE_HZ)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": VIDEO_CRF, "preset": "fast"}
        for rgb in pictures:
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"))
            )
        container.mux(stream.encode(None))


def read_video(path: Path) -> list[np.ndarray]:
    """All pictures of a video, RGB."""
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
