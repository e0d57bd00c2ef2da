"""The register of datasets: versions and tags are written once, and every reference is found or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from av_assets.domain.errors import DatasetError
from resources import datasets

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.domain.evidence.manifest import Manifest
    from resources.lake import Lake

WEEK, NEXT = "2025-06-02", "2025-06-09"


def publish(lake: Lake, tmp_path: Path, week: str, text: str) -> Manifest:
    folder = tmp_path / f"{week}-{text}"
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(text)
    manifest = lake.publish("golden_slices", week, folder)
    datasets.record(lake, "golden", manifest)
    return manifest


def code_of(call: object, *args: object) -> str:
    with pytest.raises(DatasetError) as caught:
        call(*args)  # type: ignore[operator]
    assert caught.value.reason
    return caught.value.code


def test_every_kind_of_reference_finds_its_version(lake: Lake, tmp_path: Path) -> None:
    first = publish(lake, tmp_path, WEEK, "one")
    second = publish(lake, tmp_path, WEEK, "two")
    third = publish(lake, tmp_path, NEXT, "three")
    datasets.tag(lake, "golden", "1.0.0", first.content[:10], "ada")
    datasets.record(lake, "golden", first)
    for reference, manifest in {
        "golden": third, f"golden@{WEEK}": second, f"golden@{NEXT}": third, "golden@1.0.0": first,
        f"golden@{second.content[:8]}": second, f"golden@{first.content}": first,
    }.items():  # fmt: skip
        found = datasets.resolve(lake, reference)
        assert (found.version, found.manifest.digest) == (manifest.content, manifest.digest), reference
    assert [v.version for v in datasets.versions(lake, "golden")] == [
        m.content for m in (first, second, third)
    ]
    assert datasets.resolve(lake, "golden@1.0.0").tags == ("1.0.0",)
    assert datasets.names(lake) == ["golden"]


def test_a_week_that_went_back_stands_for_what_it_is_now(folder_lake: Lake, tmp_path: Path) -> None:
    first = publish(folder_lake, tmp_path, WEEK, "one")
    publish(folder_lake, tmp_path, WEEK, "two")
    publish(folder_lake, tmp_path, WEEK, "one")
    assert datasets.resolve(folder_lake, "golden").version == first.content


def test_tags_stay_what_they_are(lake: Lake, tmp_path: Path) -> None:
    first, second = publish(lake, tmp_path, WEEK, "one"), publish(lake, tmp_path, WEEK, "two")
    datasets.tag(lake, "golden", "1.0.0", first.content, "ada")
    datasets.tag(lake, "golden", "1.0.0", first.content, "bob")
    with pytest.raises(DatasetError) as caught:
        datasets.tag(lake, "golden", "1.0.0", second.content, "bob")
    assert caught.value.code == "tag_taken"
    assert first.content[:12] in caught.value.reason
    assert "ada" in caught.value.reason
    assert datasets.resolve(lake, "golden@1.0.0").version == first.content


def test_a_record_of_another_bundle_is_not_overwritten(folder_lake: Lake, tmp_path: Path) -> None:
    manifest = publish(folder_lake, tmp_path, WEEK, "one")
    key = f"datasets/golden/versions/{manifest.content}.json"
    held = folder_lake.store.get(key)
    assert held is not None
    folder_lake.store.put(key, held.replace(WEEK.encode(), NEXT.encode()))
    assert code_of(datasets.record, folder_lake, "golden", manifest) == "version_taken"


def test_an_erased_version_is_neither_read_nor_named(folder_lake: Lake, tmp_path: Path) -> None:
    first, second = (
        publish(folder_lake, tmp_path, WEEK, "one"),
        publish(folder_lake, tmp_path, WEEK, "two"),
    )
    datasets.tag(folder_lake, "golden", "1.0.0", first.content, "ada")
    folder_lake.store.put(f"datasets/golden/erased/{first.content}.json", b'{"reason": "asked to forget"}')
    for reference in ("golden@1.0.0", f"golden@{first.content[:12]}"):
        assert code_of(datasets.resolve, folder_lake, reference) == "erased_version"
    assert code_of(datasets.record, folder_lake, "golden", first) == "erased_version"
    assert code_of(datasets.tag, folder_lake, "golden", "2.0.0", first.content, "ada") == "erased_version"
    assert [v.version for v in datasets.versions(folder_lake, "golden")] == [second.content]


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("golden@9.9.9", "unknown_dataset"), ("golden@2020-01-06", "unknown_dataset"),
        ("golden@ffffffff", "unknown_dataset"), ("silver", "unknown_dataset"), ("golden@", "bad_reference"),
        ("golden@../../etc", "bad_reference"), ("golden@abc", "bad_reference"), ("Golden", "bad_dataset_name"),
        ("../x@1.0.0", "bad_dataset_name"),
    ],
)  # fmt: skip
def test_what_names_nothing_is_refused(folder_lake: Lake, reference: str, code: str) -> None:
    assert code_of(datasets.resolve, folder_lake, reference) == code


def test_one_prefix_of_two_versions_is_ambiguous(folder_lake: Lake) -> None:
    for tail in ("0", "1"):
        folder_lake.store.put(f"datasets/golden/versions/{'ab' * 31}a{tail}.json", b"{}")
    assert code_of(datasets.resolve, folder_lake, "golden@abab") == "ambiguous_version"


@pytest.mark.parametrize("semver", ["1", "v1.0.0", "1.0", "01.0.0", "1.0.0/../x", ""])
def test_only_semantic_versions_are_tags(folder_lake: Lake, tmp_path: Path, semver: str) -> None:
    manifest = publish(folder_lake, tmp_path, WEEK, "one")
    assert code_of(datasets.tag, folder_lake, "golden", semver, manifest.content, "ada") == "bad_semver"
    assert code_of(datasets.tag, folder_lake, "golden", "1.0.0", manifest.content, " ") == "no_name"
