"""Auto-labels of one drive: what lidar and cameras see, tracked over time, judged, and written with its evidence.

Belongs here: the pass over a drive and its bundle. Does not belong here: each step (sightings, tracked, weak_rules,
thresholds, label_rows), what people make of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.evidence.digests import sha256_json
from av_assets.domain.labels.automatic.label_rows import (
    Offer,
    Origin,
    Row,
    candidate_row,
    cuboid_row,
    label_row,
)
from av_assets.domain.labels.matching import iou_matrix
from av_assets.domain.labels.schema import (
    CANDIDATES_FILE,
    CLASSES,
    CUBOIDS_FILE,
    DRIVABLE_FILE,
    LABELS_FILE,
    TRACKS_FILE,
    write_bundle,
)
from av_assets.domain.labels.sensing.drivable import (
    close_behind_cones,
    drivable_mask,
    encode_mask,
    off_road_m,
)
from av_assets.domain.labels.sensing.drive_frames import drive_frames, roles_of
from av_assets.domain.labels.sensing.views import View
from av_assets.domain.labels.tracks.consistency import residual_px, self_consistency, track_rows
from av_assets.domain.labels.tracks.sightings import Sighting, Spotter
from av_assets.domain.labels.tracks.smoothing import Placed
from av_assets.domain.labels.tracks.tracked import in_pictures, timeline, tracked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.domain.labels.automatic.candidates import PictureDetector
    from av_assets.policies.autolabels import AutolabelPolicy
    from av_assets.policies.label_fusion import LabelFusionPolicy

RULES_VERSION = "fused-tracks/1"
DRIVABLE_SCORE = 0.8
UNKNOWN = "unknown"


def slice_of_clip(light: str | None, weather: str | None) -> str:
    """Slice of a clip, as in "day", "rain", "night-rain": clear weather and daylight in company are not named."""
    if light is None and weather is None:
        return UNKNOWN
    parts = [p for p in (light, weather) if p not in (None, "clear")]
    named = [str(p) for p in parts if p != "day"] or ["day"]
    return "-".join(named)


@dataclass(frozen=True)
class Labeller:
    """All that decides how a drive is labelled; `slice_of` gives the slice of a clip, for thresholds."""

    policy: AutolabelPolicy
    fusion: LabelFusionPolicy
    detectors: Sequence[PictureDetector] = ()
    slice_of: Callable[[str], str] = lambda clip_id: UNKNOWN

    @property
    def digest(self) -> str:
        """Names the labeller: its rules, its numbers and its models. It changes when any of them does."""
        return sha256_json(
            {
                "rules": RULES_VERSION,
                "policies": {p.name: p.digest for p in (self.policy, self.fusion)},
                "models": {d.source: d.model_digest for d in self.detectors},
            }
        )


@dataclass(frozen=True)
class _Drive:
    """What a drive offers to label with: None where it has none."""

    camera: str | None
    lidar: str | None
    view: View | None
    mounting: np.ndarray[Any, np.dtype[np.float64]] | None
    reason: str

    @classmethod
    def of(cls, clips: Sequence[Path], calibration: Mapping[str, Any], labeller: Labeller) -> _Drive:
        policy, roles = labeller.policy, roles_of(clips)
        camera = policy.camera if policy.camera in roles else None
        known = calibration.get("lidars", {}).get(policy.lidar)
        lidar = policy.lidar if policy.lidar in roles and known is not None else None
        given = calibration.get("cameras", {}).get(policy.camera)
        view = View.of(given) if camera and given is not None else None
        mounting = None
        if lidar:
            mounting = np.asarray(known["ego_SE3_lidar"], dtype=np.float64).reshape(4, 4)
        reason = "" if lidar or (camera and labeller.detectors) else _why_not(policy, roles, camera)
        return cls(camera, lidar, view, mounting, reason)


def _without_lidar(fusion: LabelFusionPolicy) -> LabelFusionPolicy:
    """Where a drive has no lidar nothing could agree with a detector: each may speak alone."""
    free = {name: rule.model_copy(update={"alone": True}) for name, rule in fusion.sources.items()}
    return fusion.model_copy(update={"sources": free})


def _why_not(policy: AutolabelPolicy, roles: set[str], camera: str | None) -> str:
    sweeps = "no calibration of" if policy.lidar in roles else "no"
    sight = "no detector for" if camera else "no"
    return f"{sweeps} {policy.lidar} and {sight} {policy.camera}"


def auto_label_drive(
    clips: Sequence[Path],
    calibration: Mapping[str, Any],
    labeller: Labeller,
    out_dir: Path,
    watch: Stopwatch | None = None,
) -> dict[str, Any]:
    """Label the clips of a drive; writes all files of `schema` into `out_dir` and returns the report.

    Args:
        clips: clip files of synced_shards.
        calibration: content of calibration.json.

    Without the lidar or its calibration there are boxes of detectors only; without the camera cuboids only; without
    the calibration of the camera the two are not joined. A drive with nothing to label with gives empty tables and a
    `reason`.
    """
    drive = _Drive.of(clips, calibration, labeller)
    sightings: list[Sighting] = []
    if not drive.reason:
        policy = labeller.policy
        fusion = labeller.fusion if drive.lidar else _without_lidar(labeller.fusion)
        spotter = Spotter(drive.view, drive.mounting, policy, fusion, labeller.detectors)
        every = policy.every_kth_frame
        between = policy.track_every_kth_frame if drive.lidar else every
        for frame in drive_frames(clips, drive.camera, drive.lidar, every, between):
            with watch("spot") if watch else nullcontext():
                sightings.append(spotter.spot(frame))
    with watch("track") if watch else nullcontext():
        tables, report = _labels(sightings, drive, labeller)
    with watch("write") if watch else nullcontext():
        write_bundle(out_dir, tables, report)
    return report


def _labels(
    sightings: Sequence[Sighting], drive: _Drive, labeller: Labeller
) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    from av_assets.domain.labels.quality.thresholds import kept

    policy, fusion = labeller.policy, labeller.fusion
    eye = np.zeros(2) if drive.mounting is None else drive.mounting[:2, 3]
    line = timeline(sightings, eye)
    placed = tracked(sightings, line, policy)
    offers, rules = _judged(placed, sightings, drive, labeller)
    chosen = {
        id(c) for c in kept([o.candidate for o in offers], lambda c: labeller.slice_of(c.clip_id), fusion)
    }
    final = [o for o in offers if id(o.candidate) in chosen]
    origin = Origin.of(labeller.digest, RULES_VERSION, policy.camera, labeller.detectors)
    whole: dict[int, list[Placed]] = defaultdict(list)
    for one in placed:
        whole[one.candidate.track].append(one)
    residuals = _residuals(final, {s.frame.ref_ns: s for s in sightings})
    tables = {
        LABELS_FILE: [label_row(o, origin) for o in final if o.candidate.xyxy is not None],
        CUBOIDS_FILE: [cuboid_row(o, origin) for o in final if o.candidate.cuboid is not None],
        CANDIDATES_FILE: [candidate_row(o, origin) for o in offers],
        TRACKS_FILE: track_rows(final, whole, line.poses, line.times_s, residuals),
        DRIVABLE_FILE: _masks(sightings, final, drive, policy),
    }
    return tables, _report(tables, sightings, drive, labeller, rules)


def _judged(
    placed: Sequence[Placed], sightings: Sequence[Sighting], drive: _Drive, labeller: Labeller
) -> tuple[list[Offer], dict[str, Any]]:
    """Candidates of labelled frames with their final score."""
    from av_assets.domain.labels.automatic.weak_rules import judgement

    shown = in_pictures(placed, sightings, drive.view, labeller.policy)
    off = [
        None
        if (edges := sightings[p.frame].edges) is None or p.candidate.cuboid is None
        else off_road_m(edges, p.candidate.cuboid)
        for p, _, _ in shown
    ]
    judged = judgement([p.candidate for p, _, _ in shown], labeller.fusion, off)
    offers = [
        Offer(
            replace(p, candidate=c), sightings[p.frame].frame, labeller.slice_of(c.clip_id), hidden, distance
        )
        for (p, hidden, distance), c in zip(shown, judged.candidates, strict=True)
    ]
    return offers, {"combined_by": judged.how, "rules": judged.rules}


def _residuals(offers: Sequence[Offer], sightings: Mapping[int, Sighting]) -> dict[int, list[float]]:
    """Track -> how far its projected cuboid is from what a detector saw, where one agreed."""
    found: dict[int, list[float]] = defaultdict(list)
    for one in offers:
        c = one.candidate
        if c.cuboid is None or c.xyxy is None:
            continue
        seen = [
            d.xyxy
            for source, boxes in sightings[c.ref_ns].seen.items()
            if source in c.sources
            for d in boxes
            if d.cls == c.cls
        ]
        overlap = iou_matrix([c.xyxy], seen)[0] if seen else np.zeros(0)
        if len(overlap) and overlap.max() > 0:
            found[c.track].append(residual_px(c.xyxy, seen[int(overlap.argmax())]))
    return found


def _masks(
    sightings: Sequence[Sighting], offers: Sequence[Offer], drive: _Drive, policy: AutolabelPolicy
) -> list[Row]:
    """Drivable area of labelled frames with a picture in which a road was seen, less what stands on it."""
    view, rows = drive.view, []
    things: dict[int, list[Any]] = defaultdict(list)
    for one in offers:
        if one.candidate.cuboid is not None:
            things[one.candidate.ref_ns].append(one.candidate)
    for sighting in sightings:
        frame = sighting.frame
        if view is None or not frame.labelled or sighting.edges is None or sighting.plane is None:
            continue
        here = things[frame.ref_ns]
        edges = close_behind_cones(sighting.edges, [c.cuboid for c in here if c.cls == "cone"], policy)
        mask = drivable_mask(edges, sighting.plane, [c.cuboid for c in here], view, policy.road_reach_m)
        row = {
                "clip_id": frame.clip_id, "ref_ns": frame.ref_ns, "camera": policy.camera,
                "width": view.width, "height": view.height, "mask": encode_mask(mask), "score": DRIVABLE_SCORE,
        }  # fmt: skip
        rows.append(row)
    return rows


def _report(
    tables: Mapping[str, Sequence[Row]],
    sightings: Sequence[Sighting],
    drive: _Drive,
    labeller: Labeller,
    rules: Mapping[str, Any],
) -> dict[str, Any]:
    policy, labels = labeller.policy, tables[LABELS_FILE]
    count = Counter(row["cls"] for row in labels)
    scores = {c: [row["score"] for row in labels if row["cls"] == c] for c in CLASSES}
    return {
        "frames": sum(s.frame.labelled for s in sightings),
        "frames_tracked": len(sightings),
        "labels": len(labels),
        "bridged": sum(row["state"] == "bridged" for row in labels),
        "cuboids": len(tables[CUBOIDS_FILE]),
        "candidates": len(tables[CANDIDATES_FILE]),
        "tracks": len(tables[TRACKS_FILE]),
        "drivable": len(tables[DRIVABLE_FILE]),
        "objects": {c: count[c] for c in CLASSES},
        "mean_score": {c: round(float(np.mean(v)), 4) for c, v in scores.items() if v},
        "by_rule": dict(sorted(Counter(row["rule"] for row in labels).items())),
        "camera": policy.camera,
        "lidar": policy.lidar,
        "every_kth_frame": policy.every_kth_frame,
        "reason": drive.reason,
        "labeller_digest": labeller.digest,
        "rules": RULES_VERSION,
        "policies": {p.name: p.digest for p in (policy, labeller.fusion)},
        "sources": _sources(sightings, drive, labeller),
        "weak_rules": dict(rules),
        "self_consistency": self_consistency(tables[TRACKS_FILE]),
    }


def _sources(sightings: Sequence[Sighting], drive: _Drive, labeller: Labeller) -> dict[str, Any]:
    """What took part: frames it looked at, things it saw, its model."""
    found: dict[str, Any] = {}
    if drive.lidar:
        swept = [s for s in sightings if s.plane is not None]
        seen = sum("lidar" in c.sources for s in swept for c in s.candidates)
        found["lidar"] = {"frames": len(swept), "seen": seen, "model_digest": None}
    for detector in labeller.detectors:
        looked = [s.seen[detector.source] for s in sightings if detector.source in s.seen]
        found[detector.source] = {
            "frames": len(looked), "seen": sum(len(boxes) for boxes in looked),
            "model_digest": detector.model_digest,
        }  # fmt: skip
    return found
