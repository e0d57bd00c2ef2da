"""The way of a frame: a model that knows the rules in another form drives it through everything that can be tried."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.people.states import FINAL, LEGAL, STATES, TaskHistory

PEOPLE = st.sampled_from(["anna", "ben", "carla", "dora"])


class Frame(RuleBasedStateMachine):
    """Tries any step by anybody at any time; `did` is the model: who did what, and whose work counts."""

    def __init__(self) -> None:
        super().__init__()
        self.history = TaskHistory("t")
        self.history.queue("made for a test")
        self.did: list[tuple[str, str]] = []
        self.void: set[str] = set()

    def attempt(self, allowed: bool, codes: set[str], step, *args) -> bool:
        before = list(self.history.steps)
        if allowed:
            step(*args)
            assert len(self.history.steps) == len(before) + 1
            return True
        with pytest.raises(LabelError) as caught:
            step(*args)
        assert caught.value.code in codes
        assert self.history.steps == before
        return False

    def roles(self, who: str) -> set[str]:
        return {role for name, role in self.did if name == who}

    @rule(who=PEOPLE)
    def annotate(self, who: str) -> None:
        own = self.roles(who) & {"review", "adjudicate"}
        allowed = not own and self.history.state in ("queued", "in_review", "rework")
        if self.attempt(allowed, {"self_review", "illegal_transition"}, self.history.annotated, who, 1.0):
            self.did.append((who, "annotate"))

    @rule(who=PEOPLE)
    def review(self, who: str) -> None:
        own = self.roles(who) & {"annotate", "adjudicate"}
        allowed = not own and self.history.state == "in_review"
        if self.attempt(allowed, {"self_review", "illegal_transition"}, self.history.reviewed, who, 1.0):
            self.did.append((who, "review"))

    @rule(who=PEOPLE)
    def adjudicate(self, who: str) -> None:
        own = self.roles(who) & {"annotate", "review"}
        allowed = not own and self.history.state == "adjudication"
        step = self.history.adjudicated
        if self.attempt(allowed, {"self_review", "illegal_transition"}, step, who, 1.0, "decided"):
            self.did.append((who, "adjudicate"))

    @rule()
    def agree(self) -> None:
        counted = {name for name, _ in self.did} - self.void
        allowed = self.history.state == "in_review" and len(counted) >= 2
        self.attempt(allowed, {"illegal_transition", "one_person"}, self.history.agreed, "they agree")

    @rule()
    def dispute(self) -> None:
        allowed = self.history.state == "in_review"
        self.attempt(allowed, {"illegal_transition"}, self.history.disputed, "they do not")

    @rule(who=PEOPLE)
    @precondition(lambda self: self.did)
    def send_back(self, who: str) -> None:
        allowed = self.history.state in ("in_review", "adjudication", "final")
        if self.attempt(allowed, {"illegal_transition"}, self.history.sent_back, "void", frozenset({who})):
            self.void.add(who)

    @invariant()
    def audit_is_a_chain_of_legal_steps(self) -> None:
        rows = self.history.rows()
        assert [row["step"] for row in rows] == list(range(len(rows)))
        assert (rows[0]["state_from"], rows[0]["state_to"]) == ("", "queued")
        for before, after in pairwise(rows):
            assert before["state_to"] == after["state_from"]
            assert (after["state_from"], after["state_to"]) in LEGAL
        assert {row["state_to"] for row in rows} <= set(STATES)

    @invariant()
    def nobody_has_two_roles_that_judge_each_other(self) -> None:
        for name in {name for name, _ in self.did}:
            assert len(self.roles(name)) == 1

    @invariant()
    def a_final_frame_had_two_people(self) -> None:
        if self.history.state == FINAL:
            assert len({name for name, _ in self.did}) >= 2


Frame.TestCase.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
TestFrame = Frame.TestCase


@pytest.mark.parametrize("step", ["agreed", "disputed", "sent_back"])
def test_a_frame_that_nobody_saw_goes_nowhere(step: str) -> None:
    history = TaskHistory("t")
    history.queue("waits")
    with pytest.raises(LabelError) as caught:
        getattr(history, step)("because")
    assert caught.value.code == "illegal_transition"


def test_one_person_alone_makes_nothing_final() -> None:
    history = TaskHistory("t")
    history.queue("waits")
    history.annotated("anna", 5.0)
    with pytest.raises(LabelError) as caught:
        history.agreed("she is sure")
    assert caught.value.code == "one_person"
    with pytest.raises(LabelError) as caught:
        history.reviewed("anna", 5.0)
    assert caught.value.code == "self_review"
