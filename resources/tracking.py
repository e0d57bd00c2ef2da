"""Experiment tracking: W&B, offline unless an account is configured.

Belongs here: opening a run and what it is told; datasets by reference. Does not belong here: training, archives.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from av_assets.domain.errors import EvidenceError, TransientError


@dataclass(frozen=True)
class Reference:
    """A file that W&B knows the place and digest of, and no byte."""

    name: str
    uri: str
    bytes: int
    md5: str


def agents_run(project: str, config: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """The run that W&B's agent has named in the environment of this process; WANDB_MODE=offline keeps it here."""
    return _opened(config, project=project)


@contextmanager
def _opened(config: Mapping[str, Any], **told: Any) -> Iterator[Any]:
    import wandb

    settings = wandb.Settings(silent=True, x_disable_stats=True)
    run = wandb.init(config=dict(config), settings=settings, **told)
    try:
        yield run
    finally:
        run.finish()


class Tracking(dg.ConfigurableResource["Tracking"]):
    """W&B runs in `folder`; `mode` is offline, online or disabled."""

    folder: str
    project: str = "av-assets"
    mode: str = "offline"

    @contextmanager
    def run(self, name: str, config: Mapping[str, Any], tags: tuple[str, ...] = ()) -> Iterator[Any]:
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        told = {"project": self.project, "name": name, "tags": tags, "dir": self.folder, "mode": self.mode}
        with _opened(config, **told) as run:
            yield run

    def publish_dataset(
        self, name: str, references: Sequence[Reference], aliases: Sequence[str], metadata: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Make an artifact of type dataset that refers to files where they lie; gives what evidence keeps of it.

        W&B reads the files' digests at their place by itself: they have to be those that are expected. Without an
        account the artifact waits in the offline run (`wandb sync` sends it); its digest is the same.

        Raises:
            EvidenceError: reference_differs, other bytes lie there.
            TransientError: reference_unreadable, nothing could be read there.
        """
        import wandb

        artifact = wandb.Artifact(name, type="dataset", metadata=dict(metadata))
        for reference in references:
            try:
                [entry] = artifact.add_reference(reference.uri, name=reference.name, checksum=True)
            except Exception as error:  # wandb passes on whatever the store's own client raises
                raise TransientError(
                    f"W&B cannot read the reference ({type(error).__name__})",
                    code="reference_unreadable",
                    file=reference.name,
                ) from error
            _require_same(entry, reference)
        # The name of a run is for people: what is kept of it as evidence holds neither run ids nor places.
        with self.run(f"freeze {name}", {"dataset": name, **metadata}, tags=("dataset",)) as run:
            run.log_artifact(artifact, aliases=list(aliases))
        return {
            "artifact": name,
            "type": "dataset",
            "digest": str(artifact.digest),
            "aliases": list(aliases),
            "metadata": dict(metadata),
            "entries": [{"name": r.name, "bytes": r.bytes, "md5": r.md5} for r in references],
        }


_HEX = re.compile(r"[0-9a-f]{32}")


def _require_same(entry: Any, reference: Reference) -> None:
    """W&B names files by md5 in base64; a bucket by its ETag, which is no md5 where the upload had several parts."""
    digest = str(entry.digest)
    if "-" in digest:
        same = entry.size == reference.bytes
    else:
        md5 = digest if _HEX.fullmatch(digest) else base64.b64decode(digest).hex()
        same = (md5, entry.size) == (reference.md5, reference.bytes)
    if not same:
        raise EvidenceError(
            "other bytes lie where the archive should be", code="reference_differs", file=reference.name
        )
