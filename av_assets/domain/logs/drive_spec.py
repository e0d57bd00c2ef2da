"""What a vehicle says about a drive: the drive id grammar and `drive.yaml`.

Belongs here: identity, the topic contract (role -> stream) and declared conditions. Does not belong here: anything
that is measured from the log itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from av_assets.domain.errors import DriveIdError, LandingError
from av_assets.domain.evidence.manifest import safe_relative_path

DRIVE_ID = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*$")
MAX_ID_LENGTH = 96
SPEC_FILE = "drive.yaml"
MARKER_FILE = "COMPLETE"
MAX_SPEC_BYTES = 1 << 20

StreamKind = Literal["camera", "lidar", "radar", "imu", "gnss", "pose", "can", "signal", "other"]


def drive_id(text: str, file: str | Path | None = None) -> str:
    """`text` itself if the grammar allows it: lower-case words of letters and digits, single hyphens between.

    Commas, spaces, dots and slashes would break partition selection in the catalog, or a path.

    Raises:
        DriveIdError: anything else.
    """
    if not DRIVE_ID.match(text) or len(text) > MAX_ID_LENGTH:
        raise DriveIdError(f"{text!r} is not a drive id", file=file)
    return text


def slug(text: str) -> str:
    """A drive id made from any file name: `My Drive_01.bag` -> `my-drive-01`."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return "-".join(words)[:MAX_ID_LENGTH].strip("-") or "drive"


class StreamSpec(BaseModel):
    """One expected stream of the topic contract."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topic: str
    kind: StreamKind
    aliases: tuple[str, ...] = Field(
        default=(),
        description="other names of the topic, confirmed by a person; the first one recorded is used",
    )
    rate_hz: Annotated[float, Field(gt=0)] | None = None
    frame: str | None = None
    required: bool = True
    dbc: str | None = Field(default=None, description="for kind can: DBC file in the drive folder")

    @field_validator("dbc")
    @classmethod
    def _dbc_is_inside(cls, dbc: str | None) -> str | None:
        return None if dbc is None else safe_relative_path(dbc)


class DriveSpec(BaseModel):
    """The content of `drive.yaml`. Only `drive` is required; all else can be found in the log or stays unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_: Annotated[int, Field(alias="schema", ge=1, le=1)] = 1
    drive: str
    vehicle: str = "unknown"
    logs: tuple[str, ...] = Field(
        default=(), description="files or rosbag2 folders; empty: all that are found"
    )
    streams: dict[str, StreamSpec] = Field(
        default_factory=dict, description="role -> stream; empty: inferred"
    )
    conditions: dict[str, str] = Field(
        default_factory=dict, description="declared, not measured: weather, light, zone, region, ..."
    )

    @field_validator("drive")
    @classmethod
    def _id(cls, drive: str) -> str:
        return drive_id(drive)

    @field_validator("logs")
    @classmethod
    def _logs_are_inside(cls, logs: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(safe_relative_path(log) for log in logs)

    def to_yaml(self) -> str:
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        for stream in data["streams"].values():
            if not stream["aliases"]:
                del stream["aliases"]
        return str(yaml.safe_dump(data, sort_keys=False))


def read_drive_spec(path: Path) -> DriveSpec:
    """Read and validate a `drive.yaml`.

    Raises:
        LandingError: missing, too large, not YAML, or not what DriveSpec allows.
        DriveIdError: its id breaks the grammar.
    """
    try:
        with path.open("rb") as file:
            return parse_drive_spec(file.read(MAX_SPEC_BYTES + 1), path)
    except FileNotFoundError as error:
        raise LandingError("drive folder has no drive.yaml", code="missing_drive_yaml", file=path) from error
    except OSError as error:
        raise LandingError(f"cannot read drive.yaml: {error}", code="bad_drive_yaml", file=path) from error


def parse_drive_spec(content: bytes, path: Path) -> DriveSpec:
    """As `read_drive_spec`, from the content of the file; `path` names it in errors."""
    try:
        if len(content) > MAX_SPEC_BYTES:
            raise LandingError("drive.yaml is larger than 1 MiB", code="bad_drive_yaml", file=path)
        data = yaml.safe_load(content.decode("utf-8"))
        if isinstance(data, dict) and isinstance(data.get("drive"), str):
            drive_id(data["drive"], path)
        return DriveSpec.model_validate(data)
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise LandingError(f"cannot read drive.yaml: {error}", code="bad_drive_yaml", file=path) from error
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise LandingError(f"drive.yaml: {where}", code="bad_drive_yaml", file=path) from error
