"""Rows of the table scenes: what each scene of a drive holds.

Belongs here: putting events, context and labels together by time. Does not belong here: where scenes begin and end
(`windows`), counting objects (`objects`), words (`describe`). What is not known is null.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from av_assets.domain.catalog.schemas import column
from av_assets.domain.scenes.describe import Happening, Setting, describe
from av_assets.domain.scenes.objects import Frame, Objects, frame_counts, objects_in
from av_assets.domain.scenes.windows import ClipSpan, clip_spans, recordings, scene_windows
from av_assets.domain.sequences.intervals import Interval, touches

if TYPE_CHECKING:
    from av_assets.policies.scenes import ScenesPolicy, SpeedBand, Vocabulary

Row = Mapping[str, Any]
_TEXT, _TEXTS, _NS, _INT = pa.string(), pa.list_(pa.string()), pa.int64(), pa.int32()
SCENES: Final = pa.schema(
    [
        column("drive", _TEXT, "drive id"),
        column("scene_id", _TEXT, "drive and number of the scene"),
        column("clip_ids", _TEXTS, "the clips that it touches, in order of time"),
        column("start_ns", _NS, "first moment, nanoseconds since the Unix epoch"),
        column("end_ns", _NS, "last moment; the next scene begins one nanosecond later"),
        column("kinds", _TEXTS, "kinds of its events, in order of time"),
        column("tags", _TEXTS, "terms of the vocabulary of the policy scenes"),
        column("description", _TEXT, "what happens and where, in English"),
        column("light", _TEXT, "day, twilight or night: what holds for most of the scene"),
        column("weather", _TEXT, "what holds for most of the scene"),
        column("weather_from", _TEXT, "weather_table, vehicle_evidence or declared"),
        column("road_class", _TEXT, "of the map; what holds for most of the scene"),
        column("speed_band", _TEXT, "band of the mean speed, by the policy scenes"),
        column("max_level", _INT, "highest level of its events"),
        column("vehicles", _INT, "most in any one labelled frame; null without labels"),
        column("pedestrians", _INT, "most in any one labelled frame; null without labels"),
        column("occluded_pedestrians", _INT, "most in any one labelled frame; null without labels"),
        column("occlusion_from", _TEXT, "label, or nearer_boxes: estimated from boxes of nearer objects"),
        column("h3_cell", _TEXT, "H3 cell of resolution 9; what holds for most of the scene"),
    ]
)


@dataclass(frozen=True)
class DriveRows:
    """What is known of one drive.

    Attributes:
        drive: the row of the table drives.
        clips, context, events: rows of the tables clips, clip_context and events.
        labels: rows of a label bundle.
        labelled: (camera, ref_ns) of frames known to be labelled, with or without an object in them.
    """

    drive: Row
    clips: Sequence[Row]
    context: Sequence[Row]
    events: Sequence[Row]
    labels: Sequence[Row]
    labelled: Sequence[Frame]


def scene_rows(drive: DriveRows, policy: ScenesPolicy) -> pa.Table:
    """Scenes of one drive in order of time, by SCENES; the same input in any order gives the same bytes."""
    spans = clip_spans(_timed(drive.clips, "clip_id"), policy.windows.clip_gap_s)
    events = sorted(drive.events, key=lambda e: (e["start_ns"], e["end_ns"], e["kind"], e["level"] or 0))
    intervals = [Interval(e["start_ns"], e["end_ns"]) for e in events]
    scenes = scene_windows(spans, intervals, policy.windows)
    parts = _Parts(drive, spans, events, policy)
    rows = [parts.row(number, scene) for number, scene in enumerate(scenes)]
    return pa.Table.from_pylist(rows, schema=SCENES)


def uncovered_ns(clips: Sequence[Row], scenes: Sequence[Row], policy: ScenesPolicy) -> int:
    """How many ns of the recording are in no scene, plus how many are in more than one or in none of the recording."""
    spans = clip_spans(_timed(clips, "clip_id"), policy.windows.clip_gap_s)
    edges = [(r.start_ns, 1, 0) for r in recordings(spans)] + [
        (r.end_ns + 1, -1, 0) for r in recordings(spans)
    ]
    edges += [(s["start_ns"], 0, 1) for s in scenes] + [(s["end_ns"] + 1, 0, -1) for s in scenes]
    wrong, recorded, told, last = 0, 0, 0, 0
    for at, of_recording, of_scene in sorted(edges):
        wrong += (at - last) * (recorded != told)
        recorded, told, last = recorded + of_recording, told + of_scene, at
    return wrong


def _timed(rows: Iterable[Row], name: str) -> list[tuple[str, int, int]]:
    known = (r for r in rows if None not in (r["start_ns"], r["end_ns"]))
    return [(r[name], r["start_ns"], r["end_ns"]) for r in known if r["start_ns"] <= r["end_ns"]]


class _Parts:
    """What the scenes of one drive are put together from."""

    def __init__(
        self, drive: DriveRows, spans: Sequence[ClipSpan], events: Sequence[Row], policy: ScenesPolicy
    ) -> None:
        self._drive, self._spans, self._events, self._policy = drive, spans, events, policy
        self._clips = {row["clip_id"]: row for row in drive.clips}
        self._context = {row["clip_id"]: row for row in drive.context}
        self._frames = frame_counts(drive.labels, drive.labelled)

    def row(self, number: int, scene: Interval) -> dict[str, Any]:
        spans = [s for s in self._spans if touches(s.interval, scene)]
        events = [e for e in self._events if touches(Interval(e["start_ns"], e["end_ns"]), scene)]
        weather, weather_from = self._weather(spans, scene)
        objects = objects_in(scene, self._frames, self._policy.objects.occluded_share)
        setting = Setting(
            light=self._of_clips("light", spans, scene) or self._drive.drive.get("light"),
            weather=weather,
            road_class=_longest(self._context, "road_class", spans, scene),
            speed_mps=_mean(self._clips, "mean_speed_mps", spans, scene),
        )
        kinds = list(dict.fromkeys(event["kind"] for event in events))
        name = self._drive.drive["drive"]
        return {
            **{"drive": name, "scene_id": f"{name}/scene-{number:05d}", "start_ns": scene.start_ns},
            **{"end_ns": scene.end_ns, "clip_ids": [s.clip_id for s in spans], "kinds": kinds},
            "tags": _tags(setting, self._drive.drive.get("zone"), kinds, objects, self._policy.tags),
            "description": _sentence(setting, events, objects),
            **{"light": setting.light, "weather": weather, "weather_from": weather_from},
            **{"road_class": setting.road_class, "h3_cell": self._of_clips("h3_cell", spans, scene)},
            "speed_band": speed_band(setting.speed_mps, self._policy.speed_bands),
            "max_level": max((e["level"] for e in events if e["level"] is not None), default=None),
            **{"vehicles": objects.vehicles, "pedestrians": objects.pedestrians},
            "occluded_pedestrians": objects.occluded_pedestrians,
            "occlusion_from": objects.occlusion_from,
        }

    def _of_clips(self, column: str, spans: Sequence[ClipSpan], scene: Interval) -> str | None:
        return _longest(self._clips, column, spans, scene)

    def _weather(self, spans: Sequence[ClipSpan], scene: Interval) -> tuple[str | None, str | None]:
        """The weather table first, then what the vehicle saw, then what was declared; with the source."""
        for name, source in (("weather", "weather_table"), ("evidence_weather", "vehicle_evidence")):
            value = _longest(self._context, name, spans, scene)
            if value is not None:
                return value, source
        declared = self._drive.drive.get("weather")
        return (declared, "declared") if declared is not None else (None, None)


def speed_band(speed_mps: float | None, bands: Sequence[SpeedBand]) -> str | None:
    """The name of the first band that the speed is below the bound of."""
    if speed_mps is None:
        return None
    return next(b.name for b in bands if b.below_mps is None or speed_mps < b.below_mps)


def _sentence(setting: Setting, events: Sequence[Row], objects: Objects) -> str:
    happenings = [Happening(e["kind"], e["level"], e["peak"], _evidence(e["evidence"])) for e in events]
    counts = (objects.vehicles, objects.pedestrians, objects.occluded_pedestrians)
    return describe(setting, happenings, *counts)


def _tags(
    setting: Setting, zone: str | None, kinds: Sequence[str], objects: Objects, words: Vocabulary
) -> list[str]:
    """Terms of the vocabulary alone, sorted."""
    found = {
        words.light.get(setting.light or ""),
        words.weather.get(setting.weather or ""),
        words.road_class.get(setting.road_class or ""),
        words.zone.get(zone or ""),
        *(words.events.get(kind, words.other_event) for kind in kinds),
        words.objects.get("vehicle") if objects.vehicles else None,
        words.objects.get("pedestrian") if objects.pedestrians else None,
        words.objects.get("occluded_pedestrian") if objects.occluded_pedestrians else None,
    }
    return sorted(tag for tag in found if tag is not None)


def _longest(rows: Mapping[str, Row], column: str, spans: Sequence[ClipSpan], scene: Interval) -> str | None:
    """The value that holds for the longest time of the scene; the alphabetically first of equals."""
    held: dict[str, int] = defaultdict(int)
    for value, length_ns in _weighted(rows, column, spans, scene):
        held[value] += length_ns
    return min(held, key=lambda value: (-held[value], value), default=None)


def _mean(rows: Mapping[str, Row], column: str, spans: Sequence[ClipSpan], scene: Interval) -> float | None:
    """Mean over the time of the scene in which the value is known."""
    known = [(v, ns) for v, ns in _weighted(rows, column, spans, scene) if math.isfinite(v)]
    return sum(v * ns for v, ns in known) / sum(ns for _, ns in known) if known else None


def _weighted(
    rows: Mapping[str, Row], column: str, spans: Sequence[ClipSpan], scene: Interval
) -> list[tuple[Any, int]]:
    """(value, ns of the scene) of the clips that have one."""
    found = []
    for span in spans:
        value = rows.get(span.clip_id, {}).get(column)
        start_ns = max(span.interval.start_ns, scene.start_ns)
        if value is not None:
            found.append((value, min(span.interval.end_ns, scene.end_ns) - start_ns + 1))
    return found


def _evidence(text: str | None) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
