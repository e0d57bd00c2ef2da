from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from av_assets.domain.errors import ModelError
from av_assets.domain.models.golden import labelled_frames, read_spec
from av_assets.domain.models.runtime import OnnxPerception
from av_assets.domain.packaging import frames, gate, graph
from av_assets.domain.packaging.bundle import Policies, _precisions
from av_assets.domain.packaging.int8 import Int8
from av_assets.domain.packaging.source import read_source
from av_assets.policies.packaging import LossLimits, PackagingPolicy


@given(st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 40)), st.integers(0, 200))
def test_shares_are_even_and_lose_nothing(sizes: dict[str, int], count: int) -> None:
    shares = frames.even_shares(sizes, count)
    assert sum(shares.values()) == min(count, sum(sizes.values()))
    assert all(shares[name] <= sizes[name] for name in sizes)
    unfilled = [shares[name] for name in sizes if shares[name] < sizes[name]]
    # Nobody who could have had more has less than anybody else, but for the remainder of the division.
    assert not unfilled or max(shares.values()) - min(unfilled) <= 1


def test_a_choice_is_a_function_of_its_seed() -> None:
    groups = {"day": [("a", "c", i) for i in range(30)], "night": [("b", "c", i) for i in range(5)]}
    chosen = frames.choose(groups, 20, 1)
    assert {name: len(keys) for name, keys in chosen.items()} == {"day": 15, "night": 5}
    assert chosen == frames.choose(groups, 20, 1)
    assert chosen != frames.choose(groups, 20, 2)


def test_calibration_looks_at_train_frames_of_every_slice(packed: Path, golden: Path) -> None:
    record, spec = json.loads((packed / "calibration.json").read_text()), read_spec(golden)
    train = {(d, *key) for d in spec.drives("train") for key in labelled_frames(golden, d, spec)}
    assert record["frames"] == 9 == len(record["members"])
    assert {(m["drive"], m["clip_id"], m["ref_ns"]) for m in record["members"]} <= train
    assert sum(found["used"] for found in record["slices"].values()) == 9


def test_the_digest_of_frames_is_that_of_what_was_seen(packed: Path, golden: Path) -> None:
    runtime, spec = OnnxPerception(packed), read_spec(golden)
    keys = frames.strata(golden, spec, ("train",)).popitem()[1][:3]
    seen = list(frames.read_frames(golden, spec, keys, runtime))
    before = frames.frames_digest(seen)
    assert before == frames.frames_digest(list(frames.read_frames(golden, spec, keys, runtime)))
    seen[1].inputs["picture"][0, 0, 0] ^= 1
    assert frames.frames_digest(seen) != before


def test_half_has_half_the_bytes_and_float_inputs_and_outputs(packed: Path) -> None:
    whole, half = (onnx.load(packed / name) for name in ("model.onnx", "model.fp16.onnx"))
    assert half.ByteSize() < 0.65 * whole.ByteSize()
    for ours, theirs in ((half.graph.input, whole.graph.input), (half.graph.output, whole.graph.output)):
        assert [v.type.tensor_type.elem_type for v in ours] == [v.type.tensor_type.elem_type for v in theirs]
    weights = {w.name: w for w in half.graph.initializer}
    for node in half.graph.node:
        if node.op_type == "Conv":
            assert weights[node.input[1]].data_type == TensorProto.FLOAT16


def test_half_computes_what_the_whole_does(packed: Path) -> None:
    whole, half = OnnxPerception(packed), OnnxPerception(packed, precision="fp16")
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.integers(0, 255, (2, *shape)).astype(dtype)
        for name, (dtype, shape) in whole.layout.shapes.items()
    }
    a, b = whole.run(inputs, ("scores", "drivable")), half.run(inputs, ("scores", "drivable"))
    for name, value in a.items():
        assert np.abs(value - b[name]).max() < 0.05
    assert any((value != b[name]).any() for name, value in a.items())


def test_int8_weights_are_bytes(packed: Path) -> None:
    report = json.loads((packed / "precision_report.json").read_text())
    if "int8" not in report["usable"]:
        assert report["refused"]["int8"]
        return
    model = onnx.load(packed / "model.int8.onnx")
    int8 = [w for w in model.graph.initializer if w.data_type == TensorProto.INT8 and len(w.dims) == 4]
    assert len(int8) >= 10
    assert (packed / "model.int8.onnx").stat().st_size < 0.6 * (packed / "model.onnx").stat().st_size


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_parts_left_in_float_have_float_weights(
    method: str, packed: Path, checkpoint: Path, golden: Path, tmp_path: Path
) -> None:
    source = read_source(checkpoint)
    runtime, spec = OnnxPerception(packed), read_spec(golden)
    keys = frames.strata(golden, spec, ("train",)).popitem()[1][:2]
    batch = [dict(f.inputs) for f in frames.read_frames(golden, spec, keys, runtime)]
    inputs = [{name: value[None] for name, value in row.items()} for row in batch]
    policy = PackagingPolicy.load().model_copy(update={"calibration_method": method, "calibration_bins": 192})
    made = Int8((packed / "model.onnx").read_bytes(), source.heads, inputs, policy, tmp_path)
    everything, careful = (made.quantise(parts, {}) for parts in ([], ["heads", "first"]))
    assert everything == made.quantise([], {})

    def float_weights(model: bytes) -> int:
        held = onnx.load_from_string(model).graph.initializer
        return sum(w.data_type == TensorProto.FLOAT and len(w.dims) == 4 for w in held)

    # Two heads (picture and grid), and one first convolution of each.
    assert float_weights(everything) == 0
    assert float_weights(careful) == 4


def test_geometry_stays_exact(packed: Path) -> None:
    """Where features are looked up on the grid is computed in float32 in every precision."""
    for name in ("model.fp16.onnx", "model.int8.onnx"):
        if not (packed / name).is_file():
            continue
        model = onnx.shape_inference.infer_shapes(onnx.load(packed / name))
        exact = graph.geometry(model.graph)
        kinds = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
        made = [o for node in model.graph.node if node.name in exact for o in node.output]
        assert made
        assert TensorProto.FLOAT16 not in {kinds.get(o) for o in made}
        assert not [n for n in model.graph.node if n.name in exact and "Quantize" in n.op_type]


def scores(**map50: float | None) -> dict[str, gate.SliceScore]:
    return {name: gate.SliceScore(100, 100, value) for name, value in map50.items()}


def test_the_worst_slice_decides() -> None:
    policy = PackagingPolicy.load()
    lost = gate.losses(scores(all=0.8, night=0.6), scores(all=0.8, night=0.55), policy)
    assert lost == pytest.approx({"all": 0.0, "night": 0.05})
    assert gate.refusal(lost, 0.02).startswith("night: mAP falls by 0.0500")
    assert gate.refusal(lost, 0.06) == ""
    assert gate.refusal({}, 0.06)


def test_cuboids_alone_can_refuse_a_precision() -> None:
    policy = PackagingPolicy.load()
    was = {"all": gate.SliceScore(100, 100, 0.8, 90, 0.7), "day": gate.SliceScore(100, 100, 0.8, 3, 0.7)}
    now = {"all": gate.SliceScore(100, 100, 0.8, 90, 0.6), "day": gate.SliceScore(100, 100, 0.8, 3, 0.1)}
    lost = gate.losses(was, now, policy)
    assert lost == pytest.approx({"all": 0.0, "day": 0.0, "all in space": 0.1})
    assert gate.refusal(lost, 0.02).startswith("all in space: mAP falls by 0.1000")
    report = gate.gate_report({"fp32": was, "fp16": now}, policy, {"fp32": 2, "fp16": 1}, [])
    assert report["slices"]["all"]["loss3d"]["fp16"] == pytest.approx(0.1)
    assert report["usable"] == ["fp32"]


def test_a_slice_with_little_to_say_decides_nothing() -> None:
    policy = PackagingPolicy.load()
    was = {
        "few frames": gate.SliceScore(policy.min_slice_frames - 1, 100, 0.9),
        "few objects": gate.SliceScore(100, policy.min_slice_objects - 1, 0.9),
        "nothing": gate.SliceScore(100, 100, None),
    }
    now = {name: gate.SliceScore(row.frames, row.objects, 0.1) for name, row in was.items()}
    assert gate.losses(was, now, policy) == {}


def test_a_precision_that_fails_is_not_shipped_and_says_why(
    checkpoint: Path, packed: Path, golden: Path, policies: Policies
) -> None:
    """With a limit that nothing can keep, every choice of float parts is tried and refused."""
    source, spec = read_source(checkpoint), read_spec(golden)
    config = json.loads((packed / "inference_config.json").read_text())
    runtime = OnnxPerception(packed)
    groups = frames.strata(golden, spec, ("val", "test"))
    judged = list(frames.read_frames(golden, spec, [k for keys in groups.values() for k in keys], runtime))
    strict = policies.packaging.model_copy(
        update={"min_slice_objects": 10_000, "max_loss": LossLimits(fp16=0, int8=0)}
    )
    weights = (packed / "model.onnx").read_bytes()
    _, report = _precisions(
        source, config, weights, judged[:4], judged, spec, Policies(strict, policies.evaluation)
    )
    assert report["usable"] == ["fp32"]
    assert set(report["refused"]) == {"fp16", "int8"}
    assert [a["float_parts"] for a in report["int8_attempts"]] == [[], ["heads"], ["heads", "first"]]


def test_refused_precisions_do_not_load(packed: Path, tmp_path: Path) -> None:
    config = json.loads((packed / "inference_config.json").read_text())
    config |= {"usable": ["fp32"], "refused": {"int8": "night: mAP falls by 0.0500, 0.0200 are allowed"}}
    (tmp_path / "inference_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError) as caught:
        OnnxPerception(tmp_path, precision="int8")
    assert caught.value.code == "precision_not_usable"
    assert "night" in caught.value.reason


def test_scores_are_those_of_the_evaluation(packed: Path, golden: Path, policies: Policies) -> None:
    """The same frames and the same rules as eval_reports, by another way."""
    from av_assets.domain.metrics.boxes import Boxes
    from av_assets.domain.metrics.detection import detection_scores
    from av_assets.domain.metrics.slices3d import scores3d

    runtime, spec = OnnxPerception(packed), read_spec(golden)
    groups = frames.strata(golden, spec, ("test",))
    judged = list(frames.read_frames(golden, spec, [k for keys in groups.values() for k in keys], runtime))
    slices = gate.slices_of(spec, judged)
    assert {"all", "day", "night", "light=day", "light=night"} <= set(slices)
    found = gate.score(runtime, judged, slices, policies.evaluation)["all"]
    truth = Boxes.concat([Boxes.of_frame(i, f.labels.boxes, f.labels.classes) for i, f in enumerate(judged)])
    answers = gate._seen(runtime, judged)
    seen = gate._found(answers, policies.evaluation)
    ignore = np.concatenate([gate._ignored(f.labels, policies.evaluation) for f in judged])
    coco = detection_scores(truth, seen, ignore, list(range(len(judged))), spec.classes)
    assert found.map50 == pytest.approx(coco.map50, abs=1e-6)
    truth3d, found3d, _ = gate._in_space(runtime, judged, answers, policies.evaluation)
    drives = [frame.key[0] for frame in judged]
    space = scores3d(truth3d, found3d, drives, spec.classes, policies.evaluation)
    assert found.objects3d == space.objects3d
    assert found.objects3d
    assert found.map3d == pytest.approx(space.map3d, abs=1e-9)
