"""The dataset that a release is taught and judged with: the very version that its name holds.

A week may be frozen again, by people or after an erasure. Whatever the week holds now, `w20250602-1a2b3c4d` is the
release of the version that begins with 1a2b3c4d; where that one cannot be had, nothing stands in for it.
Belongs here: finding that version. Does not belong here: names of releases (partitions/releases), names and versions of
datasets (resources/datasets), what is made of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from av_assets.domain.errors import DatasetError, EvidenceError
from partitions.releases import release_dataset, release_id
from resources import tombstones
from resources.datasets import GOLDEN, erased, resolve

if TYPE_CHECKING:
    from av_assets.domain.evidence.manifest import Manifest
    from resources.lake import Lake

ASSET: Final = "golden_slices"


def dataset_of(lake: Lake, release: str, made: Manifest | None = None) -> Manifest:
    """The dataset of a release, whole and not erased.

    Args:
        made: a bundle of the release: then the dataset that it was made from, by the digest that it noted; what of
            it is not in the lake any more is found out by whoever reads it.

    Raises:
        DatasetError: bad_release; unknown_dataset, no such version was frozen for the release's week; erased_version,
            it was erased, or a drive that it holds; ambiguous_version.
        EvidenceError: missing_object, files of it are gone; broken_evidence; missing_input, what `made` noted is gone.
    """
    try:
        found = _named(lake, release) if made is None else _noted(lake, made)
        _refuse_erased(lake, found)
        if made is None:
            _refuse_gone(lake, found)
    except (DatasetError, EvidenceError) as error:
        raise _explained(lake, release, error) from error
    return found


def is_named_after(release: str, dataset: Manifest) -> bool:
    return release_id(dataset.partition, dataset.content) == release


def _named(lake: Lake, release: str) -> Manifest:
    week, content = _parts(release)
    found = resolve(lake, f"{GOLDEN}@{content}").manifest
    if not is_named_after(release, found):
        raise DatasetError(f"that is a version of {found.partition}, not of {week}", code="unknown_dataset")
    return found


def _noted(lake: Lake, made: Manifest) -> Manifest:
    for bundle, digest in made.made_from.inputs.items():
        if bundle.startswith(f"{ASSET}/"):
            if (found := lake.past_manifest(bundle, digest)) is not None:
                return found
            raise EvidenceError(f"{bundle} with digest {digest[:12]} is gone", code="missing_input")
    raise EvidenceError(f"{made.asset} was made from no dataset", code="missing_input")


def _refuse_erased(lake: Lake, found: Manifest) -> None:
    """As soon as a drive has its tombstone: the tombstone of the version follows when the erasure is carried out."""
    held = {bundle.rpartition("/")[2] for bundle in found.made_from.inputs}
    if erased(lake, GOLDEN, found.content) is not None or not held.isdisjoint(tombstones.listing(lake)):
        raise DatasetError("it, or a drive that it holds, was erased", code="erased_version")


def _refuse_gone(lake: Lake, found: Manifest) -> None:
    gone = [entry.path for entry in found.files if not lake.holds(entry)]
    if gone:
        raise EvidenceError(
            f"{len(gone)} of its {len(found.files)} files are gone", code="missing_object", file=gone[0]
        )


def _explained(lake: Lake, release: str, error: DatasetError | EvidenceError) -> DatasetError | EvidenceError:
    """The same error, which says of which release, which dataset, and what can be done."""
    try:
        week, content = release_dataset(release)
    except ValueError:
        return error
    now = lake.manifest(ASSET, week)
    if now is None or is_named_after(release, now):
        remedy = f"freeze it again, if it can be: av datasets freeze --week {week}"
    else:
        remedy = f"use {release_id(week, now.content)}, the release of what the week holds now"
    if isinstance(error, EvidenceError):
        remedy = f"restore it from a replica, or {remedy}"
    return type(error)(
        f"{release} needs the dataset {GOLDEN}@{content}: {error.reason}",
        code=error.code,
        file=error.file,
        remedy=remedy,
    )


def _parts(release: str) -> tuple[str, str]:
    try:
        return release_dataset(release)
    except ValueError as error:
        raise DatasetError(str(error), code="bad_release", remedy="name it as the catalog does") from error
