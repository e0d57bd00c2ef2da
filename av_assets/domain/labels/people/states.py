"""The way of one frame from waiting to final, step by step, with who did what and why.

    queued -> in_review -> final           one person draws, another one agrees
                 |   `--> adjudication -> final      they do not: a third person decides
                 `--> rework -> in_review            the work does not count: somebody else draws
    final, adjudication -> rework                    so it is found later

Belongs here: what may follow what, and who may do it. Does not belong here: what boxes come out (consensus).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from av_assets.domain.errors import LabelError

QUEUED, IN_REVIEW, ADJUDICATION, FINAL, REWORK = STATES = (
    "queued", "in_review", "adjudication", "final", "rework",
)  # fmt: skip
ANNOTATE, REVIEW, ADJUDICATE = ROLES = ("annotate", "review", "adjudicate")
LEGAL: Final = frozenset(
    {
        (QUEUED, IN_REVIEW),
        (IN_REVIEW, IN_REVIEW),  # one more opinion
        (IN_REVIEW, ADJUDICATION),
        (IN_REVIEW, FINAL),
        (IN_REVIEW, REWORK),
        (ADJUDICATION, FINAL),
        (ADJUDICATION, REWORK),
        (FINAL, REWORK),
        (REWORK, IN_REVIEW),
    }
)


@dataclass(frozen=True)
class Step:
    """One row of the audit; `state_from` is empty at the first."""

    state_from: str
    state_to: str
    by: str
    role: str
    reason: str
    seconds: float | None = None


@dataclass
class TaskHistory:
    """The steps of one task; each method adds one, or raises and adds none.

    Attributes:
        authors, reviewers, adjudicators: who did what, whether it counts or not.
        discounted: people whose work on this task was set aside.
    """

    task_id: str
    steps: list[Step] = field(default_factory=list)
    authors: set[str] = field(default_factory=set)
    reviewers: set[str] = field(default_factory=set)
    adjudicators: set[str] = field(default_factory=set)
    discounted: set[str] = field(default_factory=set)

    @property
    def state(self) -> str:
        return self.steps[-1].state_to if self.steps else ""

    @property
    def counted(self) -> set[str]:
        """People whose work stands."""
        return (self.authors | self.reviewers | self.adjudicators) - self.discounted

    def queue(self, reason: str) -> None:
        if self.steps:
            raise self._illegal(QUEUED)
        self.steps.append(Step("", QUEUED, "planner", "plan", reason))

    def annotated(self, by: str, seconds: float | None, reason: str = "drew") -> None:
        """Somebody drew the frame, knowing nobody else's boxes."""
        if by in self.reviewers | self.adjudicators:
            raise self._self_review(by, ANNOTATE)
        self._move(IN_REVIEW, by, ANNOTATE, reason, seconds)
        self.authors.add(by)

    def reviewed(self, by: str, seconds: float | None, reason: str = "looked over it") -> None:
        """Somebody corrected another one's boxes."""
        if by in self.authors | self.adjudicators:
            raise self._self_review(by, REVIEW)
        if self.state != IN_REVIEW:
            raise self._illegal(IN_REVIEW)
        self._move(IN_REVIEW, by, REVIEW, reason, seconds)
        self.reviewers.add(by)

    def disputed(self, reason: str) -> None:
        self._move(ADJUDICATION, "consensus", "decide", reason, None)

    def adjudicated(self, by: str, seconds: float | None, reason: str) -> None:
        """A third person decided, and the frame is final."""
        if by in self.authors | self.reviewers:
            raise self._self_review(by, ADJUDICATE)
        if self.state != ADJUDICATION:
            raise self._illegal(FINAL)
        self._move(FINAL, by, ADJUDICATE, reason, seconds)
        self.adjudicators.add(by)

    def agreed(self, reason: str) -> None:
        """The frame is final.

        Raises:
            LabelError: one_person, where nobody but its author has seen it.
        """
        if self.state != IN_REVIEW:
            raise self._illegal(FINAL)
        if len(self.counted) < 2:
            raise LabelError(
                f"{self.task_id}: no label is final without a second person",
                code="one_person",
                remedy="let somebody else annotate or review the frame",
            )
        self._move(FINAL, "consensus", "decide", reason, None)

    def sent_back(self, reason: str, discounted: frozenset[str] = frozenset()) -> None:
        """The frame waits for somebody else; the work of `discounted` does not count."""
        self._move(REWORK, "consensus", "decide", reason, None)
        self.discounted |= discounted

    def rows(self) -> list[dict[str, Any]]:
        """The audit, in order."""
        return [{"task_id": self.task_id, "step": n, **vars(step)} for n, step in enumerate(self.steps)]

    def _move(self, to: str, by: str, role: str, reason: str, seconds: float | None) -> None:
        if (self.state, to) not in LEGAL:
            raise self._illegal(to)
        self.steps.append(Step(self.state, to, by, role, reason, seconds))

    def _illegal(self, to: str) -> LabelError:
        return LabelError(
            f"{self.task_id}: {to} cannot follow {self.state or 'nothing'}", code="illegal_transition"
        )

    def _self_review(self, by: str, role: str) -> LabelError:
        return LabelError(
            f"{self.task_id}: {by} cannot {role} a frame that they have worked on already",
            code="self_review",
            remedy="let somebody else do it",
        )
