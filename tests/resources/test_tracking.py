"""Datasets as W&B artifacts by reference: what the offline run really holds."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from av_assets.domain.errors import EvidenceError, TransientError
from resources.tracking import Reference, Tracking

BLOCK = 32 * 1024  # LevelDB's log format: blocks, in them chunks of crc (4), length (2), type (1)
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def _records(path: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, held = 7, b""
    while position + 7 <= len(data):
        if (left := BLOCK - position % BLOCK) < 7:
            position += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, position)
        if position + 7 + size > len(data):
            return  # still being written
        held = (held if kind in (MIDDLE, LAST) else b"") + data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(held)
            yield record


def _artifact(folder: Path) -> Any:
    [file] = folder.rglob("run-*.wandb")
    # W&B's own process writes the file, and the last of it after `finish` has come back.
    until = time.monotonic() + 30
    while not any(record.HasField("exit") for record in _records(file)) and time.monotonic() < until:
        time.sleep(0.05)
    [artifact] = [
        r.request.log_artifact.artifact if r.request.HasField("log_artifact") else r.artifact
        for r in _records(file)
        if r.HasField("artifact") or r.request.HasField("log_artifact")
    ]
    return artifact


def _reference(path: Path, uri: str, data: bytes) -> Reference:
    return Reference(path.name, uri, len(data), hashlib.md5(data, usedforsecurity=False).hexdigest())


def test_the_offline_run_holds_the_reference_its_digest_and_no_data(tmp_path: Path) -> None:
    data = b"bytes of a shard" * 1000
    (tmp_path / "x.tar").write_bytes(data)
    reference = _reference(tmp_path / "x.tar", (tmp_path / "x.tar").as_uri(), data)
    tracking = Tracking(folder=str(tmp_path / "wandb"))
    kept = tracking.publish_dataset("golden", [reference], ["2025-06-02", "v1.2.0"], {"version": "abc"})
    assert kept["entries"] == [{"name": "x.tar", "bytes": len(data), "md5": reference.md5}]

    artifact = _artifact(tmp_path / "wandb")
    assert (artifact.name, artifact.type, artifact.digest) == ("golden", "dataset", kept["digest"])
    assert sorted(artifact.aliases) == ["2025-06-02", "latest", "v1.2.0"]
    assert json.loads(artifact.metadata)["version"] == "abc"
    [entry] = artifact.manifest.contents
    assert (entry.path, entry.ref, entry.size) == ("x.tar", reference.uri, len(data))
    assert base64.b64decode(entry.digest).hex() == reference.md5
    assert not entry.local_path
    assert not any(data[:64] in p.read_bytes() for p in (tmp_path / "wandb").rglob("*") if p.is_file())

    again = Tracking(folder=str(tmp_path / "again")).publish_dataset("golden", [reference], ["x"], {})
    assert again["digest"] == kept["digest"]


def test_a_bucket_is_asked_for_its_digest(
    tmp_path: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    data, key = b"bytes of a shard", f"{uuid.uuid4().hex}/x.tar"
    boto3.client("s3").put_object(Bucket="lake", Key=key, Body=data)
    reference = _reference(Path("x.tar"), f"s3://lake/{key}", data)
    tracking = Tracking(folder=str(tmp_path))
    tracking.publish_dataset("golden", [reference], [], {})
    [entry] = _artifact(tmp_path).manifest.contents
    assert (entry.ref, entry.digest) == (reference.uri, reference.md5)
    boto3.client("s3").put_object(Bucket="lake", Key=key, Body=b"bytes of a theft")
    with pytest.raises(EvidenceError) as refused:
        tracking.publish_dataset("golden", [reference], [], {})
    assert refused.value.code == "reference_differs"


def test_other_bytes_at_the_place_are_refused_before_anything_is_logged(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"stolen")
    reference = _reference(tmp_path / "x.tar", (tmp_path / "x.tar").as_uri(), b"shards")
    with pytest.raises(EvidenceError) as refused:
        Tracking(folder=str(tmp_path / "wandb")).publish_dataset("golden", [reference], [], {})
    assert (refused.value.code, refused.value.file) == ("reference_differs", "x.tar")
    assert not (tmp_path / "wandb").exists()


def test_nothing_at_the_place_is_no_artifact(tmp_path: Path) -> None:
    reference = _reference(Path("x.tar"), (tmp_path / "x.tar").as_uri(), b"")
    with pytest.raises(TransientError) as refused:
        Tracking(folder=str(tmp_path)).publish_dataset("golden", [reference], [], {})
    assert refused.value.code == "reference_unreadable"
