"""Tables in Glue and scenes in DynamoDB, against a local server of both."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from av_assets.domain.catalog.schemas import CLIPS, column
from av_assets.domain.errors import AvError, TransientError
from resources import registration
from resources.lake import Lake
from resources.registration import hive_type, register_scenes, register_tables


@pytest.fixture
def aws(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client factory; every test begins with nothing registered."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)

    def client(service: str) -> Any:
        return boto3.client(service, endpoint_url=s3_endpoint)

    yield client
    glue, dynamodb = client("glue"), client("dynamodb")
    for database in glue.get_databases()["DatabaseList"]:
        glue.delete_database(Name=database["Name"])
    for name in dynamodb.list_tables()["TableNames"]:
        dynamodb.delete_table(TableName=name)


def put(lake: Lake, drive: str, schema: pa.Schema = CLIPS) -> None:
    lake.tables.replace("clips", pa.Table.from_pylist([{"drive": drive}], schema), key="drive", value=drive)


def versions(client: Any, name: str = "clips") -> int:
    return len(client.get_table_versions(DatabaseName="fleet", TableName=name)["TableVersions"])


class TestGlue:
    def test_a_table_is_registered_with_its_columns_and_their_meaning(self, lake: Lake, aws: Any) -> None:
        put(lake, "d1")
        assert register_tables("fleet", lake.tables) == ["clips"]
        table = aws("glue").get_table(DatabaseName="fleet", Name="clips")["Table"]
        assert table["Parameters"]["table_type"] == "DELTA"
        assert table["StorageDescriptor"]["Location"].endswith(lake.tables.path("clips"))
        assert "://" in table["StorageDescriptor"]["Location"]
        assert table["PartitionKeys"] == []
        columns = {c["Name"]: c for c in table["StorageDescriptor"]["Columns"]}
        assert set(columns) == set(CLIPS.names)
        assert (columns["start_ns"]["Type"], columns["light"]["Type"]) == ("bigint", "string")
        assert columns["max_decel_mps2"]["Comment"] == "strongest braking, >= 0"

    def test_again_changes_nothing_and_a_new_column_is_a_new_version(
        self, folder_lake: Lake, aws: Any
    ) -> None:
        put(folder_lake, "d1")
        register_tables("fleet", folder_lake.tables, ["clips", "not_there_yet"])
        before = versions(aws("glue"))
        assert register_tables("fleet", folder_lake.tables) == []
        put(folder_lake, "d2")
        assert register_tables("fleet", folder_lake.tables) == []
        assert versions(aws("glue")) == before
        put(folder_lake, "d3", CLIPS.append(column("cells", pa.list_(pa.string()), "more")))
        assert register_tables("fleet", folder_lake.tables) == ["clips"]
        assert versions(aws("glue")) == before + 1
        table = aws("glue").get_table(DatabaseName="fleet", Name="clips")["Table"]
        assert table["StorageDescriptor"]["Columns"][-1] == {
            "Name": "cells",
            "Type": "array<string>",
            "Comment": "more",
        }

    def test_who_loses_the_race_for_creating_goes_on(
        self, folder_lake: Lake, aws: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(folder_lake, "d1")
        register_tables("fleet", folder_lake.tables)
        client = aws("glue")
        wanted = registration._table_input(folder_lake.tables.facts("clips"), "file:///elsewhere")  # type: ignore[arg-type]
        seen: list[str] = []
        real = client.get_table

        def late(**given: Any) -> Any:
            if not seen:
                seen.append("first")
                raise client.exceptions.EntityNotFoundException(
                    {"Error": {"Code": "EntityNotFoundException"}}, "x"
                )
            return real(**given)

        monkeypatch.setattr(client, "get_table", late)
        monkeypatch.setattr(registration.time, "sleep", lambda _: None)
        assert registration._until_done(lambda: registration._have_table(client, "fleet", wanted)) is True
        found = aws("glue").get_table(DatabaseName="fleet", Name="clips")["Table"]
        assert found["StorageDescriptor"]["Location"] == "file:///elsewhere"

    def test_what_glue_will_never_take_is_said(self, folder_lake: Lake, aws: Any) -> None:
        put(folder_lake, "d1")
        with pytest.raises(AvError) as caught:
            registration._until_done(lambda: aws("glue").get_table(DatabaseName="none", Name="none"))
        assert caught.value.code == "glue_refused"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (
            pa.list_(pa.struct([("role", pa.string()), ("valid", pa.bool_())])),
            "array<struct<role:string,valid:boolean>>",
        ),
        (pa.map_(pa.string(), pa.float64()), "map<string,double>"),
        (pa.binary(), "binary"),
        (pa.timestamp("us", "UTC"), "timestamp"),
        (pa.large_string(), "string"),
        (pa.int32(), "int"),
    ],
)
def test_types_are_spelled_as_hive_does(kind: pa.DataType, name: str) -> None:
    assert hive_type(kind) == name


def scene(number: int, **more: Any) -> dict[str, Any]:
    return {
        "drive": "d1",
        "scene_id": f"s{number:03d}",
        "start_ns": 1_748_851_200_000_000_000 + number,
        "kinds": ["cut_in"],
        "description": "a cut-in by night",
        "pedestrians": None,
        "peak": 1.25,
        **more,
    }


def items(client: Any, index: str = "scenes") -> list[dict[str, Any]]:
    from boto3.dynamodb.types import TypeDeserializer

    found = client.scan(TableName=index)["Items"]
    plain = [{k: TypeDeserializer().deserialize(v) for k, v in item.items()} for item in found]
    return sorted(plain, key=lambda item: (item["drive"], item["scene_id"]))


class TestScenes:
    def test_a_scene_is_an_item(self, aws: Any) -> None:
        register_scenes("scenes", "d1", [scene(1, weird=float("nan"))])
        [item] = items(aws("dynamodb"))
        assert (item["drive"], item["scene_id"], item["start_ns"]) == (
            "d1",
            "s001",
            1_748_851_200_000_000_001,
        )
        assert (item["kinds"], float(item["peak"])) == (["cut_in"], 1.25)
        assert "pedestrians" not in item
        assert "weird" not in item

    def test_vanished_scenes_go_and_other_drives_stay(self, aws: Any) -> None:
        register_scenes("scenes", "d1", [scene(n) for n in range(60)])
        register_scenes("scenes", "d2", [scene(1, drive="d2")])
        assert len(items(aws("dynamodb"))) == 61
        register_scenes("scenes", "d1", [scene(n) for n in range(50, 70)])
        found = [(item["drive"], item["scene_id"]) for item in items(aws("dynamodb"))]
        assert found == [*(("d1", f"s{n:03d}") for n in range(50, 70)), ("d2", "s001")]
        register_scenes("scenes", "d1", [])
        assert [item["drive"] for item in items(aws("dynamodb"))] == ["d2"]

    def test_what_the_server_left_is_sent_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        taken: list[Any] = []

        class Busy:
            def batch_write_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
                first, *rest = RequestItems["scenes"]
                taken.append(first)
                return {"UnprocessedItems": {"scenes": rest} if rest else {}}

        monkeypatch.setattr(registration.time, "sleep", lambda _: None)
        registration._write(Busy(), "scenes", [{"n": 1}, {"n": 2}, {"n": 3}])
        assert taken == [{"n": 1}, {"n": 2}, {"n": 3}]
        with pytest.raises(TransientError):
            registration._write(Busy(), "scenes", [{"n": n} for n in range(25)])

    def test_an_index_with_other_keys_is_refused(self, aws: Any) -> None:
        aws("dynamodb").create_table(
            TableName="scenes",
            KeySchema=[{"AttributeName": "other", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "other", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        with pytest.raises(AvError) as caught:
            register_scenes("scenes", "d1", [scene(1)])
        assert caught.value.code == "scene_index_refused"


def test_without_configuration_nothing_happens_and_boto3_stays_away() -> None:
    code = (
        "import sys; from resources.registration import *; from resources.tables import Tables;"
        "assert register_tables('', Tables('/nowhere', {})) == [];"
        "register_scenes('', 'd', [{}]); sys.exit('boto3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
