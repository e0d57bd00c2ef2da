"""The only reader of the environment: where things are, by configuration alone.

Belongs here: names of variables and their embedded defaults. Does not belong here: anything that opens what they name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Environment:
    """The settings of one installation.

    Attributes:
        home: folder for everything local: Dagster storage, landing area, scratch, caches.
        lake: `file:///...` or `s3://bucket/prefix`.
        landing: where vehicles' disks are copied to: a folder, or `s3://bucket/prefix`.
        truth: ground truth of synthetic drives, for simulated annotators only.
        tick_seconds: how often sensors look.
        signing_key: the Ed25519 key that signs bundles; made at its first use.
        object_model: a detector of vehicles and people to use instead of the pinned one.
        embedding_model: an image encoder (ONNX) to use instead of the pinned one; beside it may lie its text encoder.
        map: folder or file with OpenStreetMap extracts.
        weather: folder with tables of weather stations or grids.
        policies: folder with versions of policies that are proposed.
        glue_database: AWS Glue database that the tables are registered in; empty: none.
        scene_index: DynamoDB table that scenes are registered in; empty: none.
        labels: folder that labelling tools hand files over in; see resources/labeling.py.
        label_studio: address of a Label Studio server; empty: none.
        label_studio_token: its access token.
        tools: environments of tools that do not live beside the platform's own packages.
        cache_gb: room for the shards that this machine keeps of a remote lake; None: the cache policy says.
        sweeps: database that studies of sweeps are kept in, as an address; empty: files under home.
        dvc_remote: where DVC pushes archives of datasets to: a folder, or `s3://bucket/prefix`.
    """

    home: Path
    lake: str
    landing: str
    truth: Path
    lock: Path
    tick_seconds: int
    signing_key: Path
    s3_endpoint: str | None = None
    object_model: Path | None = None
    embedding_model: Path | None = None
    map: Path = Path("map")
    weather: Path = Path("weather")
    policies: Path = Path("policies")
    glue_database: str = ""
    scene_index: str = ""
    labels: Path = Path("labels")
    label_studio: str = ""
    label_studio_token: str = field(default="", repr=False)
    tools: Path = Path("tools")
    dvc_remote: str = ""
    cache_gb: float | None = None
    sweeps: str = field(default="", repr=False)

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def scratch(self) -> Path:
        return self.home / "scratch"

    @property
    def cache(self) -> Path:
        return self.home / "cache"


def environment() -> Environment:
    """Read the environment now; nothing is cached, so that tests may change it."""
    home = Path(os.environ.get("AV_HOME", ".av")).absolute()
    return Environment(
        home=home,
        lake=os.environ.get("AV_LAKE", (home / "lake").as_uri()),
        landing=_landing(os.environ.get("AV_LANDING", str(home / "landing"))),
        truth=Path(os.environ.get("AV_TRUTH", home / "truth")).absolute(),
        lock=Path(os.environ.get("AV_LOCK", PROJECT / "constraints.txt")),
        tick_seconds=int(os.environ.get("AV_TICK_SECONDS", "15")),
        signing_key=Path(os.environ.get("AV_SIGNING_KEY", home / "keys" / "signing.pem")),
        s3_endpoint=os.environ.get("AWS_ENDPOINT_URL"),
        object_model=Path(named) if (named := os.environ.get("AV_OBJECT_MODEL")) else None,
        embedding_model=Path(named) if (named := os.environ.get("AV_EMBEDDING_MODEL")) else None,
        map=Path(os.environ.get("AV_MAP", home / "map")).absolute(),
        weather=Path(os.environ.get("AV_WEATHER", home / "weather")).absolute(),
        policies=Path(os.environ.get("AV_POLICIES", home / "policies")).absolute(),
        glue_database=os.environ.get("AV_GLUE_DATABASE", ""),
        scene_index=os.environ.get("AV_SCENE_INDEX", ""),
        labels=Path(os.environ.get("AV_LABELS", home / "labels")).absolute(),
        label_studio=os.environ.get("AV_LABEL_STUDIO_URL", ""),
        label_studio_token=os.environ.get("AV_LABEL_STUDIO_TOKEN", ""),
        tools=Path(os.environ.get("AV_TOOLS", home / "cache" / "tools")).absolute(),
        dvc_remote=os.environ.get("AV_DVC_REMOTE", str(home / "dvc-remote")),
        cache_gb=float(room) if (room := os.environ.get("AV_CACHE_GB")) else None,
        sweeps=os.environ.get("AV_SWEEPS_STORAGE", ""),
    )


def _landing(named: str) -> str:
    return named if named.startswith("s3://") else str(Path(named).absolute())


def prepare() -> Environment:
    """Make the local folders and the Dagster home of this installation, and name it to Dagster.

    The storage is created once here: a webserver and a daemon that both find none race for creating it.
    """
    here = environment()
    local = [] if here.landing.startswith("s3://") else [Path(here.landing)]
    for folder in (here.dagster_home, *local, here.scratch, here.cache):
        folder.mkdir(parents=True, exist_ok=True)
    target = here.dagster_home / "dagster.yaml"
    if not target.exists():
        target.write_text((PROJECT / "deployments" / "local" / "dagster.yaml").read_text("utf-8"), "utf-8")
    os.environ.setdefault("DAGSTER_HOME", str(here.dagster_home))
    os.environ.setdefault("AV_HOME", str(here.home))
    return here


def child_environment() -> dict[str, str]:
    """What a process that this one starts gets."""
    return dict(os.environ)


def extra_drives() -> Path | None:
    """The folder of recordings that the demo lands as well."""
    named = os.environ.get("AV_EXTRA_DRIVES")
    return Path(named).absolute() if named else None
