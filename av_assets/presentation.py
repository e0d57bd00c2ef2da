"""How bundles look in the catalog: tables and pictures as Dagster metadata.

Belongs here: turning rows and published files into metadata. Does not belong here: anything about one single asset.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from resources.lake import Lake


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    """A PNG that the catalog shows in place. Only pictures of redacted frames or of numbers may come here."""
    return dg.MetadataValue.md(f"![picture](data:image/png;base64,{base64.b64encode(png).decode()})")


def pictures(lake: Lake, manifest: Manifest, *names: str) -> dict[str, dg.MarkdownMetadataValue]:
    """Those of the named PNG files that the bundle holds."""
    held = {f.path for f in manifest.files}
    return {Path(n).stem: picture(lake.read_bytes(manifest, n)) for n in names if n in held}


def table(rows: Iterable[Mapping[str, Any]]) -> dg.TableMetadataValue | dg.TextMetadataValue:
    """Rows as a table in the catalog.

    Dagster has no empty tables, so none is said in words, and it wants the same columns in every row: what one lacks is
    shown empty.
    """
    held = [dict(row) for row in rows]
    columns = dict.fromkeys(column for row in held for column in row)
    records = [dg.TableRecord({column: row.get(column, "") for column in columns}) for row in held]
    return dg.MetadataValue.table(records) if records else dg.MetadataValue.text("none")
