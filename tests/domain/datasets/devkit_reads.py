"""Run by the interpreter of the devkit's own environment: loads an export and says what the devkit finds in it."""

from __future__ import annotations

import json
import sys

import matplotlib

matplotlib.use("Agg")
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import BoxVisibility, view_points

root, picture = sys.argv[1:3]
nusc = NuScenes(version="v1.0-av", dataroot=root, verbose=False)
found = {
    "tables": {t: len(getattr(nusc, t)) for t in nusc.table_names},
    "boxes": [],
    "points": [],
    "velocity": [],
}
for scene in nusc.scene:
    token = scene["first_sample_token"]
    count = 0
    while token:
        sample = nusc.get("sample", token)
        path, boxes, intrinsic = nusc.get_sample_data(sample["data"]["CAM_FRONT"], BoxVisibility.ANY)
        for box in boxes:
            corners = view_points(box.corners(), intrinsic, normalize=True)[:2]
            row = nusc.get("sample_annotation", box.token)
            found["boxes"].append([
                scene["name"], sample["timestamp"], row["category_name"], row["translation"], row["visibility_token"],
                [*corners.min(1), *corners.max(1)],
            ])  # fmt: skip
            found["velocity"].append(float(abs(nusc.box_velocity(box.token)[:2]).max()))
        cloud = LidarPointCloud.from_file(nusc.get_sample_data_path(sample["data"]["LIDAR_TOP"]))
        found["points"].append(cloud.nbr_points())
        count += 1
        token = sample["next"]
    assert (count, sample["token"]) == (scene["nbr_samples"], scene["last_sample_token"])
nusc.render_sample_data(nusc.sample[0]["data"]["CAM_FRONT"], out_path=picture, verbose=False)
print(json.dumps(found))
