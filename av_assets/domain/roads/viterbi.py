"""The hidden Markov model of map matching: emissions, transitions, the best path and how sure it is.

P. Newson and J. Krumm, "Hidden Markov Map Matching Through Noise and Sparseness", ACM SIGSPATIAL 2009: a position is
normally distributed around the road, and |route - great circle| between positions is exponentially distributed.
Belongs here: the model and its two recursions, in logarithms. Does not belong here: searching, thinning, results.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.roads.plane import Floats

if TYPE_CHECKING:
    from av_assets.domain.roads.candidates import Places
    from av_assets.domain.roads.graph import Ints
    from av_assets.domain.roads.routes import Router
    from av_assets.policies.roads import MatchingNumbers


@dataclass
class Chain:
    """Candidates of consecutive points and what lies between them; C_t candidates at step t.

    Attributes:
        emissions: per step (C_t,) log densities up to a constant.
        transitions: per step after the first (C_t-1, C_t) log densities up to a constant.
    """

    emissions: list[Floats] = field(default_factory=list)
    transitions: list[Floats] = field(default_factory=list)

    def best_path(self) -> list[int]:
        """Viterbi: the most likely candidate per step; of equally likely ones the first."""
        score, backs = self.emissions[0], []
        for transition, emission in zip(self.transitions, self.emissions[1:], strict=True):
            reach = score[:, None] + transition
            back = reach.argmax(axis=0)
            score = reach[back, np.arange(len(back))] + emission
            backs.append(back)
        path = [int(score.argmax())]
        for back in reversed(backs):
            path.append(int(back[path[-1]]))
        return path[::-1]

    def posteriors(self) -> list[Floats]:
        """Forward-backward: per step (C_t,) probabilities of the candidates given all positions of the chain."""
        ahead = [self.emissions[0]]
        for transition, emission in zip(self.transitions, self.emissions[1:], strict=True):
            ahead.append(_log_sum(ahead[-1][:, None] + transition, 0) + emission)
        behind = np.zeros_like(self.emissions[-1])
        found = []
        for step in range(len(self.emissions) - 1, -1, -1):
            joint = ahead[step] + behind
            found.append(np.exp(joint - _log_sum(joint, 0)))
            if step:
                behind = _log_sum(self.transitions[step - 1] + (self.emissions[step] + behind)[None, :], 1)
        return found[::-1]


def emission(distance_m: Floats, policy: MatchingNumbers) -> Floats:
    """log N(distance; 0, sigma) up to a constant."""
    return -0.5 * (distance_m / policy.sigma_m) ** 2


def longest_route_m(beeline_m: float, policy: MatchingNumbers) -> float:
    return policy.route_factor * beeline_m + policy.route_slack_m


def transition(
    router: Router, left: Places, right: Places, beeline_m: float, policy: MatchingNumbers
) -> Floats:
    """(L, R) log transition densities; -inf where no route of credible length leads on.

    Two departures from the paper, both because a segment here has a direction: noise may set a vehicle back along its
    segment, which counts as a negative route, and it may turn round on a two-way road at a price.
    """
    graph = router.graph
    rest = graph.length_m[left.segment] - left.offset_m
    limit = longest_route_m(beeline_m, policy)
    between = _between(router, graph.end[left.segment], graph.begin[right.segment], limit)
    route = rest[:, None] + between + right.offset_m[None, :]
    error = np.where(route <= limit, np.abs(route - beeline_m), np.inf)
    ahead = right.offset_m[None, :] - left.offset_m[:, None]
    same = (left.segment[:, None] == right.segment[None, :]) & (ahead >= -policy.backward_m)
    error = np.where(same & (ahead <= limit), np.minimum(error, np.abs(ahead - beeline_m)), error)
    turned = graph.reverse[left.segment][:, None] == right.segment[None, :]
    across = np.abs(graph.length_m[right.segment][None, :] - right.offset_m[None, :] - left.offset_m[:, None])
    turning = (
        np.minimum(error, np.where(across <= limit, np.abs(across - beeline_m), np.inf)) + policy.u_turn_m
    )
    return np.asarray(-np.where(turned, turning, error) / policy.beta_m)


def _between(router: Router, sources: Ints, targets: Ints, limit_m: float) -> Floats:
    unique, where = np.unique(sources, return_inverse=True)
    rows = [router.distances_m(int(source), targets, limit_m) for source in unique]
    return np.asarray(np.stack(rows)[where])


def _log_sum(values: Floats, axis: int) -> Floats:
    """log of a sum of exponentials that survives -inf everywhere."""
    top = values.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        summed = np.log(np.exp(values - top).sum(axis=axis))
    return np.asarray(summed + np.squeeze(top, axis=axis))
