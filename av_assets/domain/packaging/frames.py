"""Labelled frames of a golden dataset as inputs of the network: an even choice over slices, read once.

Belongs here: which frames, and their inputs. Does not belong here: what they are used for (`int8`, `gate`, `parity`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import DatasetError
from av_assets.domain.models.golden import (
    Cuboids,
    GoldenSpec,
    Labels,
    Split,
    labelled_frames,
    read_scenes,
)
from av_assets.domain.models.inputs import CameraView
from av_assets.domain.models.runtime import OnnxPerception

Key = tuple[str, str, int]  # drive, clip_id, ref_ns


@dataclass(frozen=True)
class Frame:
    """One labelled frame: inputs without the batch axis, and the (height, width) of the camera's picture.

    `cuboids` is None where the dataset has no 3D truth of it, `view` where its camera is not calibrated.
    """

    key: Key
    inputs: Mapping[str, NDArray[Any]]
    shape: tuple[int, int]
    labels: Labels
    cuboids: Cuboids | None = None
    view: CameraView | None = None


def strata(root: Path, spec: GoldenSpec, splits: Sequence[Split]) -> dict[str, list[Key]]:
    """Frames by the tags of their drive, e.g. "light=night,weather=rain": the cells that slices are cut from.

    Raises:
        DatasetError: empty_split, there is no labelled frame.
    """
    found: dict[str, list[Key]] = {}
    for member in sorted(spec.members, key=lambda m: m.drive):
        if member.split in splits:
            name = ",".join(f"{tag}={value}" for tag, value in sorted(member.tags.items())) or "untagged"
            keys = sorted(labelled_frames(root, member.drive, spec))
            found.setdefault(name, []).extend((member.drive, *key) for key in keys)
    if not any(found.values()):
        raise DatasetError(f"no labelled frame in {', '.join(splits)}", code="empty_split", file=root)
    return found


def choose(groups: Mapping[str, Sequence[Key]], count: int, seed: int) -> dict[str, list[Key]]:
    """`count` frames, as many from each group as from any other while it lasts; drawn by seed, in order of time."""
    rng = np.random.default_rng(seed)
    shares = even_shares({name: len(keys) for name, keys in groups.items()}, count)
    chosen = {}
    for name in sorted(groups):
        picked = rng.permutation(len(groups[name]))[: shares[name]]
        chosen[name] = [groups[name][i] for i in sorted(picked.tolist())]
    return chosen


def even_shares(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """How many to take of each: equal numbers, except where a group has fewer; the rest goes to the others."""
    left, shares = min(count, sum(sizes.values())), {}
    # From the smallest on: what it cannot give, the others share.
    for number, name in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):
        shares[name] = min(sizes[name], left // (len(sizes) - number))
        left -= shares[name]
    return shares


def read_frames(
    root: Path, spec: GoldenSpec, keys: Sequence[Key], runtime: OnnxPerception
) -> Iterator[Frame]:
    """The frames with these keys, drive by drive; one whose picture is missing is left out, as in training."""
    wanted = set(keys)
    for drive in sorted({key[0] for key in keys}):
        for scene in read_scenes(root, drive, spec):
            key = (drive, scene.labels.clip_id, scene.labels.ref_ns)
            if key in wanted:
                pixels = scene.frame.pixels()
                inputs = runtime.inputs_of(pixels, scene.points_ego, scene.view, scene.tracks)
                shape = (pixels.shape[0], pixels.shape[1])
                yield Frame(key, inputs, shape, scene.labels, scene.cuboids, scene.view)


def frames_digest(frames: Sequence[Frame]) -> str:
    """sha256 over keys and inputs, in order: the very bytes that the network saw."""
    found = sha256()
    for frame in frames:
        found.update(repr(frame.key).encode())
        for name in sorted(frame.inputs):
            found.update(np.ascontiguousarray(frame.inputs[name]).tobytes())
    return found.hexdigest()
