"""Rows of an auto-label bundle: boxes, cuboids, candidates, each with where it came from.

Belongs here: one record to one row. Does not belong here: deciding what is kept, figures over tracks (consistency).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from av_assets.domain.labels.schema import SCORE_DIGITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from av_assets.domain.labels.automatic.candidates import Candidate, PictureDetector
    from av_assets.domain.labels.sensing.drive_frames import DriveFrame
    from av_assets.domain.labels.tracks.smoothing import Placed

Row = dict[str, Any]


@dataclass(frozen=True)
class Offer:
    """A candidate of a labelled frame with all that its rows say; `placed.candidate` has its final score."""

    placed: Placed
    frame: DriveFrame
    slice: str
    occlusion: float | None
    distance_m: float | None

    @property
    def candidate(self) -> Candidate:
        return self.placed.candidate

    @property
    def rule(self) -> str:
        """Sources that agreed, or "bridged"."""
        if self.candidate.state == "bridged":
            return "bridged"
        names = self.candidate.sources
        return "+".join(sorted(names, key=lambda n: (n != "lidar", n)))


@dataclass(frozen=True)
class Origin:
    """Who labelled: digest of the labeller, version of its rules, digest of the model of every source that has one."""

    labeller_digest: str
    rules: str
    camera: str
    models: Mapping[str, str]

    @classmethod
    def of(cls, labeller: str, rules: str, camera: str, detectors: Sequence[PictureDetector]) -> Origin:
        return cls(labeller, rules, camera, {d.source: d.model_digest for d in detectors})

    def model_digest(self, one: Candidate) -> str | None:
        """Of the models that saw it, joined by "+"; None where none took part."""
        used = [self.models[name] for name in sorted(one.sources) if name in self.models]
        return "+".join(used) or None


def label_id(track: int) -> str:
    return f"auto-{track:04d}"


def label_row(one: Offer, origin: Origin) -> Row:
    """Of labels.parquet; the candidate must have a box."""
    c = one.candidate
    return {
        **_where(c), "camera": origin.camera, "label_id": label_id(c.track), "cls": c.cls, **_corners(c),
        "score": round(c.score, SCORE_DIGITS), "source": origin.rules, "occlusion": rounded(one.occlusion, 3),
        "distance_m": rounded(one.distance_m, 2), "rule": one.rule, "labeller_digest": origin.labeller_digest,
        "model_digest": origin.model_digest(c), "state": c.state,
        "frame_digest": one.frame.picture_digest or one.frame.sweep_digest,
    }  # fmt: skip


def cuboid_row(one: Offer, origin: Origin) -> Row:
    """Of cuboids.parquet; the candidate must have a cuboid."""
    c, box = one.candidate, one.candidate.cuboid
    assert box is not None
    vx, vy = one.placed.velocity_mps or (None, None)
    return {
        **_where(c), "label_id": label_id(c.track), "cls": c.cls, "x_m": round(box.x_m, 3), "y_m": round(box.y_m, 3),
        "z_m": round((box.bottom_m + box.top_m) / 2, 3), "length_m": round(box.length_m, 3),
        "width_m": round(box.width_m, 3), "height_m": round(box.top_m - box.bottom_m, 3),
        "yaw_rad": round(box.yaw_rad, 4), "vx_mps": rounded(vx, 3), "vy_mps": rounded(vy, 3),
        "score": round(c.score, SCORE_DIGITS), "points": c.points, "rule": one.rule, "state": c.state,
        "labeller_digest": origin.labeller_digest, "model_digest": origin.model_digest(c),
        "sweep_digest": one.frame.sweep_digest,
    }  # fmt: skip


def candidate_row(one: Offer, origin: Origin) -> Row:
    """Of candidates.parquet; corners are null where it is not to be labelled in the picture."""
    c = one.candidate
    sources = json.dumps({k: round(v, 4) for k, v in c.sources.items()}, sort_keys=True)
    return {
        **_where(c), "camera": origin.camera, "track": c.track, "cls": c.cls, **_corners(c),
        "score": round(c.score, SCORE_DIGITS), "rule": one.rule, "slice": one.slice,
        "distance_m": rounded(one.distance_m, 2), "sources": sources,
    }  # fmt: skip


def _where(one: Candidate) -> Row:
    return {"clip_id": one.clip_id, "ref_ns": one.ref_ns}


def _corners(one: Candidate) -> Row:
    corners = one.xyxy or (None, None, None, None)
    return {n: rounded(v, 2) for n, v in zip(("x1", "y1", "x2", "y2"), corners, strict=True)}


def rounded(value: float | None, digits: int) -> float | None:
    """None stays None."""
    return None if value is None else round(float(value), digits)
