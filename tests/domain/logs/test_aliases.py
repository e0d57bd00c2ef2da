"""Renamed topics: proposed only where one fits and nothing else does, applied only when confirmed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.logs.aliases import TopicFacts, apply_aliases, propose_aliases, with_confirmed
from av_assets.domain.logs.contract import infer_streams
from av_assets.domain.logs.drive_spec import DriveSpec, StreamSpec
from av_assets.policies.topics import TopicPolicy

IMU_TYPE, IMAGE = "sensor_msgs/msg/Imu", "sensor_msgs/msg/CompressedImage"
IMU = StreamSpec(topic="/imu/data", kind="imu", rate_hz=100, frame="imu")
CAMERA = StreamSpec(topic="/cam", kind="camera", rate_hz=10, frame="camera_front")


def facts(kind: str = "imu", rate_hz: float | None = 100.0, frame: str = "imu") -> TopicFacts:
    return TopicFacts(IMU_TYPE if kind == "imu" else IMAGE, kind, rate_hz, frame)


def test_the_only_topic_that_fits_is_proposed_with_its_evidence() -> None:
    topics = {"/imu/raw": facts(rate_hz=98.0), "/other": facts(frame="rear_imu"), "/slow": facts(rate_hz=50)}
    (found,) = propose_aliases({"imu": IMU}, topics, 0.25)
    assert (found.role, found.declared, found.proposed) == ("imu", "/imu/data", "/imu/raw")
    assert found.evidence == {
        "kind": "imu", "type": IMU_TYPE, "rate": "98.00 Hz, declared 100 Hz", "frame": "imu",
    }  # fmt: skip
    assert "/imu/raw" in found.fix
    assert "streams.imu.aliases" in found.fix
    json.dumps(found.to_dict())


def test_nothing_is_proposed_for_what_is_recorded_or_of_what_is_claimed() -> None:
    assert propose_aliases({"imu": IMU}, {"/imu/data": facts(), "/imu/raw": facts()}, 0.25) == []
    rear = StreamSpec(topic="/imu/raw", kind="imu")
    (found,) = propose_aliases({"imu": IMU, "rear": rear}, {"/imu/raw": facts()}, 0.25)
    assert (found.role, found.proposed, found.candidates) == ("imu", "", ())


def test_two_topics_that_fit_are_left_to_a_person() -> None:
    (found,) = propose_aliases({"imu": IMU}, {"/a": facts(), "/b": facts(rate_hz=101.0)}, 0.25)
    assert (found.proposed, found.candidates) == ("", ("/a", "/b"))
    assert "2 topics" in found.reason
    assert found.fix == ""


def test_one_topic_that_fits_two_streams_is_left_to_a_person() -> None:
    streams = {"front": IMU, "rear": StreamSpec(topic="/imu/rear", kind="imu")}
    found = propose_aliases(streams, {"/a": facts()}, 0.25)
    assert [one.proposed for one in found] == ["", ""]
    assert "rear" in found[0].reason


@pytest.mark.parametrize("rate_hz", [None, 60.0, 130.0])
def test_a_rate_that_differs_is_another_topic(rate_hz: float | None) -> None:
    (found,) = propose_aliases({"imu": IMU}, {"/a": facts(rate_hz=rate_hz)}, 0.25)
    assert found.proposed == ""


def test_custom_types_need_rate_and_frame_as_evidence() -> None:
    speed = StreamSpec(topic="/speed", kind="signal")
    topics = {"/v": TopicFacts("acme/msg/Speed", "signal", 50.0, "base")}
    assert propose_aliases({"speed": speed}, topics, 0.25)[0].proposed == ""
    exact = speed.model_copy(update={"rate_hz": 50.0, "frame": "base"})
    assert propose_aliases({"speed": exact}, topics, 0.25)[0].proposed == "/v"


def test_a_confirmed_alias_is_used_only_where_the_topic_is_absent() -> None:
    imu = IMU.model_copy(update={"aliases": ("/imu/raw", "/imu/new")})
    assert apply_aliases({"imu": imu}, {"/imu/new"})["imu"].topic == "/imu/new"
    assert apply_aliases({"imu": imu}, {"/imu/new", "/imu/raw"})["imu"].topic == "/imu/raw"
    assert apply_aliases({"imu": imu}, {"/imu/data", "/imu/raw"})["imu"] == imu
    assert apply_aliases({"imu": imu}, {"/x"})["imu"] == imu
    both = {"rear": StreamSpec(topic="/imu/raw", kind="imu"), "imu": imu}
    assert apply_aliases(both, {"/imu/raw"})["imu"] == imu


def test_everyone_who_infers_streams_gets_the_alias() -> None:
    imu = IMU.model_copy(update={"aliases": ("/imu/raw",)})
    found = infer_streams({"/imu/raw": IMU_TYPE}, {"imu": imu})
    assert {role: stream.topic for role, stream in found.items()} == {"imu": "/imu/raw"}


def test_drive_yaml_keeps_aliases_and_says_nothing_without() -> None:
    healed = IMU.model_copy(update={"aliases": ("/imu/raw",)})
    text = DriveSpec(drive="x", streams={"imu": healed, "cam": CAMERA}).to_yaml()
    assert text.count("aliases") == 1
    assert "/imu/raw" in text


topics_of = st.dictionaries(
    st.sampled_from([f"/t{i}" for i in range(6)]),
    st.builds(facts, st.sampled_from(["imu", "camera"]), st.sampled_from([None, 10.0, 100.0])),
)
streams_of = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.builds(
        StreamSpec,
        topic=st.sampled_from([f"/t{i}" for i in range(9)]),
        kind=st.sampled_from(["imu", "camera"]),
        rate_hz=st.sampled_from([None, 10.0, 100.0]),
    ),
)


@given(streams_of, topics_of)
def test_a_topic_is_proposed_once_and_never_one_that_is_claimed(
    streams: dict[str, StreamSpec], topics: dict[str, TopicFacts]
) -> None:
    found = propose_aliases(streams, topics, 0.25)
    proposed = [one.proposed for one in found if one.proposed]
    assert len(set(proposed)) == len(proposed)
    assert not set(proposed) & {stream.topic for stream in streams.values()}
    assert {one.role for one in found} == {r for r, s in streams.items() if s.topic not in topics}
    assert all(topics[one.proposed].kind == streams[one.role].kind for one in found if one.proposed)


def test_alias_of_the_fleet_stands_behind_that_of_the_drive() -> None:
    own = IMU.model_copy(update={"aliases": ("/imu/own",)})
    spec = DriveSpec(drive="d", streams={"imu": own, "camera_front": CAMERA})
    policy = TopicPolicy(version="1.0.0", aliases={"/imu/data": ("/imu/new", "/imu/own")})
    confirmed = with_confirmed(spec, policy).streams
    assert confirmed["imu"].aliases == ("/imu/own", "/imu/new")
    assert confirmed["camera_front"] == CAMERA
    assert apply_aliases(confirmed, {"/imu/new", "/cam"})["imu"].topic == "/imu/new"
    assert TopicPolicy.load().aliases == {}
