"""Making the lake known outside: its tables in AWS Glue, its scenes in DynamoDB. Without configuration, nothing.

What is registered is where things are and what they are called; the lake stays the only place that holds them, and
all can be registered again from it.

Belongs here: creating, updating and taking back registrations. Does not belong here: when that happens.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import AvError, TransientError

if TYPE_CHECKING:
    import pyarrow as pa

    from resources.tables import TableFacts, Tables

ATTEMPTS = 8
BATCH = 25  # the most that one BatchWriteItem takes
COMMENT_BYTES = 255  # the longest comment of a Glue column
_NAMES = {
    "int64": "bigint",
    "int32": "int",
    "int16": "smallint",
    "int8": "tinyint",
    "bool": "boolean",
    "double": "double",
    "float": "float",
    "binary": "binary",
    "date32[day]": "date",
}


def register_tables(database: str, tables: Tables, names: Sequence[str] = ()) -> list[str]:
    """Register Delta tables in the Glue database; gives those that were created or whose columns changed.

    Args:
        database: empty: nothing happens.
        names: default: all tables of the lake; those that are not there yet are left out.

    Raises:
        TransientError: Glue stayed busy. AvError: glue_refused, where Glue will never take it.
    """
    if not database:
        return []
    client = _client("glue")
    _until_done(lambda: _have_database(client, database))
    changed = []
    for name in names or tables.names():
        facts = tables.facts(name)
        if facts is None:
            continue
        wanted = _table_input(facts, _location(tables.path(name)))
        if _until_done(partial(_have_table, client, database, wanted)):
            changed.append(name)
    return changed


def register_scenes(index: str, drive: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Make `rows` the only scenes of the drive in the DynamoDB table: one item per scene, keyed drive and scene_id.

    The new ones are written before the vanished ones are deleted, so that a reader never finds fewer than there are.

    Args:
        index: empty: nothing happens.
        rows: of the table `scenes`; null is left out of an item.

    Raises:
        TransientError: DynamoDB stayed busy. AvError: scene_index_refused, e.g. where the table has other keys.
    """
    if not index:
        return
    client = _client("dynamodb")
    items = {str(row["scene_id"]): _item(drive, row) for row in rows}
    _until_done(lambda: _have_index(client, index), "scene_index_refused")
    held = _until_done(lambda: set(_scene_ids(client, index, drive)), "scene_index_refused")
    _write(client, index, [{"PutRequest": {"Item": item}} for item in items.values()])
    gone = sorted(held - items.keys())
    keys = [{"drive": {"S": drive}, "scene_id": {"S": scene}} for scene in gone]
    _write(client, index, [{"DeleteRequest": {"Key": key}} for key in keys])


def _client(service: str) -> Any:
    import boto3

    from resources.environment import environment

    return boto3.client(service, endpoint_url=environment().s3_endpoint)


def _until_done(act: Callable[[], Any], refused: str = "glue_refused") -> Any:
    """Run `act` until no other writer is in its way; `act` looks at the state anew each time."""
    from botocore.exceptions import BotoCoreError, ClientError

    busy = ("AlreadyExistsException", "ConcurrentModificationException", "ResourceInUseException",
            "ThrottlingException", "ProvisionedThroughputExceededException", "InternalServerError",
            "InternalServiceException", "OperationTimeoutException")  # fmt: skip
    last = ""
    for attempt in range(ATTEMPTS):
        try:
            return act()
        except ClientError as error:
            last = error.response.get("Error", {}).get("Code", "")
            if last not in busy:
                raise AvError(
                    str(error), code=refused, remedy="check the name, the keys and the rights"
                ) from error
        except BotoCoreError as error:
            last = str(error)
        _wait(attempt)
    raise TransientError(f"the registry stayed busy: {last}", code="registry_busy")


def _wait(attempt: int) -> None:
    time.sleep(random.uniform(0.0, 0.05 * 2**attempt))


# -- Glue --------------------------------------------------------------------------------------------------------


def _have_database(client: Any, database: str) -> None:
    try:
        client.get_database(Name=database)
    except client.exceptions.EntityNotFoundException:
        client.create_database(DatabaseInput={"Name": database})


def _have_table(client: Any, database: str, wanted: dict[str, Any]) -> bool:
    """Create or update; False where Glue already says the same. An update leaves the old version behind."""
    try:
        held = client.get_table(DatabaseName=database, Name=wanted["Name"])["Table"]
    except client.exceptions.EntityNotFoundException:
        client.create_table(DatabaseName=database, TableInput=wanted)
        return True
    storage = held.get("StorageDescriptor", {})
    same = all(storage.get(key) == wanted["StorageDescriptor"][key] for key in ("Columns", "Location"))
    parameters = held.get("Parameters", {})
    same &= all(parameters.get(key) == value for key, value in wanted["Parameters"].items())
    same &= held.get("PartitionKeys") == wanted["PartitionKeys"]
    if not same:
        client.update_table(DatabaseName=database, TableInput=wanted)
    return not same


def _table_input(facts: TableFacts, location: str) -> dict[str, Any]:
    from av_assets.domain.catalog.schemas import meanings

    said = meanings(facts.schema)
    columns = [_column(field, said.get(field.name, "")) for field in facts.schema]
    return {
        "Name": facts.name,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {
            "table_type": "DELTA",
            "classification": "delta",
            "EXTERNAL": "TRUE",
            "location": location,
        },
        "PartitionKeys": [],
        "StorageDescriptor": {
            "Columns": columns,
            "Location": location,
            "InputFormat": "org.apache.hadoop.mapred.SequenceFileInputFormat",
            "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat",
            "SerdeInfo": {"SerializationLibrary": "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"},
        },
    }


def _column(field: pa.Field, meaning: str) -> dict[str, str]:
    comment = meaning.encode()[:COMMENT_BYTES].decode(errors="ignore")
    return {"Name": field.name, "Type": hive_type(field.type), "Comment": comment}


def hive_type(kind: pa.DataType) -> str:
    """The type as Glue spells it; `string` for what Hive has no word for."""
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"array<{hive_type(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{','.join(f'{field.name}:{hive_type(field.type)}' for field in kind)}>"
    if pa.types.is_map(kind):
        return f"map<{hive_type(kind.key_type)},{hive_type(kind.item_type)}>"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    return _NAMES.get(str(kind), "string")


def _location(path: str) -> str:
    return path if "://" in path else f"file://{path}"


# -- DynamoDB ----------------------------------------------------------------------------------------------------


def _have_index(client: Any, index: str) -> None:
    try:
        client.describe_table(TableName=index)
        return
    except client.exceptions.ResourceNotFoundException:
        keys = (("drive", "HASH"), ("scene_id", "RANGE"))
        client.create_table(
            TableName=index,
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
            BillingMode="PAY_PER_REQUEST",
        )
    client.get_waiter("table_exists").wait(TableName=index)


def _scene_ids(client: Any, index: str, drive: str) -> Iterator[str]:
    pages = client.get_paginator("query").paginate(
        TableName=index,
        KeyConditionExpression="drive = :drive",
        ExpressionAttributeValues={":drive": {"S": drive}},
        ProjectionExpression="scene_id",
        ConsistentRead=True,
    )
    for page in pages:
        yield from (item["scene_id"]["S"] for item in page["Items"])


def _write(client: Any, index: str, requests: Sequence[Mapping[str, Any]]) -> None:
    """Batches of puts or deletes; what the server leaves unprocessed is sent again."""
    for start in range(0, len(requests), BATCH):
        left: Sequence[Mapping[str, Any]] = requests[start : start + BATCH]
        for attempt in range(ATTEMPTS):
            send = partial(client.batch_write_item, RequestItems={index: left})
            answer = _until_done(send, "scene_index_refused")
            left = answer.get("UnprocessedItems", {}).get(index, [])
            if not left:
                break
            _wait(attempt)
        if left:
            raise TransientError(f"{len(left)} scenes stayed unprocessed", code="registry_busy")


def _item(drive: str, row: Mapping[str, Any]) -> dict[str, Any]:
    from boto3.dynamodb.types import TypeSerializer

    serialize = TypeSerializer().serialize
    known = {name: value for name, value in row.items() if value is not None}
    # floats go through their shortest text: DynamoDB numbers are decimal, and NaN is none of them
    plain = json.loads(json.dumps(known, default=str), parse_float=Decimal, parse_constant=lambda _: None)
    return {name: serialize(value) for name, value in (plain | {"drive": drive}).items() if value is not None}
