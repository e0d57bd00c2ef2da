"""Vehicles and people: any detector in ONNX form that keeps the contract below.

Input `image` (B, 3, H, W) float32, RGB 0..255; fixed H and W are what pictures are scaled to, open ones are taken
as `side_px` of the policy. Outputs `boxes` (B, N, 4) float32 of x1, y1, x2, y2 in pixels of the input and `scores`
(B, N, C) float32 in 0..1. The model's metadata entry `labels` is a JSON list of the C names of classes.
The whole picture is shown, and square tiles along its longer side: small things are large enough only there.
Belongs here: running such a model. Does not belong here: making one, what is done with boxes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from av_assets.domain.errors import ModelError
from av_assets.domain.privacy.boxes import NO_BOXES, plausible
from av_assets.domain.privacy.crops import Crop
from av_assets.domain.privacy.sessions import open_session, planes, weights_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from av_assets.policies.detection import DetectionPolicy, ObjectKind

KINDS: Final = ("vehicle", "person")
_EDGE_SHARE: Final = 0.01


class ObjectDetector:
    """Kinds are sets of labels; a kind's score is the best one of its labels."""

    file = "object.onnx"

    def __init__(self, onnx_path: Path, policy: DetectionPolicy, kinds: Sequence[str] = KINDS) -> None:
        self.kinds = tuple(kinds)
        self.digest = weights_digest(onnx_path)
        self._session = open_session(onnx_path, policy.threads, policy.device)
        self._policy, self._batch = policy.object, policy.batch
        rules = {"vehicle": policy.object.vehicle, "person": policy.object.person}
        self._rules = {kind: rules[kind] for kind in kinds}
        self._size = _input_size(self._session, onnx_path, policy.object.side_px)
        labels = _labels(self._session, onnx_path)
        self._classes = {kind: _chosen(labels, rule, onnx_path) for kind, rule in self._rules.items()}

    def find(
        self, frames: Sequence[np.ndarray], found: Sequence[Mapping[str, np.ndarray]] = ()
    ) -> list[dict[str, np.ndarray]]:
        """Frames of one size -> their vehicles and people."""
        del found
        shape = frames[0].shape
        small = min(shape[:2]) < self._policy.small_px
        views = [None, *_tiles(shape, self._policy.tiles_small if small else self._policy.tiles)]
        pictures = [self._picture(rgb, view) for rgb in frames for view in views]
        boxes, scores = self._network(pictures)
        answer = []
        for number in range(len(frames)):
            rows = slice(number * len(views), (number + 1) * len(views))
            answer.append(self._findings(boxes[rows], scores[rows], views, shape))
        return answer

    def _picture(self, rgb: np.ndarray, view: Crop | None) -> np.ndarray:
        import cv2

        part = rgb if view is None else rgb[view.y : view.y + view.side, view.x : view.x + view.side]
        return np.asarray(cv2.resize(part, self._size[::-1], interpolation=cv2.INTER_LINEAR))

    def _network(self, pictures: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        runs = [
            self._session.run(["boxes", "scores"], {"image": planes(pictures[start : start + self._batch])})
            for start in range(0, len(pictures), self._batch)
        ]
        return np.concatenate([r[0] for r in runs]), np.concatenate([r[1] for r in runs])

    def _findings(
        self, boxes: np.ndarray, scores: np.ndarray, views: Sequence[Crop | None], shape: tuple[int, ...]
    ) -> dict[str, np.ndarray]:
        found = {}
        for kind, rule in self._rules.items():
            best = scores[:, :, self._classes[kind]].max(-1)
            parts = [
                self._in_frame(np.column_stack([b[keep], s[keep]]), view, shape)
                for b, s, view in zip(boxes, best, views, strict=True)
                if (keep := s >= rule.min_score).any()
            ]
            every = np.concatenate(parts) if parts else NO_BOXES
            found[kind] = plausible(every, shape, rule, self._policy.nms_iou)
        return found

    def _in_frame(self, boxes: np.ndarray, view: Crop | None, shape: tuple[int, ...]) -> np.ndarray:
        """Boxes in pixels of the network's input -> of the frame; those cut off by a tile's inner border go."""
        height, width = self._size
        shares = boxes[:, :4] / np.array([width, height, width, height], np.float32)
        if view is None:
            placed = shares * np.array([shape[1], shape[0], shape[1], shape[0]], np.float32)
        else:
            placed = shares * view.side + np.array([view.x, view.y, view.x, view.y], np.float32)
        placed = np.column_stack([placed, boxes[:, 4]]).astype(np.float32)
        return placed if view is None else placed[~_cut_off(shares, view, shape)]


def _tiles(shape: tuple[int, ...], count: int) -> list[Crop]:
    """`count` squares as high as the picture is along its shorter side, evenly along the longer one."""
    height, width = shape[:2]
    side = min(height, width)
    if max(height, width) < 1.1 * side or not count:
        return []
    starts = np.linspace(0, max(height, width) - side, count).round().astype(int)
    return [Crop(0, int(s), 0, side) if width > height else Crop(0, 0, int(s), side) for s in starts]


def _cut_off(shares: np.ndarray, view: Crop, shape: tuple[int, ...]) -> np.ndarray:
    inner = (view.x > 0, view.y > 0, view.x + view.side < shape[1], view.y + view.side < shape[0])
    touches = np.column_stack([shares[:, :2] < _EDGE_SHARE, shares[:, 2:] > 1 - _EDGE_SHARE])
    return np.asarray((touches & np.array(inner)).any(1))


def _input_size(session: Any, path: Path, side_px: int) -> tuple[int, int]:
    """(height, width) of the network's input, once its ends are what the contract asks for."""
    inputs = {end.name: end.shape for end in session.get_inputs()}
    outputs = {end.name: end.shape for end in session.get_outputs()}
    ranks = [len(s.get(n, ())) for s, n in ((inputs, "image"), (outputs, "boxes"), (outputs, "scores"))]
    if ranks != [4, 3, 3] or len(inputs) != 1:
        raise ModelError(
            f"ends are {sorted(inputs)} -> {sorted(outputs)}, not image -> boxes, scores",
            code="bad_model", file=path, remedy="export the detector with the ends that the guide describes",
        )  # fmt: skip
    height, width = (side if isinstance(side, int) else side_px for side in inputs["image"][2:])
    return height, width


def _labels(session: Any, path: Path) -> list[str]:
    try:
        labels = json.loads(session.get_modelmeta().custom_metadata_map.get("labels", ""))
        return [str(label) for label in labels]
    except (ValueError, TypeError) as error:
        raise ModelError("the model does not name its classes", code="bad_model", file=path,
                         remedy="add the metadata entry `labels`, a JSON list of names") from error  # fmt: skip


def _chosen(labels: Sequence[str], rule: ObjectKind, path: Path) -> list[int]:
    wanted = {label.casefold() for label in rule.labels}
    chosen = [index for index, label in enumerate(labels) if label.casefold() in wanted]
    if not chosen:
        raise ModelError(f"the model knows none of {', '.join(rule.labels)}", code="bad_model", file=path,
                         remedy="name its classes in the detection policy")  # fmt: skip
    return chosen
