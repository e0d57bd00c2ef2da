"""`av cache`: the node-local cache of shards of a lake in a bucket.

Belongs here: arguments and printing. Does not belong here: the cache (`resources.shard_cache`).
"""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from av_assets.cli.lake import open_lake
from av_assets.cli.logs import json_option, path_argument
from av_assets.domain.errors import AvError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from av_assets.domain.evidence.manifest import Manifest
    from av_assets.domain.loading.sources import ShardRef
    from resources.lake import Lake
    from resources.shard_cache.cache import ShardCache
    from resources.shard_cache.preload import Preloading
    from resources.shard_cache.room import Took

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST_LIST = 64 << 20

_list_option = click.option(
    "--list", "listed", type=path_argument, help="A file with one sha256 on each line ('-': standard input)."
)
_match_option = click.option("--match", "patterns", multiple=True, help="Of a bundle, paths like this only.")
_names_argument = click.argument("names", nargs=-1, metavar="[DIGEST | ASSET/PARTITION | DATASET]...")


@click.group()
def cache() -> None:
    """Shards of a bucket, kept on this machine's disk: what is there, fill it, pin, evict, verify."""


@cache.command("status")
@json_option
@click.option("--prometheus", is_flag=True, help="Print the metrics as Prometheus reads them.")
def show_status(as_json: bool, prometheus: bool) -> None:
    """What lies in the cache, how often that helped, and how long files took."""
    from resources.shard_cache.report import as_dict, as_prometheus, lines

    stats = _cache(open_lake()).stats()
    if prometheus:
        click.echo(as_prometheus(stats), nl=False)
    elif as_json:
        click.echo(json.dumps(as_dict(stats)))
    else:
        click.echo("\n".join(lines(stats)))


@cache.command("preload")
@click.argument("bundle", metavar="ASSET/PARTITION|DATASET")
@_match_option
@click.option("--pin", is_flag=True, help="Never evict these files afterwards.")
@click.option("--threads", type=click.IntRange(1, 64), help="Fetches at a time.  [policy cache]")
@json_option
def preload(bundle: str, patterns: tuple[str, ...], pin: bool, threads: int | None, as_json: bool) -> None:
    """Fetch the files of a bundle (synced_shards/DRIVE) or dataset (golden@1.0.0), and predict when that is done."""
    lake = open_lake()
    refs = _refs(lake, bundle, patterns)
    last = _watched(_cache(lake).preload(refs, pin=pin, threads=threads))
    said = {
        "files": len({ref.sha256 for ref in refs}),
        "bytes": last.bytes_total if last else 0,
        "seconds": round(last.elapsed_s, 3) if last else 0.0,
        "pinned": pin,
    }
    if as_json:
        click.echo(json.dumps(said))
        return
    click.echo(f"{said['files']} files, {said['bytes'] / 1e6:,.1f} MB here after {said['seconds']:.1f} s")


@cache.command("pin")
@_names_argument
@_match_option
@_list_option
@json_option
def pin(names: tuple[str, ...], patterns: tuple[str, ...], listed: Path | None, as_json: bool) -> None:
    """Never evict these files, whether they are here or come later."""
    lake = open_lake()
    digests = _digests(lake, names, patterns, listed)
    _cache(lake).pin(digests)
    click.echo(json.dumps({"pinned": len(digests)}) if as_json else f"{len(digests)} files pinned")


@cache.command("unpin")
@_names_argument
@_match_option
@_list_option
@json_option
def unpin(names: tuple[str, ...], patterns: tuple[str, ...], listed: Path | None, as_json: bool) -> None:
    """Let these files be evicted again."""
    lake = open_lake()
    digests = _digests(lake, names, patterns, listed)
    _cache(lake).unpin(digests)
    click.echo(json.dumps({"unpinned": len(digests)}) if as_json else f"{len(digests)} files unpinned")


@cache.command("evict")
@_names_argument
@_match_option
@_list_option
@click.option("--all", "everything", is_flag=True, help="All that is here.")
@click.option("--pinned-too", is_flag=True, help="Unpin and evict pinned files as well.")
@json_option
def evict(
    names: tuple[str, ...],
    patterns: tuple[str, ...],
    listed: Path | None,
    everything: bool,
    pinned_too: bool,
    as_json: bool,
) -> None:
    """Remove these files, but none that is in use; the lake keeps them."""
    lake = open_lake()
    found = _cache(lake)
    digests = found.digests() if everything else _digests(lake, names, patterns, listed)
    took = found.evict(digests, pinned_too=pinned_too)
    click.echo(json.dumps(_said(took)) if as_json else _told(took))


@cache.command("verify")
@click.option("--share", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Of the files.")
@click.option("--lake", "against_lake", is_flag=True, help="Also remove files that the lake no longer has.")
@json_option
def verify(share: float, against_lake: bool, as_json: bool) -> None:
    """Read all bytes of the cached files; bad ones are removed, and fetched again when they are used.

    Exit code 1 if one was bad.
    """
    lake = open_lake()
    cached = _cache(lake)
    found = cached.verify(share)
    lost = cached.forget(_lost(lake, cached)) if against_lake else ()
    if as_json:
        said = {"files": found.files, "bytes": found.bytes, "bad": list(found.bad), "not_in_lake": list(lost)}
        click.echo(json.dumps(said))
    else:
        click.echo(f"{found.files} files, {found.bytes / 1e6:,.1f} MB read: {len(found.bad)} bad")
        for sha256 in found.bad:
            click.echo(f"  {sha256}  removed")
        for sha256 in lost:
            click.echo(f"  {sha256}  is no longer in the lake: removed")
    sys.exit(1 if found.bad else 0)


def _lost(lake: Lake, cached: ShardCache) -> list[str]:
    """Cached files whose object is gone from the lake: erased, or collected as garbage."""
    from resources.object_keys import object_key

    return [sha256 for sha256 in cached.digests() if lake.store.size(object_key(sha256)) is None]


def _cache(lake: Lake) -> ShardCache:
    from resources.shard_cache.sources import node_cache

    return node_cache(lake)


def _watched(steps: Iterable[Preloading]) -> Preloading | None:
    """The last step; each is shown where somebody is looking."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console, last = Console(stderr=True), None
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("", total=None)
        for last in steps:
            bar.update(task, completed=last.bytes, total=last.bytes_total, description=_until(last))
    return last


def _until(step: Preloading) -> str:
    if step.left_s is None:
        return "not yet known when done"
    done = datetime.now(UTC) + timedelta(seconds=step.left_s)
    return f"done in {step.left_s:,.0f} s, at {done:%H:%M:%S} UTC"


def _refs(lake: Lake, name: str, patterns: tuple[str, ...]) -> list[ShardRef]:
    from resources.shard_cache.sources import shard_refs

    refs = shard_refs(_manifest(lake, name), *patterns)
    if not refs:
        raise AvError(
            f"{name} has no such file", code="nothing_matches", remedy="name other files with --match"
        )
    return refs


def _manifest(lake: Lake, name: str) -> Manifest:
    from resources.datasets import resolve

    asset, slash, partition = name.partition("/")
    return lake.require(asset, partition) if slash else resolve(lake, name).manifest


def _digests(lake: Lake, names: tuple[str, ...], patterns: tuple[str, ...], listed: Path | None) -> list[str]:
    found = _from_list(listed) if listed is not None else []
    for name in names:
        found += [name] if _DIGEST.fullmatch(name) else [ref.sha256 for ref in _refs(lake, name, patterns)]
    if not found:
        raise click.UsageError("say what: digests, ASSET/PARTITION, a dataset, or --list FILE")
    return list(dict.fromkeys(found))


def _from_list(path: Path) -> list[str]:
    """Digests, one on each line; what follows them on the line is for people, as sha256sum writes it."""
    with click.open_file(str(path), encoding="utf-8") as file:
        text = file.read(_LONGEST_LIST + 1)
    if len(text) > _LONGEST_LIST:
        raise AvError("the list is longer than 64 MiB", code="list_too_long", file=path)
    words = [line.split()[0] for line in text.splitlines() if line.strip()]
    for number, word in enumerate(words, 1):
        if not _DIGEST.fullmatch(word):
            raise AvError(f"entry {number} is not a sha256: {word[:80]!r}", code="bad_digest", file=path)
    return words


def _said(took: Took) -> dict[str, Any]:
    return {
        "evicted": list(took.evicted),
        "in_use": list(took.in_use),
        "pinned": list(took.pinned),
        "absent": list(took.absent),
    }


def _told(took: Took) -> str:
    kept = f"{len(took.in_use)} in use and {len(took.pinned)} pinned stay, {len(took.absent)} were not here"
    return f"{len(took.evicted)} files evicted; {kept}"


COMMANDS = (cache,)
