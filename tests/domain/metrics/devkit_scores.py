"""Run by the interpreter of the devkit's own environment: scores cases with the devkit's detection evaluation."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import filter_eval_boxes
from nuscenes.eval.detection.algo import accumulate, calc_ap, calc_tp
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import DetectionBox, DetectionMetrics
from pyquaternion import Quaternion


class NoRacks:
    """The only thing that the filter asks a database for: annotations of bicycle racks."""

    def get(self, table: str, token: str) -> dict:
        return {"anns": []}


def boxes_of(rows: list[dict], frames: int) -> EvalBoxes:
    held = EvalBoxes()
    for frame in range(frames):
        held.boxes[str(frame)] = []
    for row in rows:
        x, y, z, length, width, height, yaw, vx, vy = [np.nan if v is None else v for v in row["box"]]
        box = DetectionBox(
            sample_token=str(row["frame"]),
            translation=(x, y, z),
            size=(width, length, height),
            rotation=tuple(Quaternion(axis=[0, 0, 1], angle=yaw).elements),
            velocity=(vx, vy),
            ego_translation=(x, y, z),
            num_pts=row["points"],
            detection_name=row["cls"],
            detection_score=row["score"],
        )
        held.boxes[str(row["frame"])].append(box)
    if not rows:  # the filter looks for the type of the first box
        return held
    return filter_eval_boxes(NoRacks(), held, config_factory("detection_cvpr_2019").class_range)


def metrics_of(case: dict) -> dict:
    config = config_factory("detection_cvpr_2019")
    truth, found = (boxes_of(case[side], case["frames"]) for side in ("truth", "found"))
    metrics = DetectionMetrics(config)
    for name in config.class_names:  # as in nuscenes.eval.detection.evaluate.DetectionEval.evaluate
        data = {d: accumulate(truth, found, name, config.dist_fcn_callable, d) for d in config.dist_ths}
        for distance, one in data.items():
            metrics.add_label_ap(name, distance, calc_ap(one, config.min_recall, config.min_precision))
        for metric in TP_METRICS:
            skipped = {
                "traffic_cone": ["attr_err", "vel_err", "orient_err"],
                "barrier": ["attr_err", "vel_err"],
            }
            error = np.nan
            if metric not in skipped.get(name, []):
                error = calc_tp(data[config.dist_th_tp], config.min_recall, metric)
            metrics.add_label_tp(name, metric, error)
    metrics.add_runtime(0.0)
    return metrics.serialize()


print(json.dumps([metrics_of(case) for case in json.loads(Path(sys.argv[1]).read_text())]))
