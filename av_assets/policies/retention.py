"""What erasure does with each asset, and how long drives are kept.

Belongs here: the model of those numbers. Does not belong here: acting on them (av_assets/erasure/execution.py).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from av_assets.policies import Policy

Action = Literal["remove", "reversion", "list"]
Remake = Literal["now", "listed", "no"]
Days = Annotated[float, Field(gt=0)] | None


class AssetRule(BaseModel):
    """What happens to the versions of an asset that contain an erased drive.

    Attributes:
        action: remove: the version goes; reversion: it goes, leaves a tombstone in the registry of datasets, and a
            version without the drive is frozen; list: it stays and is named in the receipt.
        every_drive: its versions depend on all drives through tables, whatever their lineage names.
        carries: what is made from it contains what it contains.
        remake: now: made again within the erasure; listed: named in the receipt, to be made again; no.
        tables: table -> column that holds the partition of the bundle that wrote the rows.
        dataset: name in the registry of datasets.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    action: Action
    every_drive: bool = False
    carries: bool = True
    remake: Remake = "listed"
    tables: dict[str, str] = Field(default_factory=dict)
    dataset: str = ""


class RetentionPolicy(Policy):
    """`default` holds for every asset that `assets` does not name. A drive's own bundles are always removed.

    Attributes:
        row_columns: columns that name a drive -> what follows the drive's id in them; empty: nothing.
        keep_days: state of a drive (live, quarantined, archived) -> days after which it may be erased; null: never.
        rounds: times that an erasure looks again for what was published meanwhile.
    """

    name: ClassVar[str] = "retention"
    default: AssetRule
    assets: dict[str, AssetRule]
    row_columns: dict[str, str]
    keep_days: dict[Literal["live", "quarantined", "archived"], Days]
    rounds: Annotated[int, Field(ge=1, le=20)]

    def rule(self, asset: str) -> AssetRule:
        return self.assets.get(asset, self.default)
