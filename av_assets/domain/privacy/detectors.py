"""What redaction asks of a detector, and the shipped detectors as one.

A detector takes RGB pictures and gives boxes in their pixels; it knows nothing of time, tracks or hiding.
Belongs here: the protocol, loading, the order of the networks. Does not belong here: decoding of a network;
what is done with boxes; fetching weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from av_assets.domain.errors import ModelError
from av_assets.domain.privacy.boxes import NO_BOXES
from av_assets.domain.privacy.face_detector import FaceDetector
from av_assets.domain.privacy.object_detector import KINDS as KINDS_OF_OBJECTS
from av_assets.domain.privacy.object_detector import ObjectDetector
from av_assets.domain.privacy.plate_detector import PlateDetector

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from av_assets.policies.detection import DetectionPolicy

KINDS = frozenset({"face", "plate", *KINDS_OF_OBJECTS})


class Detector(Protocol):
    """What redaction asks of a detector; tests bring their own."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of "face", "plate", "vehicle", "person"."""

    @property
    def models(self) -> Mapping[str, str]:
        """Name of a network -> sha256 of its weights."""

    def detect(self, frames: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """(H, W, 3) uint8 RGB frames of any sizes -> per frame kind -> boxes, every kind of `kinds`.

        Boxes are (N, 5) float32 of x1, y1, x2, y2 (px), score; best first.
        """


class Stage(Protocol):
    """One network; `find` sees frames of one size, and what the stages before it found in them."""

    kinds: tuple[str, ...]
    file: str
    digest: str

    def find(
        self, frames: Sequence[np.ndarray], found: Sequence[Mapping[str, np.ndarray]]
    ) -> list[dict[str, np.ndarray]]: ...


class CompositeDetector:
    """Several networks one after the other; later ones may use what earlier ones found."""

    def __init__(self, stages: Sequence[Stage], kinds: Sequence[str]) -> None:
        self.kinds = tuple(kinds)
        self.models = {stage.file.removesuffix(".onnx"): stage.digest for stage in stages}
        self._stages = tuple(stages)

    def detect(self, frames: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """See `Detector.detect`."""
        found: list[dict[str, np.ndarray]] = [{} for _ in frames]
        for members in _of_one_size(frames):
            for stage in self._stages:
                seen = stage.find([frames[i] for i in members], [found[i] for i in members])
                for i, boxes in zip(members, seen, strict=True):
                    found[i].update(boxes)
        return [{kind: boxes.get(kind, NO_BOXES) for kind in self.kinds} for boxes in found]


def load_detector(folder: Path, policy: DetectionPolicy, kinds: Sequence[str]) -> CompositeDetector:
    """The shipped networks for `kinds`, from `face.onnx`, `plate.onnx` and `object.onnx` in `folder`.

    Raises:
        ModelError: `unknown_kind`; `missing_weights`, a file is not there; `bad_model`, it is no ONNX model.
    """
    if unknown := set(kinds) - KINDS:
        raise ModelError(f"no detector finds {', '.join(sorted(unknown))}", code="unknown_kind")
    objects = folder / ObjectDetector.file
    stages: list[Stage] = []
    # Plates are looked for on vehicles too, where there is a detector of vehicles.
    closer = "plate" in kinds and policy.plate.on_vehicles is not None and objects.is_file()
    if wanted := [k for k in KINDS_OF_OBJECTS if k in kinds or (closer and k == "vehicle")]:
        stages.append(ObjectDetector(objects, policy, wanted))
    if "plate" in kinds:
        stages.append(PlateDetector(folder / PlateDetector.file, policy))
    if "face" in kinds:
        stages.append(FaceDetector(folder / FaceDetector.file, policy))
    return CompositeDetector(stages, kinds)


def _of_one_size(frames: Sequence[np.ndarray]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, frame in enumerate(frames):
        groups.setdefault(frame.shape, []).append(index)
    return list(groups.values())
