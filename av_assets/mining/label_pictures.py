"""What the catalog shows of labels: pictures of a few well-chosen frames, and charts.

Belongs here: which files are read and which frames are shown. Does not belong here: assets and their checks, drawing
(domain), counting.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from av_assets.domain.errors import EvidenceError
from av_assets.domain.evidence.manifest import Manifest
from av_assets.domain.labels.schema import CLASSES, LABELS_FILE, REPORT_FILE
from av_assets.policies.annotation import AnnotationPolicy
from av_assets.presentation import picture
from resources.lake import Lake

if TYPE_CHECKING:
    from av_assets.domain.privacy.frames import RedactedFrame

Rows = Sequence[Mapping[str, Any]]
Pictures = dict[str, dg.MarkdownMetadataValue]
Frame = tuple[str, int, str]
"""clip_id, ref_ns, camera."""

FRAMES_SHOWN = 4
COMPARED = 3
APART_NS = 10**9
"""Frames that are shown lie this far apart: neighbours look the same."""


def auto_label_pictures(lake: Lake, manifest: Manifest) -> Pictures:
    """Metadata of a bundle of auto_labels: its fullest and its least certain frames, and the cuboids from above."""
    from av_assets.domain.labels.quality.confusion import by_frame
    from av_assets.domain.labels.sheets import birds_eye_png, overlay_sheet

    labels = lake.rows_of(manifest, LABELS_FILE)
    frames = by_frame([row for row in labels if row["x1"] is not None])
    chosen = _worth_seeing(frames)
    pictures = _frames(lake, manifest, list(chosen))
    shown = [(why, pictures[f], frames[f]) for f, why in chosen.items() if f in pictures]
    title = f"automatic labels: {sum(map(len, frames.values()))} boxes in {len(frames)} frames with boxes"
    found = {"boxes": picture(overlay_sheet(shown, title=title))} if shown else {}
    cuboids = lake.rows_of(manifest, "cuboids.parquet")
    if cuboids:
        found["from_above"] = picture(birds_eye_png(cuboids, lake.rows_of(manifest, "tracks.parquet")))
    return found


def verified_label_pictures(lake: Lake, manifest: Manifest) -> Pictures:
    """Metadata of a bundle of verified_labels: what people changed, how far they agree, what it cost."""
    from av_assets.domain.labels.pictures import confusion_png
    from av_assets.domain.labels.quality.confusion import by_frame, confusion
    from av_assets.domain.labels.sheets import before_after_sheet

    auto = _made_from(lake, manifest, "auto_labels")
    after = by_frame(lake.rows_of(manifest, LABELS_FILE))
    finished = _finished(lake, manifest) or set(after)
    before = {f: rows for f, rows in by_frame(lake.rows_of(auto, LABELS_FILE)).items() if f in finished}
    chosen = _most_changed(before, after)
    pictures = _frames(lake, manifest, chosen)
    shown = [
        (_when(f, {*before, *after}), pictures[f], before.get(f, []), after.get(f, []))
        for f in chosen
        if f in pictures
    ]
    found = {"before_and_after": picture(before_after_sheet(shown))} if shown else {}
    if after or before:
        people, machine = ([row for rows in side.values() for row in rows] for side in (after, before))
        found["confusion"] = picture(confusion_png(confusion(people, machine, CLASSES), [*CLASSES, "none"]))
    return found | _people(lake, manifest)


def fleet_label_pictures(lake: Lake) -> Pictures:
    """Metadata of all drives together: frames that are open over the time spent, and agreement drive by drive."""
    from av_assets.domain.labels.pictures import agreement_png, burn_down_png

    held = lake.tables.read("label_frames")
    rows = held.to_pylist() if held is not None else []
    shares: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["agreement"] is not None:
            shares[row["clip_id"].partition("/")[0]].append(row["agreement"])
    means = {f"{drive} (n={len(v)} frames)": sum(v) / len(v) for drive, v in sorted(shares.items())}
    return {
        "burn_down": picture(burn_down_png(rows)),
        "agreement": picture(agreement_png(means, measure="objects that two people drew alike")),
    }


def _worth_seeing(frames: Mapping[Frame, Rows]) -> dict[Frame, str]:
    """The frames with most boxes, then those of the lowest scores, each with why it is shown."""
    fullest = sorted(frames, key=lambda f: (-len(frames[f]), f))
    unsure = sorted(frames, key=lambda f: (_mean_score(frames[f]), f))
    chosen: dict[Frame, str] = {}
    for order, share in ((fullest, FRAMES_SHOWN // 2), (unsure, FRAMES_SHOWN)):
        for frame in order:
            if len(chosen) < share and all(_apart(frame, other) for other in chosen):
                reason = f"{len(frames[frame])} boxes" if order is fullest else "lowest scores"
                chosen[frame] = f"{_when(frame, frames)}: {reason}, mean {_mean_score(frames[frame]):.2f}"
    return chosen


def _most_changed(before: Mapping[Frame, Rows], after: Mapping[Frame, Rows]) -> list[Frame]:
    from av_assets.domain.labels.quality.confusion import unmatched

    def changes(frame: Frame) -> int:
        rows = after.get(frame, [])
        touched = sum(row.get("status") in ("added", "corrected") for row in rows)
        return touched + len(unmatched(before.get(frame, []), rows))

    chosen: list[Frame] = []
    for frame in sorted({*before, *after}, key=lambda f: (-changes(f), f)):
        if len(chosen) < COMPARED and all(_apart(frame, other) for other in chosen):
            chosen.append(frame)
    return chosen


def _mean_score(rows: Rows) -> float:
    scores = [row["score"] for row in rows if row.get("score") is not None]
    return sum(scores) / len(scores) if scores else 1.0


def _apart(frame: Frame, other: Frame) -> bool:
    return frame[2] != other[2] or abs(frame[1] - other[1]) >= APART_NS


def _when(frame: Frame, frames: Iterable[Frame]) -> str:
    """Which frame this is: its clip, and the seconds since the first of `frames`."""
    seconds = (frame[1] - min(other[1] for other in frames)) / 1e9
    return f"clip {frame[0].rpartition('/')[2]}, {seconds:.1f} s"


def _frames(lake: Lake, manifest: Manifest, wanted: Sequence[Frame]) -> "dict[Frame, RedactedFrame]":
    """The redacted pictures of those frames, out of the shards that the bundle was made from; those that are there."""
    shards = _made_from(lake, manifest, "synced_shards")
    by_clip: dict[str, list[Frame]] = defaultdict(list)
    for frame in wanted:
        by_clip[f"clips/{frame[0].rpartition('/')[2]}.parquet"].append(frame)
    found: dict[Frame, RedactedFrame] = {}
    held = {entry.path for entry in shards.files} if shards else set()
    for path in sorted(held & set(by_clip)):
        found |= _pictures(lake, shards, path, by_clip[path])
    return found


def _pictures(lake: Lake, shards: Any, path: str, wanted: list[Frame]) -> "dict[Frame, RedactedFrame]":
    import pyarrow.parquet as pq

    from av_assets.domain.privacy.frames import frames_from_shard

    found: dict[Frame, RedactedFrame] = {}
    with lake.workdir() as folder:
        try:
            file = lake.checkout(shards, folder, path) / path
        except EvidenceError:  # erased since: the labels are shown without their frames
            return {}
        with pq.ParquetFile(file) as source:
            for camera in sorted({f[2] for f in wanted} & set(source.schema_arrow.names)):
                table = source.read(columns=["ref_ns", camera])
                rows = {ns: row for row, ns in enumerate(table["ref_ns"].to_pylist())}
                for frame in wanted:
                    if frame[2] == camera and frame[1] in rows:
                        [shown] = frames_from_shard(table.slice(rows[frame[1]], 1), camera)
                        found |= {frame: shown} if shown is not None else {}
    return found


def _finished(lake: Lake, manifest: Manifest) -> set[Frame]:
    """The frames that people are done with, also those in which there is nothing."""
    rows = lake.rows_of(manifest, "frames.parquet")
    return {(row["clip_id"], row["ref_ns"], row["camera"]) for row in rows if row["state"] == "final"}


def _people(lake: Lake, manifest: Manifest) -> Pictures:
    from av_assets.domain.labels.pictures import agreement_png, annotators_png, burn_down_png

    report, frames = lake.json_of(manifest, REPORT_FILE), lake.rows_of(manifest, "frames.parquet")
    if not frames:
        return {}
    policy = AnnotationPolicy.load()
    limits = {"accept": policy.alpha_accept, "tentative": policy.alpha_tentative}
    budget = report.get("budget", {}).get("minutes")
    return {
        "agreement": picture(agreement_png(_agreement(report, frames), **limits, measure="agreement")),
        "annotator_quality": picture(annotators_png(_annotators(report))),
        "burn_down": picture(burn_down_png(frames, budget)),
    }


def _agreement(report: Mapping[str, Any], frames: Rows) -> dict[str, float | None]:
    """Of the drive by several measures, and of each pair of people over the frames that both drew."""
    found = {"Krippendorff's alpha": report.get("alpha"), "Cohen's kappa": report.get("kappa")}
    found |= {f"objects alike, IoU >= {least}": share for least, share in report.get("overlap", {}).items()}
    pairs: dict[str, list[float]] = defaultdict(list)
    for frame in frames:
        people = sorted(str(frame["annotators"]).split("+")[:2])
        if frame["agreement"] is not None and len(people) == 2:
            pairs[" and ".join(people)].append(frame["agreement"])
    return found | {f"{names} (n={len(v)} frames)": sum(v) / len(v) for names, v in sorted(pairs.items())}


def _annotators(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> share of boxes right on known answers with its interval, skill without answers, seconds a frame."""
    from av_assets.domain.labels.quality.thresholds import interval

    found = {}
    for name, who in report.get("annotators", {}).items():
        gold = report.get("gold", {}).get(name, {})
        boxes = sum(gold.get(k, 0) for k in ("tp", "fp", "fn"))
        low, high = interval(gold.get("tp", 0), boxes) or (None, None)
        pieces = sum(who.get(role, 0) for role in ("annotate", "review", "adjudicate"))
        found[name] = {
            "quality": gold["tp"] / boxes if boxes else None,
            "low": low,
            "high": high,
            "n": boxes,
            "skill": who.get("skill"),
            "seconds": 60 * who["minutes"] / pieces if pieces else None,
        }
    return found


def _made_from(lake: Lake, manifest: Manifest, asset: str) -> Manifest | None:
    """The bundle of the same drive that this one was made from; the current one where the lineage does not name it."""
    bundle = f"{asset}/{manifest.partition}"
    digest = manifest.made_from.inputs.get(bundle)
    past = lake.past_manifest(bundle, digest) if digest else None
    return past or lake.manifest(asset, manifest.partition)
