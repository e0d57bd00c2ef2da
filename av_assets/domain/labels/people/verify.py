"""Verified labels of one drive: its submissions are decided, and final frames are written with their evidence.

Belongs here: the pass over a drive and its bundle. Does not belong here: deciding (decisions), where submissions
come from (handing_in).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq

from av_assets.domain.evidence.digests import sha256_json
from av_assets.domain.labels.people.agreement import Agreement, agreement, krippendorff_alpha, shared
from av_assets.domain.labels.people.decisions import Decisions, FrameDecision, decide
from av_assets.domain.labels.people.handing_in import REJECTED_FILE, read_gold
from av_assets.domain.labels.people.label_files import (
    AUDIT,
    FRAMES,
    VERIFIED_CUBOIDS,
    VERIFIED_LABELS,
    write_json,
    write_rows,
)
from av_assets.domain.labels.people.label_qa import opinions_on_things, people_report, skills
from av_assets.domain.labels.people.states import ANNOTATE, FINAL, STATES
from av_assets.domain.labels.people.submission_rules import WHOLE
from av_assets.domain.labels.people.submissions import Submission, read_submissions
from av_assets.domain.labels.people.tasks import LabelTask, read_tasks
from av_assets.domain.labels.people.truth import AutoFrames
from av_assets.domain.labels.people.verified_cuboids import read_auto_cuboids, verified_cuboids
from av_assets.domain.labels.people.verified_rows import verified_rows
from av_assets.domain.labels.quality.scores import label_quality
from av_assets.domain.labels.schema import (
    CLASSES,
    CUBOIDS_FILE,
    DRIVABLE,
    DRIVABLE_FILE,
    LABELS_FILE,
    REPORT_FILE,
)

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.policies.annotation import AnnotationPolicy

RULES_VERSION: Final = "human-review/2"
AUDIT_FILE, FRAMES_FILE = "audit.parquet", "frames.parquet"
OVERLAPS: Final = (0.5, 0.7)


def labeller_digest(auto_digest: str, policy: AnnotationPolicy) -> str:
    """Names who verified: rules, numbers, and the labeller that they started from."""
    return sha256_json({"rules": RULES_VERSION, "policy": policy.digest, "auto": auto_digest})


def verify_drive(
    auto_dir: Path,
    task_dir: Path,
    submission_dir: Path,
    policy: AnnotationPolicy,
    out_dir: Path,
    watch: Stopwatch | None = None,
) -> dict[str, Any]:
    """Decide the submissions of a drive; writes labels, cuboids, drivable area, audit, frames and report into
    `out_dir`.

    Returns the report: counts and status of labels, how many have a cuboid and why others have none, states of
    frames, agreement, people, budget, and precision and recall of the auto-labels against the final ones. Its
    `reason` says why no frame is final, else it is empty.

    Raises:
        LabelError: bad_auto_labels, bad_submissions; codes of `decide`.
    """
    with watch("read") if watch else nullcontext():
        auto, tasks = AutoFrames.read(auto_dir), read_tasks(task_dir)
        submissions, gold = read_submissions(submission_dir), read_gold(submission_dir)
        rejected = pq.read_table(submission_dir / REJECTED_FILE, columns=["row", "constraint"]).to_pylist()
        measured = read_auto_cuboids(auto_dir)
        masks = pq.read_table(submission_dir / DRIVABLE_FILE, schema=DRIVABLE)
    with watch("compute") if watch else nullcontext():
        decisions = decide(tasks, submissions, gold, policy)
        done = sorted(
            (t for t in tasks if decisions.frames[t.task_id].state == FINAL),
            key=lambda t: (t.ref_ns, t.task_id),
        )
        final = [decisions.frames[t.task_id] for t in done]
        digest = labeller_digest(auto.labeller_digest, policy)
        rows, met, removed = verified_rows(done, final, auto, policy, digest)
        cuboids, account = verified_cuboids(rows, met, measured, policy.facing_speed_mps)
        report = {
            "rules": RULES_VERSION,
            "labeller_digest": digest,
            "reason": "" if done else _why_nothing(tasks, auto),
            "removed": removed,
            **_labels(rows, done),
            "cuboids": account,
            **_work(tasks, decisions, submissions, policy),
            **_against_machine(done, final, auto, policy),
            "rejected": dict(sorted(Counter(r["constraint"] for r in rejected if r["row"] == WHOLE).items())),
        }
    with watch("write") if watch else nullcontext():
        rows.sort(key=lambda r: (r["ref_ns"], r["camera"], r["label_id"], r["x1"]))
        write_rows(out_dir / LABELS_FILE, rows, VERIFIED_LABELS)
        write_rows(out_dir / CUBOIDS_FILE, cuboids, VERIFIED_CUBOIDS)
        stamps = {task.ref_ns for task in done}
        drawn = sorted(
            (m for m in masks.to_pylist() if m["ref_ns"] in stamps), key=lambda m: (m["ref_ns"], m["camera"])
        )
        write_rows(out_dir / DRIVABLE_FILE, drawn, DRIVABLE)
        report["drivable"] = len(drawn)
        audit = [row for task in tasks for row in decisions.frames[task.task_id].history.rows()]
        write_rows(out_dir / AUDIT_FILE, audit, AUDIT)
        write_rows(out_dir / FRAMES_FILE, frame_rows(tasks, decisions, policy), FRAMES)
        write_json(out_dir / REPORT_FILE, report)
    return report


def frame_rows(
    tasks: Sequence[LabelTask], decisions: Decisions, policy: AnnotationPolicy
) -> list[dict[str, Any]]:
    """Where every frame stands, in time order."""
    rows = []
    for task in sorted(tasks, key=lambda t: (t.ref_ns, t.task_id)):
        frame = decisions.frames[task.task_id]
        rows.append(
            {
                "task_id": task.task_id,
                "clip_id": task.clip_id,
                "ref_ns": task.ref_ns,
                "camera": task.camera,
                "state": frame.state,
                "stratum": task.stratum,
                "annotators": "+".join(frame.people),
                "agreement": shared(frame.pairs, policy.match_iou),
                "seconds": round(frame.seconds, 3),
                "gold": task.gold,
            }
        )
    return rows


def _why_nothing(tasks: Sequence[LabelTask], auto: AutoFrames) -> str:
    return "no frame is final yet" if tasks else auto.reason or "no frame was to be labelled"


def _labels(rows: Sequence[Mapping[str, Any]], done: Sequence[LabelTask]) -> dict[str, Any]:
    status, count = Counter(r["status"] for r in rows), Counter(r["cls"] for r in rows)
    return {
        "frames": len(done),
        "labels": len(rows),
        "objects": {c: count[c] for c in CLASSES},
        **{name: status[name] for name in ("accepted", "corrected", "added")},
    }


def _work(
    tasks: Sequence[LabelTask],
    decisions: Decisions,
    submissions: Sequence[Submission],
    policy: AnnotationPolicy,
) -> dict[str, Any]:
    """What people did and how far they agree."""
    frames = decisions.frames
    pairs = [pair for task in tasks for pair in frames[task.task_id].pairs]
    things = opinions_on_things(submissions, policy.match_iou)
    alpha = krippendorff_alpha(things)
    minutes = sum(s.seconds or 0.0 for s in submissions) / 60
    drawn = Counter(s.task_id for s in submissions if s.role == ANNOTATE)
    states = Counter(frame.state for frame in frames.values())
    final = states[FINAL]
    beyond = [t.task_id for t in tasks if t.annotations_wanted == 0]
    return {
        **_agreed(agreement(pairs), policy),
        "alpha": alpha,
        "alpha_verdict": alpha_verdict(alpha, policy),
        "overlap": {f"{least}": shared(pairs, least) for least in OVERLAPS},
        "states": {state: states[state] for state in STATES},
        "frames_twice": sum(n > 1 for n in drawn.values()),
        "adjudicated": sum(f.disputed for f in frames.values() if f.state == FINAL),
        "minutes": round(minutes, 3),
        "mean_minutes": round(minutes / final, 4) if final else None,
        "annotators": people_report(submissions, decisions.gold, skills(things)),
        "gold": {name: {"frames": g.frames, **g.scores} for name, g in decisions.gold.items()},
        "lot": vars(decisions.lot) if decisions.lot else None,
        "budget": {
            "minutes": policy.budget_minutes,
            "spent_minutes": round(minutes, 3),
            "frames": len(tasks),
            "done": final,
            "beyond_budget": len(beyond),
        },
    }


def _agreed(twice: Agreement, policy: AnnotationPolicy) -> dict[str, Any]:
    return {
        "agreement": twice.share if twice.objects else None,
        "kappa": twice.kappa,
        "kappa_ok": None if twice.kappa is None else twice.kappa >= policy.min_kappa,
        "mean_iou": twice.mean_iou,
    }


def alpha_verdict(alpha: float | None, policy: AnnotationPolicy) -> str:
    """accepted, tentative, refused; or undefined, where people had nothing to agree on."""
    if alpha is None:
        return "undefined"
    if alpha >= policy.alpha_accept:
        return "accepted"
    return "tentative" if alpha >= policy.alpha_tentative else "refused"


def _against_machine(
    done: Sequence[LabelTask], final: Sequence[FrameDecision], auto: AutoFrames, policy: AnnotationPolicy
) -> dict[str, Any]:
    """Precision and recall of the auto-labels on final frames."""
    quality = label_quality([auto.boxes(t) for t in done], [f.boxes for f in final], policy.match_iou)
    return {
        "precision": quality["all"]["precision"],
        "recall": quality["all"]["recall"],
        "by_class": quality,
    }
