"""What is looked into on every topic, by what its messages are.

Belongs here: choosing probes. Does not belong here: the probes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from av_assets.domain.logs.contract import stream_kind
from av_assets.domain.logs.integrity.calibration_rules import calibration_probe
from av_assets.domain.logs.integrity.can_rules import CanProbe, Signal, load_signals
from av_assets.domain.logs.integrity.measurement_rules import CloudProbe, ImuProbe, ValueProbe
from av_assets.domain.logs.integrity.picture_rules import PictureProbe
from av_assets.domain.logs.integrity.position_rules import PositionProbe
from av_assets.domain.logs.integrity.stream_stats import Sampling

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from av_assets.domain.logs.drive_spec import StreamSpec
    from av_assets.domain.logs.reader import LogReader
    from av_assets.policies.integrity import IntegrityPolicy


def choose_samplings(
    reader: LogReader,
    streams: Mapping[str, StreamSpec],
    policy: IntegrityPolicy,
    drive_dir: Path | None,
    dbc_errors: dict[str, str],
) -> dict[str, Sampling]:
    """What to look into, by topic; a DBC that cannot be read is noted by role in `dbc_errors`."""
    found: dict[str, Sampling] = {}
    for role, stream in streams.items():
        if stream.topic not in reader.topics:
            continue
        signals: dict[int, list[Signal]] = {}
        if stream.dbc is not None:
            try:
                signals = load_signals(_dbc(reader, stream.dbc, drive_dir))
            except ValueError as error:
                dbc_errors[role] = str(error)
        kind = stream_kind(reader.topics[stream.topic].msgtype)
        found[stream.topic] = _sampling(kind, signals, reader, policy)
    for topic, info in reader.topics.items():
        probe = calibration_probe(topic, info.msgtype, policy)
        if probe is not None:
            found[topic] = Sampling(*probe)
    return found


def _sampling(
    kind: str | None, signals: dict[int, list[Signal]], reader: LogReader, policy: IntegrityPolicy
) -> Sampling:
    """By what the messages are: a stream declared as something else has a rule of its own."""
    if kind == "camera":
        return Sampling(PictureProbe(policy), policy.picture_samples)
    if kind == "lidar":
        return Sampling(CloudProbe(policy), policy.cloud_samples)
    if kind == "imu":
        return Sampling(ImuProbe(policy), policy.value_samples)
    if kind in ("radar", "pose"):
        return Sampling(ValueProbe(), policy.value_samples)
    if kind == "gnss":
        return Sampling(PositionProbe(reader, policy))
    if kind == "can" and signals:
        return Sampling(CanProbe(signals, policy))
    return Sampling()


def _dbc(reader: LogReader, name: str, drive_dir: Path | None) -> Path:
    near = [folder for source in reader.sources for folder in source.path.absolute().parents[:2]]
    for folder in [drive_dir] if drive_dir else near:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{name} is not in the drive folder")
