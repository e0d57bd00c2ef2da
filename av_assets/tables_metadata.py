"""What the catalog of Dagster shows of tables: columns with types and meaning, where each comes from, rows, place.

Belongs here: turning schemas into Dagster metadata. Does not belong here: the schemas, reading tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    import pyarrow as pa

Sources = Mapping[str, list[tuple[str, str]]]
"""Column -> the (asset, column) pairs that it is made from."""


def table_metadata(
    schema: pa.Schema,
    descriptions: Mapping[str, str] | None = None,
    *,
    uri: str = "",
    rows: int | None = None,
    sources: Sources | None = None,
) -> dict[str, Any]:
    """`dagster/column_schema`, and where they are given `dagster/column_lineage`, `dagster/uri`, `dagster/row_count`.

    Args:
        descriptions: column -> meaning; default: the `comment` of the schema's fields (catalog/schemas.py).
        sources: column -> what it is made from.
    """
    found: dict[str, Any] = {"dagster/column_schema": table_schema(schema, descriptions)}
    if sources:
        found["dagster/column_lineage"] = dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(asset_key=asset, column_name=name) for asset, name in deps]
                for column, deps in sources.items()
            }
        )
    if uri:
        found["dagster/uri"] = uri
    if rows is not None:
        found["dagster/row_count"] = rows
    return found


def table_schema(schema: pa.Schema, descriptions: Mapping[str, str] | None = None) -> dg.TableSchema:
    """The columns as Dagster shows them."""
    from av_assets.domain.catalog.schemas import meanings

    said = meanings(schema) if descriptions is None else descriptions
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.name,
                type=str(field.type),
                description=said.get(field.name) or None,
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )
