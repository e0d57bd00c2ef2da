"""The two lakes that every test of this layer runs on: a folder, and a bucket behind a local S3 server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.lake import Lake

BUCKET = "lake"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A moto server in this process; credentials are set for the whole session, since clients read them late."""
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        _make_bucket(endpoint)
        try:
            yield endpoint
        finally:
            server.stop()


def _make_bucket(endpoint: str) -> None:
    import boto3

    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)


@pytest.fixture
def folder_lake(tmp_path: Path) -> Lake:
    return Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))


@pytest.fixture(params=["file", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """An empty lake, once on a folder and once on a bucket."""
    if request.param == "file":
        return request.getfixturevalue("folder_lake")
    endpoint = request.getfixturevalue("s3_endpoint")
    return Lake(uri=f"s3://{BUCKET}/{uuid.uuid4().hex}", scratch=str(tmp_path / "scratch"), endpoint=endpoint)
