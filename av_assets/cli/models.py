"""`av model`: bundles of models as files: fetch one, check one, serve one.

Belongs here: arguments and printing. Does not belong here: making bundles (the asset model_bundles).
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from av_assets.cli.lake import open_lake

if TYPE_CHECKING:
    from resources.lake import Lake

ASSET = "model_bundles"
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


@click.group()
def model() -> None:
    """Bundles of models: fetch, check and serve them."""


@model.command()
@click.argument("release")
@click.argument("folder", type=click.Path(path_type=Path))
def fetch(release: str, folder: Path) -> None:
    """Lay the bundle of RELEASE out in the new FOLDER, with its manifest and signature."""
    from av_assets.domain.errors import AvError

    if folder.exists() and any(folder.iterdir()):
        raise AvError(
            "the folder is not empty", code="folder_not_empty", file=folder, remedy="name a new one"
        )
    _lay_out(open_lake(), release, folder)
    click.echo(f"{release} in {folder}; av model check {folder} says whether it is whole")


@model.command()
@click.argument("bundle")
@json_option
def check(bundle: str, as_json: bool) -> None:
    """Verify BUNDLE (a folder made by fetch, or a release), offline. Exit code 1 with the first broken link."""
    import tempfile

    from av_assets.domain.packaging.check import check_bundle
    from resources.signing import trusted_keys

    if Path(bundle).is_dir():
        links = check_bundle(Path(bundle), trusted_keys())
    else:
        with tempfile.TemporaryDirectory() as folder:
            links = check_bundle(_lay_out(open_lake(), bundle, Path(folder)), trusted_keys())
    if as_json:
        click.echo(json.dumps([asdict(link) for link in links]))
    else:
        for link in links:
            click.echo(f"{'whole ' if link.whole else 'BROKEN'}  {link.name}: {link.found}")
    if not links[-1].whole:
        sys.exit(1)


@model.command()
@click.argument("release")
@click.option("--seconds", type=float, help="Stop by itself after so long.")
def serve(release: str, seconds: float | None) -> None:
    """Serve RELEASE by Triton on loopback until interrupted."""
    import tempfile
    import time

    from resources.triton_server import triton_server

    with tempfile.TemporaryDirectory() as folder:
        repository = _lay_out(open_lake(), release, Path(folder)) / "triton"
        with triton_server(repository) as server:
            click.echo(f"grpc {server.grpc}  http {server.http}  metrics {server.metrics}  pid {server.pid}")
            try:
                time.sleep(seconds if seconds is not None else float(1 << 30))
            except KeyboardInterrupt:
                click.echo("stopped")


def _lay_out(lake: Lake, release: str, folder: Path) -> Path:
    from av_assets.domain.errors import AvError
    from av_assets.domain.packaging.check import MANIFEST_FILE, SIGNATURE_FILE

    manifest = lake.require(ASSET, release)
    signature = lake.signature(manifest)
    if signature is None:
        raise AvError(
            f"the bundle of {release} is not signed",
            code="unsigned_bundle",
            remedy=f"materialize {ASSET} for {release} again",
        )
    lake.checkout(manifest, folder)
    (folder / MANIFEST_FILE).write_bytes(manifest.to_json())
    (folder / SIGNATURE_FILE).write_bytes(signature)
    return folder


COMMANDS = (model,)
