"""The state of a training run in the lake, so that a run goes on after its node is lost, and its results come home.

Layout under the key: state/<step>.pt and state/newest.json, which names it and is written last; out/<file> and
done.json, written last; refused.json where training refused what it was given. The key lies among the lake's segments
and goes with them once the bundle is whole.

Belongs here: what lies under the key and in which order it is written. Does not belong here: training, Dagster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from av_assets.domain.errors import AvError, EvidenceError, ModelError
from av_assets.domain.evidence.digests import canonical_json, sha256_bytes, sha256_file
from resources.objects import BucketStore, FolderStore, open_store


@dataclass(frozen=True)
class Keeping:
    """One run's place in the lake."""

    store: FolderStore | BucketStore
    key: str

    @classmethod
    def at(cls, place: Mapping[str, str | None]) -> Keeping:
        """From {uri, endpoint, key}."""
        return cls(open_store(str(place["uri"]), place.get("endpoint")), str(place["key"]))

    # -- state -----------------------------------------------------------------------------------------------------

    def keep(self, checkpoint: Path, step: int) -> None:
        """Store a checkpoint; the one before is there until this one is whole."""
        before = self.newest()
        name = f"state/{step:09d}.pt"
        self.store.put_file(f"{self.key}/{name}", checkpoint, consume=False)
        said = {"name": name, "step": step, "sha256": sha256_file(checkpoint)}
        self.store.put(f"{self.key}/state/newest.json", canonical_json(said))
        if before is not None and before["name"] != name:
            self.store.delete(f"{self.key}/{before['name']}")

    def newest(self) -> dict[str, Any] | None:
        """{name, step, sha256} of the checkpoint that is kept, or None."""
        return self._read("state/newest.json")

    def take_up(self, folder: Path) -> Path | None:
        """The checkpoint to go on from: the newest sound one of `folder`, or the lake's where that is newer."""
        from av_assets.domain.learning import checkpoint as ckpt

        here = ckpt.newest_sound(folder)
        step = ckpt.load(here)["step"] if here is not None else -1
        kept = self.newest()
        if kept is None or kept["step"] <= step:
            return here
        data = self.store.get(f"{self.key}/{kept['name']}")
        if data is None or sha256_bytes(data) != kept["sha256"]:
            return here  # a damaged copy costs the steps since, never the run
        folder.mkdir(parents=True, exist_ok=True)
        ckpt.write_atomically(folder / ckpt.CHECKPOINT_FILE, data)
        return folder / ckpt.CHECKPOINT_FILE

    # -- how it ended ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Forget how an earlier attempt ended."""
        for name in ("done.json", "refused.json"):
            self.store.delete(f"{self.key}/{name}")

    def deliver(self, folder: Path, names: tuple[str, ...], facts: Mapping[str, Any]) -> None:
        """The finished run's files that are there, and facts about it that stay outside of the bundle."""
        digests = {name: sha256_file(folder / name) for name in names if (folder / name).is_file()}
        for name in digests:
            self.store.put_file(f"{self.key}/out/{name}", folder / name, consume=False)
        self.store.put(f"{self.key}/done.json", canonical_json({"files": digests, "facts": dict(facts)}))

    def refuse(self, error: AvError) -> None:
        """Say why trying again would give the same answer."""
        said = {k: getattr(error, k) for k in ("reason", "code", "file", "drive", "remedy")}
        self.store.put(f"{self.key}/refused.json", canonical_json(said))

    def refusal(self) -> AvError | None:
        said = self._read("refused.json")
        return None if said is None else ModelError(said.pop("reason"), **said)

    def collect(self, out: Path) -> dict[str, Any] | None:
        """Lay the delivered files out in `out`; the facts, or None where nothing was delivered yet.

        Raises:
            EvidenceError: damaged_object.
        """
        done = self._read("done.json")
        if done is None:
            return None
        for name, digest in done["files"].items():
            self.store.fetch(f"{self.key}/out/{name}", out / name)
            if sha256_file(out / name) != digest:
                raise EvidenceError("a result differs from its digest", code="damaged_object", file=name)
        return dict(done["facts"])

    def _read(self, name: str) -> dict[str, Any] | None:
        data = self.store.get(f"{self.key}/{name}")
        return None if data is None else dict(json.loads(data))
