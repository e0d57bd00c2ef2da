"""Topics that were renamed: which one a declared stream may be now, for a person to confirm.

A proposal changes nothing. Confirmed, it is written to `aliases` of the stream in drive.yaml, or for the whole fleet to
the policy `topics`, and `apply_aliases` finds the stream under its new name from then on.
Belongs here: proposing and applying aliases. Does not belong here: roles of undeclared topics (`contract`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from av_assets.domain.logs.drive_spec import DriveSpec, StreamSpec
    from av_assets.policies.topics import TopicPolicy

SIGNAL = "signal"


@dataclass(frozen=True)
class TopicFacts:
    """What is known of a recorded topic: `kind` as `contract.stream_kind` gives it, measured rate, frame."""

    msgtype: str
    kind: str | None
    rate_hz: float | None = None
    frame_id: str = ""


@dataclass(frozen=True)
class AliasProposal:
    """The topic that a declared stream may have become, or why none is proposed.

    Attributes:
        proposed: the topic; empty where none or several fit.
        candidates: all that fit.
        evidence: what agrees between contract and topic, by name.
        reason: one sentence for people.
    """

    role: str
    declared: str
    proposed: str
    candidates: tuple[str, ...]
    evidence: dict[str, str]
    reason: str

    @property
    def fix(self) -> str:
        """What to do, empty without a proposal."""
        if not self.proposed:
            return ""
        return f"if {self.proposed} is this stream, add it to streams.{self.role}.aliases in drive.yaml"

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "candidates": list(self.candidates), "fix": self.fix}


def propose_aliases(
    streams: Mapping[str, StreamSpec], topics: Mapping[str, TopicFacts], rate_tolerance: float
) -> list[AliasProposal]:
    """For every declared stream that is not recorded: the only unclaimed topic of its kind, rate and frame.

    A rate or a frame that the contract does not name cannot contradict. Two streams never get the same topic:
    where one topic fits two, neither gets it.

    Args:
        streams: declared ones by role, aliases already applied.
        topics: recorded ones with at least one message.
        rate_tolerance: relative deviation of the measured rate from the contract's.
    """
    claimed = {stream.topic for stream in streams.values()}
    free = {topic: facts for topic, facts in sorted(topics.items()) if topic not in claimed}
    absent = {role: stream for role, stream in sorted(streams.items()) if stream.topic not in topics}
    fitting = {role: _fitting(stream, free, rate_tolerance) for role, stream in absent.items()}
    return [_proposal(role, stream, fitting) for role, stream in absent.items()]


def _fitting(
    stream: StreamSpec, free: Mapping[str, TopicFacts], tolerance: float
) -> dict[str, dict[str, str]]:
    """Topics that agree with the contract, and in what."""
    found: dict[str, dict[str, str]] = {}
    for topic, facts in free.items():
        evidence = _agreement(stream, facts, tolerance)
        if evidence is not None:
            found[topic] = evidence
    return found


def _agreement(stream: StreamSpec, facts: TopicFacts, tolerance: float) -> dict[str, str] | None:
    if facts.kind != stream.kind:
        return None
    evidence = {"kind": stream.kind, "type": facts.msgtype}
    if stream.rate_hz:
        if facts.rate_hz is None or abs(facts.rate_hz / stream.rate_hz - 1) > tolerance:
            return None
        evidence["rate"] = f"{facts.rate_hz:.2f} Hz, declared {stream.rate_hz:g} Hz"
    if stream.frame and facts.frame_id:
        if facts.frame_id.lstrip("/") != stream.frame.lstrip("/"):
            return None
        evidence["frame"] = facts.frame_id
    # Every custom type is a signal: the kind alone says nothing.
    return None if stream.kind in (SIGNAL, "other") and len(evidence) < 4 else evidence


def _proposal(
    role: str, stream: StreamSpec, fitting: Mapping[str, Mapping[str, dict[str, str]]]
) -> AliasProposal:
    mine = fitting[role]
    if not mine:
        reason = "no unclaimed topic has this kind, rate and frame"
        return AliasProposal(role, stream.topic, "", (), {}, reason)
    if len(mine) > 1:
        reason = f"{len(mine)} topics fit: a person has to choose"
        return AliasProposal(role, stream.topic, "", tuple(mine), {}, reason)
    (topic,) = mine
    rivals = [other for other, topics in fitting.items() if other != role and topic in topics]
    if rivals:
        reason = f"{topic} fits {', '.join(rivals)} as well: a person has to choose"
        return AliasProposal(role, stream.topic, "", (topic,), mine[topic], reason)
    reason = f"{topic} is the only unclaimed topic that fits"
    return AliasProposal(role, stream.topic, topic, (topic,), mine[topic], reason)


def apply_aliases(streams: Mapping[str, StreamSpec], topics: Collection[str]) -> dict[str, StreamSpec]:
    """The declared streams, each under its first confirmed alias that is recorded where its topic is not."""
    taken = {stream.topic for stream in streams.values() if stream.topic in topics}
    applied: dict[str, StreamSpec] = {}
    for role, stream in streams.items():
        new = next((alias for alias in stream.aliases if alias in topics and alias not in taken), None)
        if stream.topic in topics or new is None:
            applied[role] = stream
        else:
            taken.add(new)
            applied[role] = stream.model_copy(update={"topic": new})
    return applied


def with_confirmed(spec: DriveSpec, policy: TopicPolicy) -> DriveSpec:
    """The spec with the aliases that hold for the whole fleet behind those of the drive itself."""
    streams = {
        role: stream.model_copy(
            update={"aliases": tuple(dict.fromkeys((*stream.aliases, *policy.aliases.get(stream.topic, ()))))}
        )
        for role, stream in spec.streams.items()
    }
    return spec.model_copy(update={"streams": streams})
