"""What one row of a shard gives the network, made by whoever reads shards: a worker, or a thread of this process.

Belongs here: that transform, and what it says of rows that cannot be read. Does not belong here: making inputs
(models), running the network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import AvError, EvidenceError, ModelError, PoisonError, RedactionError

if TYPE_CHECKING:
    from av_assets.domain.loading.samples import RawSample
    from av_assets.domain.models.examples import MakeInputs
    from av_assets.domain.privacy.frames import RedactedFrame

SEEN, NO_PICTURE, UNREADABLE = 0, 1, 2
"""Values of the state of a row."""
OWN: Final = ("state", "size", "reason", "seconds")
"""Beside the network's inputs: state, width and height of the picture, reason (UTF-8), seconds spent."""
REASON_BYTES: Final = 160
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Input -> type and shape without the batch axis."""


@dataclass(frozen=True)
class SeeRow:
    """A transform for a loader: the network's inputs of one row, and OWN; zeros where there is no picture to see.

    Attributes:
        make: gives the inputs of a row that has a picture. shapes: types and shapes of those that the network takes.
    """

    camera: str
    make: MakeInputs
    shapes: Shapes
    now: Callable[[], float] = time.perf_counter

    def __call__(self, sample: RawSample) -> dict[str, NDArray[Any]]:
        started = self.now()
        try:
            frame = sample.frame(self.camera)
            size = (0, 0) if frame is None else picture_size(frame)
            state, reason = (NO_PICTURE, "") if frame is None else (SEEN, "")
            inputs = None if frame is None else dict(self.make(sample))
        except (PoisonError, EvidenceError, ValueError, OSError) as error:
            state, size, inputs = UNREADABLE, (0, 0), None
            reason = f"{error.code}: {error.reason}" if isinstance(error, AvError) else repr(error)
        made = (
            inputs if inputs is not None else {n: np.zeros(s, dtype) for n, (dtype, s) in self.shapes.items()}
        )
        return {
            **{name: made[name] for name in self.shapes},
            "state": np.array(state, np.int8),
            "size": np.array(size, np.int32),
            "reason": _fixed(reason),
            "seconds": np.array(self.now() - started, np.float64),
        }


def look_of(config: Mapping[str, Any], camera: str, lidars: Sequence[str], radars: Sequence[str]) -> SeeRow:
    """How a network sees rows, from its inference_config.json.

    Raises:
        ModelError: bad_bundle, the description lacks what its inputs are drawn with.
    """
    from av_assets.domain.models.examples import MakeInputs
    from av_assets.domain.models.inputs import PLANES, InputLayout

    shapes = {one["name"]: (str(one["dtype"]), tuple(one["shape"][1:])) for one in config["inputs"]}
    if "layout" in config:
        layout = InputLayout.from_description(config["layout"])
    elif set(shapes) == {"picture"}:
        planes, height, width = shapes["picture"][1]
        layout = InputLayout(width, height, lidar=planes == len(PLANES), radar=False, grid=None)
    else:
        raise ModelError(
            f"inputs {', '.join(shapes)} without a layout", code="bad_bundle", remedy="pack the model again"
        )
    return SeeRow(camera, MakeInputs(camera, tuple(lidars), tuple(radars), layout), shapes)


def picture_size(frame: RedactedFrame) -> tuple[int, int]:
    """Width and height in px, from the header where the picture is a JPEG.

    Raises:
        RedactionError: undecodable_frame.
    """
    if frame.encoding == "jpeg":
        import simplejpeg

        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(frame.data)
        except ValueError as error:
            raise RedactionError(str(error), code="undecodable_frame") from error
        return int(width), int(height)
    height, width = frame.pixels().shape[:2]
    return int(width), int(height)


def _fixed(reason: str) -> NDArray[np.uint8]:
    data = reason.encode("utf-8", "replace")[:REASON_BYTES]
    return np.frombuffer(data.ljust(REASON_BYTES, b"\0"), np.uint8).copy()


def reason_of(data: NDArray[np.uint8]) -> str:
    return bytes(data).rstrip(b"\0").decode("utf-8", "ignore")
