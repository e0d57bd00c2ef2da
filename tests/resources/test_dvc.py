"""Archives really pushed by DVC and pulled back, through a folder and through a bucket."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from av_assets.domain.datasets.archive import Shard, plan_shards, write_shard
from av_assets.domain.errors import AvError, EvidenceError, TransientError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.evidence.manifest import FileEntry
from resources import dvc
from resources.dvc import Archives, read_pointer
from resources.tool_environments import tool

ONE, TWO = "a" * 64, "b" * 64


@pytest.fixture(scope="session")
def dvc_itself() -> None:
    try:
        tool("dvc", "dvc")
    except TransientError:
        pytest.skip("DVC cannot be installed: the package registry cannot be reached")


@pytest.fixture(params=["folder", "bucket"])
def archives(request: pytest.FixtureRequest, tmp_path: Path, dvc_itself: None) -> Archives:
    if request.param == "folder":
        return Archives(remote=str(tmp_path / "a remote, with # signs"))
    endpoint = request.getfixturevalue("s3_endpoint")
    return Archives(remote=f"s3://lake/{uuid.uuid4().hex}", endpoint=endpoint)


def _shards(folder: Path, texts: list[str], prefix: str = "golden") -> tuple[Path, list[Shard]]:
    source, out = folder / f"{prefix}-source", folder / f"{prefix}-out"
    source.mkdir()
    out.mkdir()
    files = []
    for number, text in enumerate(texts):
        path = source / f"{number}.parquet"
        path.write_text(text)
        files.append(FileEntry(path=path.name, bytes=path.stat().st_size, sha256=sha256_file(path)))
    return out, [write_shard(plan, source, out) for plan in plan_shards(prefix, files, 1)]


def _push(archives: Archives, version: str, out: Path, shards: list[Shard]) -> dict[str, bytes]:
    return archives.push("golden", version, [out / s.name for s in shards], [s.md5 for s in shards])


def test_shards_come_back_as_they_were_and_a_forgotten_version_does_not(
    archives: Archives, tmp_path: Path
) -> None:
    out, first = _shards(tmp_path, ["one", "shared"])
    pointers = _push(archives, ONE, out, first)
    assert sorted(pointers) == ["golden-00000.tar.dvc", "golden-00001.tar.dvc"]
    assert [read_pointer(name, pointers[name]) for name in sorted(pointers)] == [s.md5 for s in first]
    pulled = archives.pull(pointers, tmp_path / "empty")
    assert {p.name: sha256_file(p) for p in pulled} == {s.name: s.sha256 for s in first}
    assert all(
        p.stat().st_nlink == 1 for p in pulled
    )  # whoever writes into it does not write into the remote
    assert sorted(p.name for p in (tmp_path / "empty").iterdir()) == sorted(s.name for s in first)

    out, second = _shards(tmp_path, ["another", "shared"], "later")
    # The tar files hold their members' paths and bytes, not their own name: the second shard is the same.
    assert second[1].md5 == first[1].md5
    _push(archives, TWO, out, second)
    gone = archives.forget(ONE)
    assert gone == [f"files/md5/{first[0].md5[:2]}/{first[0].md5[2:]}", f"archives/{ONE}.json"]
    with pytest.raises(EvidenceError, match="does not hold") as refused:
        archives.pull(pointers, tmp_path / "gone")
    assert (refused.value.code, refused.value.file) == ("archive_missing", "golden-00000.tar.dvc")
    assert archives.forget(ONE) == []
    assert len(archives.forget(TWO)) == 3
    assert list(archives._store.keys("")) == []


def test_what_dvc_reads_has_to_be_what_was_written(tmp_path: Path, dvc_itself: None) -> None:
    archives = Archives(remote=str(tmp_path / "remote"))
    out, [shard] = _shards(tmp_path, ["one"])
    with pytest.raises(EvidenceError) as refused:
        archives.push("golden", ONE, [out / shard.name], ["0" * 32])
    assert refused.value.code == "archive_differs"


def test_a_remote_that_cannot_be_written_is_named(tmp_path: Path, s3_endpoint: str, dvc_itself: None) -> None:
    archives = Archives(remote="s3://no-such-bucket-here/x", endpoint=s3_endpoint)
    out, [shard] = _shards(tmp_path, ["one"])
    with pytest.raises(AvError) as refused:
        archives.push("golden", ONE, [out / shard.name], [shard.md5])
    assert refused.value.code in ("missing_bucket", "dvc_failed")


def test_bytes_damaged_in_the_remote_are_not_pulled(tmp_path: Path, dvc_itself: None) -> None:
    archives = Archives(remote=str(tmp_path / "remote"))
    out, [shard] = _shards(tmp_path, ["one"])
    pointers = _push(archives, ONE, out, [shard])
    stored = tmp_path / "remote" / "files" / "md5" / shard.md5[:2] / shard.md5[2:]
    stored.chmod(0o644)
    stored.write_bytes(b"other bytes")
    with pytest.raises(TransientError) as refused:
        archives.pull(pointers, tmp_path / "empty")
    assert refused.value.code == "dvc_failed"
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "outs: 3",
        "outs:\n- md5: abc\n  path: x.tar",
        f"outs:\n- md5: {'a' * 32}\n  path: ../x.tar",
        f"outs:\n- md5: {'a' * 32}\n  path: y.tar",
        "{",
    ],
)
def test_a_pointer_that_points_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError) as refused:
        read_pointer("x.tar.dvc", text.encode())
    assert refused.value.code == "bad_pointer"


def test_only_whole_names_are_taken_out(tmp_path: Path) -> None:
    archives = Archives(remote=str(tmp_path))
    with pytest.raises(AvError, match="no md5"):
        archives.purge(["../../etc/passwd"])
    with pytest.raises(AvError, match="no version"):
        archives.forget("../x")
    assert archives.purge(["a" * 32]) == []


def test_the_remote_of_the_installation_forgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AV_DVC_REMOTE", str(tmp_path / "remote"))
    here = dvc.installed_archives()
    here._store.put(f"archives/{ONE}.json", b'{"md5": ["%s"]}' % (b"c" * 32))
    here._store.put("files/md5/cc/" + "c" * 30, b"bytes")
    assert dvc.forget(ONE) == ["files/md5/cc/" + "c" * 30, f"archives/{ONE}.json"]
