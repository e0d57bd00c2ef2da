"""Manifests and digests under arbitrary file sets.

Belongs here: properties that hold for every manifest. Does not belong here: storing them.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from av_assets.domain.errors import EvidenceError
from av_assets.domain.evidence.digests import canonical_json, sha256_bytes, sha256_file, sha256_json
from av_assets.domain.evidence.manifest import FileEntry, MadeFrom, Manifest, safe_relative_path, total_bytes
from av_assets.domain.evidence.timing import Stopwatch

digests = st.binary(min_size=1, max_size=8).map(sha256_bytes)
names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"), min_size=1, max_size=12
).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
file_sets = st.dictionaries(paths, st.tuples(st.integers(0, 2**50), digests), max_size=12)
lineages = st.builds(
    MadeFrom,
    inputs=st.dictionaries(paths, digests, max_size=4),
    code_version=st.text(max_size=8),
    policies=st.dictionaries(names, digests, max_size=3),
    environment=st.one_of(st.just(""), digests),
)
# integers beyond 2**53 and floats are outside the subset of JSON that RFC 8785 and Python write alike
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=("Cs",)))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


def entries(files: dict[str, tuple[int, str]]) -> list[FileEntry]:
    return [FileEntry(path=path, bytes=size, sha256=digest) for path, (size, digest) in files.items()]


def manifest(files: list[FileEntry], made_from: MadeFrom | None = None, note: str = "") -> Manifest:
    return Manifest(
        asset="shards", partition="veh001", files=tuple(files), note=note, made_from=made_from or MadeFrom()
    )


@given(
    files=file_sets, made_from=lineages, note=st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
)
def test_any_manifest_survives_its_json(
    files: dict[str, tuple[int, str]], made_from: MadeFrom, note: str
) -> None:
    written = manifest(entries(files), made_from, note)
    read = Manifest.from_json(written.to_json(), "here")
    assert read == written
    assert (read.digest, read.content) == (written.digest, written.content)
    assert read.to_json() == written.to_json()


@given(files=file_sets, seed=st.integers(0, 2**32))
def test_digests_do_not_depend_on_the_order_of_files(files: dict[str, tuple[int, str]], seed: int) -> None:
    ordered = entries(files)
    shuffled = random.Random(seed).sample(ordered, len(ordered))
    assert manifest(shuffled).digest == manifest(ordered).digest
    assert [f.path for f in manifest(shuffled).files] == sorted(files)
    assert manifest(shuffled).size_bytes == total_bytes(ordered)


@given(files=file_sets, one=lineages, other=lineages)
def test_content_is_blind_to_lineage_and_the_digest_is_not(
    files: dict[str, tuple[int, str]], one: MadeFrom, other: MadeFrom
) -> None:
    first, second = manifest(entries(files), one), manifest(entries(files), other)
    assert first.content == second.content
    assert (first.digest == second.digest) == (one == other)


@given(files=file_sets.filter(bool), data=st.data())
def test_any_changed_file_changes_both_digests(
    files: dict[str, tuple[int, str]], data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(sorted(files)))
    size, digest = files[path]
    changed = manifest(entries(files | {path: (size, sha256_bytes(digest.encode()))}))
    assert changed.content != manifest(entries(files)).content
    assert changed.digest != manifest(entries(files)).digest


@given(paths)
def test_plain_relative_paths_are_safe(path: str) -> None:
    assert safe_relative_path(path) == path


@given(before=st.lists(names, max_size=2), after=st.lists(names, max_size=2))
def test_no_path_climbs_out(before: list[str], after: list[str]) -> None:
    with pytest.raises(ValidationError):
        FileEntry(path="/".join([*before, "..", *after]), bytes=0, sha256="0" * 64)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "a//b",
        "a/",
        "./a",
        "a/./b",
        "a\\b",
        "a\nb",
        "a\0b",
        "..",
        "a/../../b",
        ".",
        "a\n",
    ],
)
def test_unsafe_paths_are_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        FileEntry(path=path, bytes=0, sha256="0" * 64)


@pytest.mark.parametrize(
    ("size", "digest"), [(-1, "0" * 64), (0, "0" * 63), (0, "A" * 64), (0, "0" * 64 + "\n")]
)
def test_impossible_entries_are_refused(size: int, digest: str) -> None:
    with pytest.raises(ValidationError):
        FileEntry(path="a", bytes=size, sha256=digest)


def test_one_path_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="twice"):
        manifest([FileEntry(path="a", bytes=n, sha256="0" * 64) for n in (1, 2)])


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused_in_our_words(data: bytes) -> None:
    with pytest.raises(EvidenceError) as caught:
        Manifest.from_json(data, "manifests/x/current.json")
    assert (caught.value.code, caught.value.file) == ("bad_manifest", "manifests/x/current.json")


def test_unknown_field_is_refused() -> None:
    foreign = json.loads(manifest([]).to_json()) | {"host": "laptop"}
    with pytest.raises(EvidenceError):
        Manifest.from_json(json.dumps(foreign).encode(), "here")


def test_entry_that_is_not_there_is_named() -> None:
    with pytest.raises(EvidenceError) as caught:
        manifest([]).entry("report.json")
    assert (caught.value.code, caught.value.file, caught.value.drive) == (
        "missing_file",
        "report.json",
        "veh001",
    )


@given(values)
def test_canonical_json_is_json_of_the_same_value(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=5), values, max_size=6),
    st.integers(),
)
def test_canonical_json_does_not_depend_on_insertion_order(value: dict[str, object], seed: int) -> None:
    keys = random.Random(seed).sample(sorted(value), len(value))
    assert sha256_json({key: value[key] for key in keys}) == sha256_json(value)


def test_canonical_json_is_compact_utf8_and_sorted() -> None:
    assert canonical_json({"b": [1, None], "a": "Zürich"}) == '{"a":"Zürich","b":[1,null]}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_refuses_what_json_has_not(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": value})


def test_digest_of_a_file_is_the_digest_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 1_000_000)
    assert sha256_file(tmp_path / "a") == sha256_bytes(b"abc" * 1_000_000)


def test_stopwatch_adds_up_by_part_and_survives_errors() -> None:
    ticks = iter([0.0, 1.0, 5.0, 7.0])
    watch = Stopwatch(lambda: next(ticks))
    with watch("read"):
        pass
    with pytest.raises(RuntimeError), watch("read"):
        raise RuntimeError
    assert dict(watch.seconds) == {"read": 3.0}
