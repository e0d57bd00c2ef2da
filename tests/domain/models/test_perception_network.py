"""The network: what it takes and gives, that it can be taught and sent."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_folder import EGO_SE3_CAMERA, HEIGHT, WIDTH, K
from hypothesis import given as given_any
from hypothesis import strategies as st

from av_assets.domain.errors import ModelError
from av_assets.domain.loading.loader import Loader
from av_assets.domain.loading.sample_index import SampleIndex
from av_assets.domain.loading.sources import FolderSource
from av_assets.domain.metrics.boxes import Boxes
from av_assets.domain.metrics.boxes3d import Boxes3d
from av_assets.domain.metrics.matching import map50
from av_assets.domain.metrics.nuscenes import ClassRule, map3d
from av_assets.domain.models.bev_network import measured_mps
from av_assets.domain.models.examples import MakeExample
from av_assets.domain.models.golden import read_spec
from av_assets.domain.models.grid import speed_byte
from av_assets.domain.models.inputs import CameraView, projection_matrix
from av_assets.domain.models.losses import cuboid_loss, total_loss
from av_assets.domain.models.network import Deployable, PerceptionNet, decode
from av_assets.policies.training import TrainingPolicy

VARIANTS = ("camera", "camera_lidar", "camera_lidar_radar")
VIEW = CameraView(WIDTH, HEIGHT, np.array(K), np.array(EGO_SE3_CAMERA, float))
SMALL = {
    "bev_cell_m": 1.0, "bev_far_m": 24.0, "bev_side_m": 12.0, "bev_widths": (16, 24, 32), "bev_camera_width": 8,
    "max_objects": 16, "max_detections": 16, "max_detections_3d": 16,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=VARIANTS)
def config(request: pytest.FixtureRequest, tiny: TrainingPolicy) -> TrainingPolicy:
    return small(tiny, variant=request.param)


def small(policy: TrainingPolicy, **changes: Any) -> TrainingPolicy:
    return TrainingPolicy.model_validate(policy.model_dump() | SMALL | changes)


def network(config: TrainingPolicy, seed: int = 0) -> PerceptionNet:
    torch.manual_seed(seed)
    return PerceptionNet(3, config).eval()


def random_inputs(config: TrainingPolicy, count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    found = {}
    for name, (dtype, shape) in network(config).layout.shapes.items():
        if dtype == "uint8":
            found[name] = torch.from_numpy(rng.integers(0, 256, (count, *shape), np.uint8))
    matrix = projection_matrix(VIEW, config.input_width, config.input_height)
    if "boxes3d" in config.tasks:
        found["projection"] = torch.from_numpy(
            np.stack([matrix] * count) * rng.uniform(0.9, 1.1, (count, 1, 1))
        )
        found["projection"] = found["projection"].float()
    return found


def test_nothing_is_found_where_nothing_was_ever_taught(tiny: TrainingPolicy) -> None:
    config = small(tiny)
    net, given = network(config), random_inputs(config, 2)
    torch.nn.init.constant_(net.bev.heads.bias, 5.0)
    seen = net.bev.lift.in_view(given["projection"]).expand(-1, 3, -1, -1)
    with torch.no_grad():
        scores = net(**given).bev_heatmap.sigmoid()
    assert float(scores[~seen].max()) < 1e-4
    assert float(scores[seen].min()) > 0.5
    given["projection"] *= 0
    with torch.no_grad():
        assert float(decode(net(**given), config).scores3d.max()) < 1e-4


def test_each_variant_answers_all_tasks(config: TrainingPolicy) -> None:
    net = network(config)
    heads = net(**random_inputs(config, 2))
    found = decode(heads, config)
    assert heads.bev_heatmap.shape == (2, 3, 24, 24)
    assert heads.bev_values.shape == (2, 10, 24, 24)
    assert heads.heatmap.sigmoid().mean() < 0.1
    assert heads.bev_heatmap.sigmoid().mean() < 0.1
    assert (found.boxes3d.shape, found.scores3d.shape, found.classes3d.dtype) == (
        (2, 16, 9),
        (2, 16),
        torch.int64,
    )
    assert found.drivable.shape == (2, config.input_height, config.input_width)
    assert (found.scores3d.diff(dim=1) <= 0).all()


def test_tasks_can_be_left_out(tiny: TrainingPolicy) -> None:
    config = small(tiny, tasks=["boxes2d"], variant="camera_lidar_radar")
    deployable = Deployable(network(config))
    given = random_inputs(config, 2)
    assert deployable.input_names == tuple(given) == ("picture",)
    assert deployable.output_names == ("boxes", "scores", "classes", "heatmap_logits", "distance_logits")
    assert len(deployable(*given.values())) == 5


@pytest.mark.parametrize("missing", ["bev", "projection"])
def test_a_missing_input_is_named(missing: str, tiny: TrainingPolicy) -> None:
    config = small(tiny)
    given = {name: value for name, value in random_inputs(config, 1).items() if name != missing}
    with pytest.raises(ModelError, match="missing_input"):
        network(config)(**given)


@pytest.mark.parametrize(
    "changes", [{"bev_cell_m": 0.7}, {"bev_far_m": 25.0}, {"tasks": ["drivable"]}, {"input_width": 150}]
)
def test_configs_that_no_network_can_have_are_refused(changes: dict[str, Any], tiny: TrainingPolicy) -> None:
    with pytest.raises(ValueError, match=r"grid|boxes2d|multiple"):
        small(tiny, **changes)


def agree(names: tuple[str, ...], expected: Any, found: Any) -> None:
    """Raw heads and scores; which of two equal peaks comes first may differ."""
    for name, one, other in zip(names, expected, found, strict=True):
        assert one.shape == other.shape
        if name.endswith(("logits", "values", "drivable")) or name.startswith("scores"):
            assert np.abs(np.asarray(one) - np.asarray(other)).max() < 1e-4, name


def test_a_traced_network_says_the_same_for_any_batch(config: TrainingPolicy) -> None:
    deployable = Deployable(network(config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(deployable, tuple(random_inputs(config, 2).values()), check_trace=False)
    for count in (1, 3):
        given = tuple(random_inputs(config, count, seed=count).values())
        with torch.no_grad():
            agree(deployable.output_names, deployable(*given), traced(*given))


def test_onnxruntime_says_the_same_for_any_batch(tiny: TrainingPolicy) -> None:
    """Of the network with all inputs; each variant is exported by the tests of packaging."""
    import onnxruntime

    config = small(tiny, variant="camera_lidar_radar")
    deployable = Deployable(network(config))
    given = random_inputs(config, 2)
    assert tuple(given) == deployable.input_names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            deployable, tuple(given.values()), dynamo=True, opset_version=18, input_names=list(given),
            output_names=list(deployable.output_names), verbose=False,
            dynamic_shapes=tuple({0: torch.export.Dim("batch", min=1, max=64)} for _ in given),
        )  # fmt: skip
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for count in (1, 3):
        given = random_inputs(config, count, seed=count)
        found = session.run(None, {name: value.numpy() for name, value in given.items()})
        with torch.no_grad():
            agree(deployable.output_names, deployable(*given.values()), found)


@given_any(st.floats(-32, 32))
def test_a_measured_velocity_comes_back_to_an_eighth_of_a_metre_per_second(speed_mps: float) -> None:
    planes = torch.from_numpy(speed_byte(np.full((1, 2, 1, 1), speed_mps)))
    assert (measured_mps(planes) - speed_mps).abs().max() <= 0.127
    assert not measured_mps(torch.zeros_like(planes)).any()


def test_the_head_adds_to_the_velocity_that_radar_measured(tiny: TrainingPolicy) -> None:
    config = small(tiny, variant="camera_lidar_radar")
    net, given = network(config), random_inputs(config, 2)
    assert net.bev is not None
    torch.nn.init.zeros_(net.bev.heads.weight)
    torch.nn.init.constant_(net.bev.heads.bias, 0.5)
    with torch.no_grad():
        values = net(**given).bev_values
    assert torch.equal(values[:, -2:], measured_mps(given["bev"][:, -2:]) + 0.5)
    assert (values[:, :-2] == 0.5).all()


def test_it_compiles_as_one_graph(tiny: TrainingPolicy) -> None:
    config = small(tiny, variant="camera_lidar_radar")
    net, given = network(config), random_inputs(config, 2)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(net(**given), compiled(**given), strict=True))


def test_a_cuboid_loss_counts_cuboids_only_and_knows_none() -> None:
    values = torch.zeros(2, 10, 4, 4, requires_grad=True)
    cell, truth = torch.tensor([[5, 0], [0, 0]]), torch.ones(2, 2, 10)
    weight = torch.zeros(2, 2, 10)
    weight[0, 0] = 1
    loss = cuboid_loss(values, cell, truth, weight)
    assert float(loss.detach()) == 10
    loss.backward()
    assert (values.grad != 0).sum() == 10
    assert (values.grad[0, :, 1, 1] != 0).all()
    assert float(cuboid_loss(values, cell, truth, weight * 0).detach()) == 0


def batch_of(golden: Path, config: TrainingPolicy, augment: bool = False) -> dict[str, torch.Tensor]:
    make = MakeExample(golden, read_spec(golden), config, augment)
    calibrations = {
        d: json.loads((golden / "drives" / d / "calibration.json").read_text()) for d in ["drive-a"]
    }
    loader = Loader(
        SampleIndex.of_golden(golden, "train"), FolderSource(golden), make, columns=make.columns, batch_size=8,
        seed=0, calibrations=calibrations,
    )  # fmt: skip
    return next(iter(loader))


def step(
    net: PerceptionNet, batch: dict[str, torch.Tensor], config: TrainingPolicy, bfloat16: bool
) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        heads = net(**{name: batch[name] for name in net.layout.shapes})
        loss, parts = total_loss(heads, batch, config)
    assert loss.dtype == torch.float32
    assert all(part.dtype == torch.float32 and not part.requires_grad for part in parts.values())
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("bfloat16", [False, True])
def test_steps_are_the_same_to_the_bit_and_reach_every_weight(
    bfloat16: bool, golden: Path, config: TrainingPolicy
) -> None:
    batch = batch_of(golden, config, augment=True)
    gradients = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            net = network(config).train()
            step(net, batch, config, bfloat16)
            gradients.append([p.grad for p in net.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.isfinite(g).all() for g in gradients[0])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_batches_without_any_truth_have_a_finite_loss(golden: Path, config: TrainingPolicy) -> None:
    batch = batch_of(golden, config)
    for name in ("heatmap", "weight", "care", "drivable_known", "bev_heatmap", "bev_care", "bev_weight"):
        batch[name] = torch.zeros_like(batch[name])
    net = network(config).train()
    assert float(step(net, batch, config, bfloat16=False)) == 0
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_each_variant_learns_a_handful_of_frames_by_heart(golden: Path, config: TrainingPolicy) -> None:
    began = time.process_time()
    batch = batch_of(golden, config)
    net = network(config).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=120)
    for _ in range(120):
        optimizer.zero_grad()
        step(net, batch, config, bfloat16=False)
        optimizer.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        found = decode(net(**{name: batch[name] for name in net.layout.shapes}), config)
    flat, solid = scores(batch, found)
    assert flat > 0.9
    assert solid > 0.9
    assert time.process_time() - began < 60


def scores(batch: dict[str, torch.Tensor], found: Any) -> tuple[float | None, float | None]:
    """AP at IoU 0.5 in the picture, and nuScenes' mean AP on the ground."""
    boxes, truth, solids, true_solids = [], [], [], []
    for row in range(len(batch["picture"])):
        there, there3d = batch["truth_classes"][row] >= 0, batch["truth_classes3d"][row] >= 0
        boxes.append(Boxes.of_frame(row, found.boxes[row], found.classes[row], found.scores[row]))
        truth.append(
            Boxes.of_frame(row, batch["truth_boxes"][row][there], batch["truth_classes"][row][there])
        )
        solids.append(Boxes3d.of_frame(row, found.boxes3d[row], found.classes3d[row], found.scores3d[row]))
        true_solids.append(
            Boxes3d.of_frame(
                row, batch["truth_boxes3d"][row][there3d], batch["truth_classes3d"][row][there3d]
            )
        )
    every = Boxes.concat(truth)
    rules = [ClassRule(50.0)] * 3
    return (
        map50(every, Boxes.concat(boxes), np.zeros(len(every), bool), 3),
        map3d(Boxes3d.concat(true_solids), Boxes3d.concat(solids), rules),
    )
