"""What a redacted bundle claims of itself before anybody may read it.

Belongs here: from the report and the second look to claims. Does not belong here: making either.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from av_assets.domain.evidence.claims import Claim
from av_assets.domain.privacy.report import REPORT_FILE
from av_assets.domain.privacy.second_look import AUDIT_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.policies.audit import AuditPolicy


def release_claims(folder: Path, policy: AuditPolicy) -> list[Claim]:
    """The claims of a finished bundle; none for a drive without a camera, which has no report."""
    if not (folder / REPORT_FILE).is_file():
        return []
    report = json.loads((folder / REPORT_FILE).read_bytes())
    claims = []
    for role, counts in sorted(report["streams"].items()):
        blocked = counts["dropped"]
        lost = counts["frames_in"] - counts["released"] - sum(blocked.values())
        failed = blocked.get("detector_failed", 0)
        claims += [
            Claim(
                "frames_are_accounted_for",
                not lost,
                f"{lost} frames are neither released nor blocked",
                role,
                lost,
                0,
            ),
            Claim(
                "detectors_answer",
                not failed,
                f"{failed} frames were not looked at: blocked",
                role,
                failed,
                0,
            ),
        ]
    audit = json.loads((folder / AUDIT_FILE).read_bytes())
    share, limit = audit["flagged_frames"] / max(1, audit["sampled"]), policy.max_flagged_share
    reason = (
        f"{audit['flagged_frames']} of {audit['sampled']} sampled frames show something to a second detector"
    )
    remedy = "look at the frames that audit.json names"
    return [*claims, Claim("second_look_is_clear", share <= limit, reason, "", share, limit, remedy)]
