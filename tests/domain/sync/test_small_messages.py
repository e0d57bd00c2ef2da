"""CAN frames by DBC, radar messages of several layouts, and small messages against full decoding."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cantools
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from av_assets.domain.errors import SyncError
from av_assets.domain.logs.files.blocks import RawMessage
from av_assets.domain.sync import wire
from av_assets.domain.sync.canbus import CanDecoder
from av_assets.domain.sync.signals import SignalReader, numbers_of
from av_assets.domain.sync.tracks import ID_MASK, tracks_of
from av_assets.domain.sync.wire import CanFrame

if TYPE_CHECKING:
    from pathlib import Path

DBC = """VERSION ""
NS_ :
BS_:
BU_: ECU
BO_ 256 SPEED: 8 ECU
 SG_ SPEED_MPS : 7|16@0+ (0.01,0) [0|655] "m/s" ECU
 SG_ STEER_RAD : 23|16@0- (0.001,0) [-32|32] "rad" ECU
BO_ 2147483904 EXTENDED: 8 ECU
 SG_ LITTLE : 0|12@1- (1,0) [-2048|2047] "" ECU
BO_ 512 MUXED: 8 ECU
 SG_ PAGE M : 0|8@1+ (1,0) [0|255] "" ECU
 SG_ FIRST m0 : 8|16@1+ (1,0) [0|65535] "" ECU
 SG_ SECOND m1 : 8|16@1- (0.5,0) [-16384|16383] "" ECU
BO_ 768 WIDE: 24 ECU
 SG_ LAST : 176|16@1+ (1,0) [0|65535] "" ECU
 SG_ REAL : 0|32@1- (1,0) [0|0] "" ECU
BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","StandardCAN_FD";
BA_DEF_DEF_ "VFrameFormat" "StandardCAN";
BA_ "VFrameFormat" BO_ 768 2;
SIG_VALTYPE_ 768 REAL : 1;
"""
FD_FRAME = "std_msgs/Header header\nuint32 id\nbool is_extended\nbool is_error\nuint8 len\nuint8[<=64] data\n"
CAN_FRAME = (
    "std_msgs/Header header\nuint32 id\nbool is_rtr\nbool is_extended\nbool is_error\nuint8 dlc\n"
    "uint8[8] data\n"
)


@pytest.fixture(scope="module")
def dbc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dbc") / "car.dbc"
    path.write_text(DBC)
    return path


def _frame(can_id: int, data: bytes, extended: bool = False) -> CanFrame:
    return CanFrame(can_id, extended, True, data)


@given(speed=st.integers(0, 65535), steer=st.integers(-32768, 32767))
def test_big_endian_signals_are_most_significant_byte_first(dbc: Path, speed: int, steer: int) -> None:
    data = speed.to_bytes(2, "big") + steer.to_bytes(2, "big", signed=True) + bytes(4)
    found = dict(_decoder(dbc).decode(_frame(256, data)))
    assert found == {"SPEED_MPS": pytest.approx(speed / 100), "STEER_RAD": pytest.approx(steer / 1000)}


_DECODERS: dict[str, CanDecoder] = {}


def _decoder(dbc: Path) -> CanDecoder:
    return _DECODERS.setdefault(str(dbc), CanDecoder(dbc))


def test_extended_and_standard_identifiers_are_apart(dbc: Path) -> None:
    decoder = CanDecoder(dbc)
    assert dict(decoder.decode(_frame(256, b"\xff\x0f" + bytes(6), extended=True))) == {"LITTLE": -1.0}
    assert "SPEED_MPS" in dict(decoder.decode(_frame(256, bytes(8))))
    assert decoder.decode(_frame(512, bytes(8), extended=True)) == ()
    assert decoder.unknown == 1


def test_a_multiplexed_message_gives_the_signals_of_its_page(dbc: Path) -> None:
    decoder = CanDecoder(dbc)
    assert dict(decoder.decode(_frame(512, b"\x00\x34\x12" + bytes(5)))) == {"PAGE": 0.0, "FIRST": 0x1234}
    assert dict(decoder.decode(_frame(512, b"\x01\xfe\xff" + bytes(5)))) == {"PAGE": 1.0, "SECOND": -1.0}
    assert decoder.decode(_frame(512, b"\x07" + bytes(7))) == ()
    assert sum(decoder.failed.values()) == 1


def test_fd_frames_may_be_padded_and_must_not_be_short(dbc: Path) -> None:
    decoder = CanDecoder(dbc)
    data = np.float32(2.5).tobytes() + bytes(18) + b"\x34\x12"
    for padding in (0, 8):
        assert dict(decoder.decode(_frame(768, data + bytes(padding)))) == {"REAL": 2.5, "LAST": 0x1234}
    assert decoder.decode(_frame(768, data[:20])) == ()
    assert sum(decoder.failed.values()) == 1


def test_what_cantools_encodes_is_decoded(dbc: Path) -> None:
    message = cantools.database.load_file(str(dbc)).get_message_by_name("SPEED")
    data = message.encode({"SPEED_MPS": 12.34, "STEER_RAD": -0.5})
    assert dict(_decoder(dbc).decode(_frame(256, bytes(data)))) == pytest.approx(
        {"SPEED_MPS": 12.34, "STEER_RAD": -0.5}
    )


def _store(ros1: bool) -> Any:
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(CAN_FRAME, "can_msgs/msg/Frame"))
    if not ros1:
        store.register(get_types_from_msg(FD_FRAME, "ros2_socketcan_msgs/msg/FdFrame"))
    return store


def _raw(store: Any, msgtype: str, ros1: bool = False, **content: Any) -> RawMessage:
    t = store.types
    stamp = t["builtin_interfaces/msg/Time"](1, 2)
    header = t["std_msgs/msg/Header"](stamp=stamp, frame_id="abc", **({"seq": 1} if ros1 else {}))
    message = t[msgtype](header=header, **content)
    data = store.serialize_ros1(message, msgtype) if ros1 else store.serialize_cdr(message, msgtype)
    return RawMessage("/can", msgtype, 0, bytes(data), "ros1" if ros1 else "cdr", 4)


@pytest.mark.parametrize("ros1", [False, True])
def test_classic_frames_are_as_long_as_they_say(ros1: bool) -> None:
    data, store = np.arange(8, dtype=np.uint8), _store(ros1)
    content = {"is_rtr": False, "is_extended": True, "is_error": False, "dlc": 3, "data": data}
    raw = _raw(store, "can_msgs/msg/Frame", ros1, id=0x123, **content)
    assert wire.can_frame(raw) == CanFrame(0x123, True, True, b"\0\1\2")
    flagged = _raw(store, "can_msgs/msg/Frame", ros1, id=0x123 | 1 << 31, **{**content, "is_extended": False})
    assert wire.can_frame(flagged) == CanFrame(0x123, True, True, b"\0\1\2")
    remote = _raw(store, "can_msgs/msg/Frame", ros1, id=1, **{**content, "is_rtr": True})
    assert not wire.can_frame(remote).is_data


@pytest.mark.parametrize("length", [0, 7, 12, 64])
def test_fd_frames_are_read_by_offset_and_as_objects(length: int) -> None:
    store, data = _store(False), np.arange(length, dtype=np.uint8)
    content = {"is_extended": True, "is_error": False, "len": length, "data": data}
    raw = _raw(store, "ros2_socketcan_msgs/msg/FdFrame", id=77, **content)
    expected = CanFrame(77, True, True, data.tobytes())
    assert wire.can_frame(raw) == expected
    assert wire.can_frame_of(store.deserialize_cdr(raw.data, raw.msgtype)) == expected
    for cut in range(4, len(raw.data)):
        try:
            wire.can_frame(raw._replace(data=raw.data[:cut]))
        except SyncError as error:
            assert error.code == "bad_message"  # noqa: PT017
    with pytest.raises(SyncError):
        wire.can_frame_of(SimpleNamespace(id=1))


def test_frames_of_any_type_reach_the_dbc(dbc: Path) -> None:
    message = SimpleNamespace(id=256, data=b"\x04\xd2" + bytes(6))
    reader = SignalReader(lambda raw: message, lambda frame: None, {"/can": CanDecoder(dbc)}, {}, 99)
    raw = RawMessage("/can", "maker_msgs/msg/CanFd", 0, b"", "json", None)
    assert dict(reader.read(raw))["SPEED_MPS"] == pytest.approx(12.34)
    message.data = None
    assert list(reader.read(raw)) == []
    assert reader.failed == {"/can": 1}


def test_a_known_type_in_an_unknown_encoding_is_counted_not_misread() -> None:
    reader = SignalReader(lambda raw: None, lambda frame: None, {}, {}, 99)
    for kind in ("sensor_msgs/msg/Imu", "geometry_msgs/msg/PoseStamped", "sensor_msgs/msg/NavSatFix"):
        assert list(reader.read(RawMessage("/x", kind, 0, bytes(400), "protobuf", None))) == []
    assert reader.failed == {"/x": 3}


MOUNT = np.array([[0.0, -1, 0, 3], [1, 0, 0, 0], [0, 0, 1, 0.5], [0, 0, 0, 1]])  # looks left, 3 m ahead
POINT, SPEED = SimpleNamespace(x=10.0, y=1.0, z=0.0), SimpleNamespace(x=-2.0, y=0.0, z=0.0)
LAYOUTS = [
    SimpleNamespace(track_id=7, x_m=10.0, y_m=1.0, vx_mps=-2.0, vy_mps=0.0),
    SimpleNamespace(id=7, x=10.0, y=1.0, vx=-2.0, vy=0.0),
    SimpleNamespace(id=7, position=POINT, velocity=SPEED),
    SimpleNamespace(id=7, pose=SimpleNamespace(pose=SimpleNamespace(position=POINT)),
                    twist=SimpleNamespace(twist=SimpleNamespace(linear=SPEED))),
    SimpleNamespace(id=7, position=SimpleNamespace(pose=SimpleNamespace(position=POINT)),
                    relative_velocity=SimpleNamespace(twist=SimpleNamespace(linear=SPEED))),
]  # fmt: skip


@pytest.mark.parametrize("name", ["tracks", "objects", "detections", "targets"])
@pytest.mark.parametrize("item", LAYOUTS)
def test_tracks_of_any_layout_are_brought_into_the_ego_frame(item: Any, name: str) -> None:
    (track,) = tracks_of(SimpleNamespace(**{name: [item]}), MOUNT)
    assert track == pytest.approx((7, 2.0, 10.0, 0.0, -2.0))


@given(st.floats(1, 200), st.floats(-3, 3), st.floats(-0.5, 0.5), st.floats(-50, 50))
def test_detections_in_polar_form_move_along_their_beam(
    distance: float, azimuth: float, elevation: float, speed: float
) -> None:
    item = SimpleNamespace(range=distance, azimuth=azimuth, elevation=elevation, doppler_velocity=speed)
    (track,) = tracks_of(SimpleNamespace(returns=[item]), None)
    level = distance * math.cos(elevation)
    assert (track.x_m, track.y_m) == pytest.approx((level * math.cos(azimuth), level * math.sin(azimuth)))
    assert track.vx_mps * distance == pytest.approx(track.x_m * speed, abs=1e-6)
    assert track.vy_mps * distance == pytest.approx(track.y_m * speed, abs=1e-6)


def test_uuids_are_ids_and_tracks_of_no_place_are_left_out() -> None:
    uuid = SimpleNamespace(uuid=np.arange(16, dtype=np.uint8))
    lost = SimpleNamespace(id=1, x=math.nan, y=1.0, vx=0.0, vy=0.0)
    message = SimpleNamespace(tracks=[lost, SimpleNamespace(id=uuid, position=POINT, velocity=SPEED)])
    assert [track.track_id for track in tracks_of(message, None)] == [0x03020100 & ID_MASK]


@pytest.mark.parametrize("message", [SimpleNamespace(), SimpleNamespace(tracks=[SimpleNamespace(id=1)])])
def test_messages_without_tracks_are_typed_errors(message: Any) -> None:
    with pytest.raises(SyncError) as caught:
        tracks_of(message, None)
    assert caught.value.code == "bad_tracks"


def test_numbers_of_a_ros_message_leave_out_constants_and_stamps() -> None:
    store = _store(False)
    t = store.types
    status = t["sensor_msgs/msg/NavSatStatus"](status=0, service=1)
    fix = t["sensor_msgs/msg/NavSatFix"](
        t["std_msgs/msg/Header"](t["builtin_interfaces/msg/Time"](1, 2), "gnss"),
        status,
        1.0,
        2.0,
        3.0,
        np.zeros(9),
        0,
    )
    names = {
        "status_status",
        "status_service",
        "latitude",
        "longitude",
        "altitude",
        "position_covariance_type",
    }
    assert dict(numbers_of(fix, 99)).keys() == names
    assert len(list(numbers_of(fix, 2))) == 2
