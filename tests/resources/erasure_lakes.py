"""Lakes to erase from: small, with bytes of each drive that can be found again wherever they lie."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.erasure.requests import Request, Scope
from av_assets.domain.evidence.digests import sha256_bytes
from av_assets.domain.evidence.manifest import MadeFrom, Manifest
from av_assets.domain.search.rows import index_schema
from av_assets.erasure.extent import Installation
from av_assets.erasure.places import Places
from av_assets.policies.mining import ACCEPTED_FOLDER, MiningSpec, dump_specs, load_specs
from av_assets.policies.retention import RetentionPolicy
from resources.lake import Lake
from resources.landing import Landing
from resources.shard_cache.files import Layout
from resources.vectors import vectors

POLICY = RetentionPolicy.load()
WEEK, NIGHT = "2025-06-02", "2025-06-09"
MAKER = "clips-0123456789abcdef-0123456789abcdef"


def mark(drive: str) -> bytes:
    """Bytes that nothing but this drive has, and that look like nothing else."""
    return f"<<{sha256_bytes(drive.encode())[:40]}>>".encode()


def words(drive: str) -> str:
    return mark(drive).decode()


def asking(*drives: str) -> Request:
    return Request(
        scope=Scope(drives=drives), by="a person", reason="they asked", legal_basis="GDPR Art. 17(1)(a)"
    )


def installation(lake: Lake, home: Path) -> Installation:
    found = Places(
        Landing(path=str(home / "landing")),
        {"truth": home / "truth", "labels": home / "labels"},
        home / "work",
        home / "wandb",
        home / "cache" / "shards",
        home / "policies" / ACCEPTED_FOLDER,
    )
    return Installation(lake, POLICY, found)


def publish(lake: Lake, asset: str, partition: str, files: dict[str, bytes], *inputs: Manifest) -> Manifest:
    made_from = MadeFrom(inputs={f"{m.asset}/{m.partition}": m.digest for m in inputs})
    with lake.workdir() as folder:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return lake.publish(asset, partition, folder, made_from=made_from)


def add_drive(lake: Lake, home: Path, drive: str, *, versions: int = 1) -> Manifest:
    """Bundles with some history, rows, vectors and files in all places; gives the labels."""
    said, same = mark(drive), b"the calibration of every vehicle"
    raw = publish(lake, "raw_logs", drive, {"log.mcap": said * 50, "calibration.json": same})
    shards = raw
    for number in range(versions):
        files = {"clips/00000.parquet": said + b"clip %d" % number, "calibration.json": same}
        shards = publish(lake, "synced_shards", drive, files, raw)
    publish(lake, "clip_embeddings", drive, {"embeddings.parquet": said + b"vectors"}, shards)
    people = {"labels.parquet": said + b"labels", "cuboids.parquet": said + b"cuboids"}
    labels = publish(lake, "verified_labels", drive, people, shards)
    found = {"predictions/00000.parquet": said + b"boxes", "ledger.json": words(drive).encode()}
    publish(lake, "pool_predictions", drive, found, shards)
    write_rows(lake, drive)
    cache_files(home, shards)
    accept_specs(home, drive)
    for place in (f"landing/{drive}/log.mcap", f"landing/.{drive}.0123/log.mcap", f"truth/{drive}/boxes.parquet",
                  f"labels/returned/{drive}/a.json", f"labels/gold/{drive}.json", f"wandb/run-x.{drive}/media.bin",
                  f"work/tmp-{drive}/half"):  # fmt: skip
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        (home / place).write_bytes(said + drive.encode() + place.encode())
    lake.store.put(f"segments/auto_labels/{drive}/0/part/rest", said)
    return labels


def cache_files(home: Path, shards: Manifest) -> None:
    """What the shard cache of this machine holds of the shards: a pinned file, and a half that is being fetched."""
    layout, shard = Layout(home / "cache" / "shards"), shards.entry("clips/00000.parquet")
    layout.make()
    layout.object(shard.sha256).parent.mkdir(exist_ok=True)
    layout.object(shard.sha256).write_bytes(mark(shards.partition) + b"clip")
    layout.pin(shard.sha256).touch()
    layout.incoming(shard.sha256, shard.bytes).write_bytes(mark(shards.partition)[:20])


def accept_specs(home: Path, drive: str) -> None:
    """A mining spec like a clip of the drive, in a file of its own, and in one with the specs of other drives."""
    name, folder = f"as-{sha256_bytes(drive.encode())[:8]}", home / "policies" / ACCEPTED_FOLDER
    spec = MiningSpec(name=name, like=f"{drive}/00000", why=words(drive), budget=1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(dump_specs([spec]))
    together = folder / "together.yaml"
    others = load_specs(together) if together.is_file() else [MiningSpec(name="rain", budget=1)]
    together.write_text(f"# as in {drive}/00003\n{dump_specs([*others, spec])}")


def write_rows(lake: Lake, drive: str) -> None:
    lake.tables.replace("drives", pa.table({"drive": [drive], "vehicle": ["v1"], "start_ns": [10], "end_ns": [20],
                                            "note": [words(drive)]}), key="drive", value=drive)  # fmt: skip
    clips = pa.table({"clip_id": [f"{drive}/00000"], "owner": [drive], "note": [words(drive)]})
    lake.tables.replace("clip_notes", clips, key="owner", value=drive)
    table = vectors(lake).create(MAKER, 4)
    schema = index_schema(4)
    row = {field.name: _value(field, drive) for field in schema}
    table.write(pa.Table.from_pylist([row], schema=schema))


def _value(field: pa.Field, drive: str) -> object:
    if field.name in ("drive", "clip_id", "text"):
        return {"drive": drive, "clip_id": f"{drive}/00000", "text": words(drive)}[field.name]
    if field.name == "vector":
        return [0.1, 0.2, 0.3, 0.4]
    if pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
        return []
    return "x" if pa.types.is_string(field.type) else 0


def add_fleet(lake: Lake, labels: list[Manifest]) -> Manifest:
    """A dataset over the drives, what was learned from it, and what reads tables."""
    drives = [m.partition for m in labels]
    files = golden_files(drives) | {"dataset.json": json.dumps(drives).encode(), "leaks.json": b"[]"}
    golden = publish(lake, "golden_slices", WEEK, files, *labels)
    checkpoint = publish(lake, "checkpoints", "r1", {"checkpoint.pt": b"weights"}, golden)
    bundle = publish(lake, "model_bundles", "r1", {"model.onnx": b"graph"}, checkpoint)
    pictures = b"".join(mark(d) for d in drives)
    publish(lake, "eval_reports", "r1", {"examples.png": pictures}, golden, bundle)
    publish(lake, "similarity_index", "all", {"neighbours.png": pictures + b"index"})
    publish(lake, "trigger_policies", "all", {"versions.json": b"{}"})
    rows = pa.table({"day": [WEEK] * len(drives), "said": [words(d) for d in drives]})
    lake.tables.replace("coverage", rows, key="day", value=WEEK)
    publish(lake, "coverage_ledgers", WEEK, {"fleet.png": pictures + b"fleet"})
    add_sweep(lake, golden, drives)
    add_failures(lake, drives)
    return golden


def golden_files(drives: Iterable[str]) -> dict[str, bytes]:
    """Of each drive what its labels hold, byte by byte."""
    return {
        f"drives/{d}/{n}.parquet": mark(d) + n.encode() for d in sorted(drives) for n in ("labels", "cuboids")
    }


def add_sweep(lake: Lake, golden: Manifest, drives: Iterable[str]) -> None:
    """A sweep over a dataset; its pictures and rows tell of the drives."""
    told = b"".join(mark(d) for d in drives)
    specs = publish(lake, "sweep_specs", "s1", {"sweep.yaml": b"trials: 1"}, golden)
    trial = publish(lake, "sweep_trials", "s1.0", {"curves.png": told + b"curves"}, golden, specs)
    rows = pa.table({"sweep": ["s1"], "metrics": [told.decode()]})
    lake.tables.replace("sweep_leaderboards", rows, key="sweep", value="s1")
    publish(lake, "sweep_reports", "s1", {"history.png": told + b"history"}, specs, trial)


def add_failures(lake: Lake, drives: Iterable[str]) -> None:
    """Where the model fails, over all predictions, with specs to mine more of it."""
    drives = list(drives)
    found = [lake.require("pool_predictions", d) for d in drives]
    files = {f"next_specs/as-{n}.yaml": words(d).encode() for n, d in enumerate(drives)}
    publish(lake, "failure_buckets", NIGHT, {"kinds.png": b"kinds", **files}, *found)
    cases = pa.table({"day": [NIGHT] * len(drives), "said": [words(d) for d in drives]})
    lake.tables.replace("failure_cases", cases, key="day", value=NIGHT)


def everything(lake: Lake, home: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file of the lake and the home, hidden ones too."""
    for parent, _, names in os.walk(home):
        for name in names:
            yield str(Path(parent, name)), Path(parent, name).read_bytes()
    if lake.uri.startswith("s3://"):
        for entry in lake.store.entries(""):  # type: ignore[union-attr]
            yield entry.key, lake.store.get(entry.key) or b""


def mentions(lake: Lake, home: Path, said: bytes, digests: set[str]) -> list[str]:
    """Files with those bytes, plain or as a cell of Parquet, or that are or are called an object of those digests."""
    found = []
    for name, data in everything(lake, home):
        called = Path(name).name.partition(".")[0] in digests
        if called or said in data or sha256_bytes(data) in digests or said.decode() in _cells(data):
            found.append(name)
    return found


def _cells(data: bytes) -> str:
    if data[:4] != b"PAR1":
        return ""
    try:
        return str(pq.read_table(pa.BufferReader(data)).to_pylist())
    except (pa.ArrowException, OSError):
        return ""
