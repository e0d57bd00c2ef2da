"""What commands of `av` that read the lake of this installation begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resources.lake import Lake


def open_lake() -> Lake:
    """The lake of this installation."""
    from resources.environment import prepare
    from resources.lake import Lake

    here = prepare()
    return Lake(uri=here.lake, scratch=str(here.scratch), endpoint=here.s3_endpoint)


def open_instance() -> Any:
    """The Dagster instance of this installation."""
    import dagster as dg

    from resources.environment import prepare

    prepare()
    return dg.DagsterInstance.get()
