"""Calibration out of messages: chains, what is missing, and the file."""

from __future__ import annotations

from types import SimpleNamespace as Message
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from av_assets.domain.errors import CalibrationError
from av_assets.domain.geometry.calibration import Calibration, Mount, calibration_from_log

if TYPE_CHECKING:
    from pathlib import Path

CAMERA = Mount("camera_front", "camera", "camera_optical")
LIDAR = Mount("lidar_top", "lidar", "lidar_top")


def _edge(
    parent: str, child: str, xyz: tuple[float, float, float], q: tuple[float, ...] = (0, 0, 0, 1)
) -> Any:
    axes = dict(zip("xyzw", q, strict=True))
    place = Message(translation=Message(**dict(zip("xyz", xyz, strict=True))), rotation=Message(**axes))
    return Message(header=Message(frame_id=parent), child_frame_id=child, transform=place)


def _info(**changes: Any) -> Any:
    fields = {"width": 640, "height": 384, "distortion_model": "plumb_bob", "d": np.zeros(5)}
    fields |= {
        "k": np.array([500.0, 0, 320, 0, 500, 192, 0, 0, 1]),
        "header": Message(frame_id="camera_optical"),
    }
    return Message(**(fields | changes))


def _mounted(xyz: tuple[float, float, float], q: tuple[float, ...] = (0, 0, 0, 1)) -> list[Any]:
    return [Message(transforms=[_edge("base_link", "camera_optical", xyz, q)])]


TREE = [
    Message(
        transforms=[_edge("base_link", "mast", (1.0, 0.0, 1.0)), _edge("mast", "lidar_top", (0.0, 0.0, 0.8))]
    ),
    Message(transforms=[_edge("mast", "camera_optical", (0.5, 0.1, 0.2), (-0.5, 0.5, -0.5, 0.5))]),
]


def test_frames_are_chained_to_the_ego_frame() -> None:
    found = calibration_from_log([CAMERA, LIDAR], TREE, {"camera_front": _info()})
    assert (found.source, found.missing) == ("log", ())
    pose = np.array(found.cameras["camera_front"].ego_SE3_camera)
    np.testing.assert_allclose(pose[:3, 3], [1.5, 0.1, 1.2])
    np.testing.assert_allclose(pose[:3, 2], [1.0, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(np.array(found.lidars["lidar_top"].ego_SE3_lidar)[:3, 3], [1.0, 0.0, 1.8])


def test_a_chain_may_run_against_the_direction_of_an_edge() -> None:
    turned = [Message(transforms=[_edge("lidar_top", "base_link", (0.0, 0.0, -1.8))])]
    found = calibration_from_log([LIDAR], turned, {})
    assert np.array(found.lidars["lidar_top"].ego_SE3_lidar)[2, 3] == pytest.approx(1.8)


@pytest.mark.parametrize(
    ("tree", "infos"),
    [
        ([], {"camera_front": _info()}),
        (TREE, {}),
        (TREE, {"camera_front": _info(k=np.zeros(9))}),
        (TREE, {"camera_front": _info(distortion_model="equidistant")}),
        (_mounted((0, 0, 0), (0, 0, 0, 0)), {"camera_front": _info()}),
        (_mounted((np.nan, 0, 0)), {"camera_front": _info()}),
    ],
    ids=["no tf", "no info", "uncalibrated", "fisheye", "zero rotation", "nan mounting"],
)  # fmt: skip
def test_what_the_log_does_not_say_is_missing_and_not_invented(
    tree: list[Any], infos: dict[str, Any]
) -> None:
    found = calibration_from_log([CAMERA], tree, infos)
    assert found.missing == ("camera_front",)
    assert (found.cameras, found.source) == ({}, "missing")


def test_the_file_gives_back_the_calibration(tmp_path: Path) -> None:
    found = calibration_from_log([CAMERA, LIDAR], TREE, {"camera_front": _info()})
    found.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == found


@pytest.mark.parametrize(
    "text", ["", "{", '{"lidars": {"a": {"ego_SE3_lidar": [[1,0,0,0],[0,2,0,0],[0,0,1,0],[0,0,0,1]]}}}']
)
def test_a_file_that_holds_no_calibration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(CalibrationError) as caught:
        Calibration.load(path)
    assert caught.value.code == "bad_calibration_file"
