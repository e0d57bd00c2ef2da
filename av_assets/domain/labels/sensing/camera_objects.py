"""What networks see in the picture: the pretrained detector of vehicles and people, and a model of one's own.

Belongs here: running them as sources of labels. Does not belong here: the networks (privacy, models), what becomes of
their findings (fusion).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from av_assets.domain.labels.automatic.candidates import PictureDetection, PictureDetector
from av_assets.domain.labels.schema import CLASSES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from av_assets.policies.label_fusion import LabelFusionPolicy

CAMERA: Final = "camera"
TEACHER: Final = "teacher"


def detectors_of(
    models: Path | None, teacher: Path | None, policy: LabelFusionPolicy
) -> list[PictureDetector]:
    """The sources that look at pictures; those without weights are not there.

    Args:
        models: folder of the bundle of pretrained models; its detector of objects may be absent.
        teacher: folder of an exported model bundle.

    Raises:
        ModelError: weights that cannot be read, or are not those that the bundle names.
    """
    found: list[PictureDetector] = []
    if models is not None and (models / "object.onnx").is_file():
        found.append(CameraDetector(models / "object.onnx", policy))
    if teacher is not None:
        found.append(TeacherDetector(teacher))
    return found


class CameraDetector:
    """The pretrained detector, one picture at a time; knows vehicles and people, no cones."""

    source = CAMERA

    def __init__(self, onnx_path: Path, policy: LabelFusionPolicy) -> None:
        from av_assets.domain.privacy.object_detector import ObjectDetector
        from av_assets.policies.detection import DetectionPolicy

        detection = DetectionPolicy.load()
        tiles = {"tiles": policy.tiles, "tiles_small": policy.tiles}
        looks = detection.model_copy(update={"object": detection.object.model_copy(update=tiles)})
        self._kinds = dict(policy.kinds)
        self._detector = ObjectDetector(onnx_path, looks, sorted(self._kinds))
        self.model_digest = self._detector.digest
        self.classes: frozenset[str] = frozenset(self._kinds.values())

    def __call__(self, picture: npt.NDArray[np.uint8]) -> Sequence[PictureDetection]:
        found = self._detector.find([picture])[0]
        return [
            _detection(self._kinds[kind], row[:4], row[4])  # type: ignore[index]
            for kind in sorted(found)
            for row in found[kind]
        ]


class TeacherDetector:
    """A model of one's own, as exported; without lidar planes, which the model must do without on a vehicle too."""

    source = TEACHER

    def __init__(self, folder: Path) -> None:
        from av_assets.domain.models.runtime import OnnxPerception

        self._model = OnnxPerception(folder)
        self.model_digest = str(self._model.config["model_sha256"])
        self.classes: frozenset[str] = frozenset(self._model.classes) & frozenset(CLASSES)

    def __call__(self, picture: npt.NDArray[np.uint8]) -> Sequence[PictureDetection]:
        found = self._model.predict_pixels([picture], [None], None)[0]
        limits = np.array([picture.shape[1], picture.shape[0]] * 2, np.float32)
        boxes = np.clip(found.boxes, 0, limits)
        rows = zip(found.classes, boxes, found.scores, strict=True)
        return [
            _detection(name, box, score)
            for number, box, score in rows
            if (name := self._model.classes[int(number)]) in self.classes and (box[2:] > box[:2]).all()
        ]


def _detection(cls: str, box: npt.NDArray[np.floating], score: float) -> PictureDetection:
    x1, y1, x2, y2 = (float(v) for v in box)
    return PictureDetection(cls, (x1, y1, x2, y2), float(np.clip(score, 0.0, 1.0)))
