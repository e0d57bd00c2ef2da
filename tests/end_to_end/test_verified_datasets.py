"""Once drives are in: labels of people and machines, and what is frozen of them, follow and are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from av_assets.platform import request_run
from av_assets.production import ALL
from tests.end_to_end.conftest import Running
from tests.end_to_end.test_loop import WEEK
from tests.end_to_end.test_search_and_mining import av, with_browser
from tests.end_to_end.test_search_and_mining import drives as drives
from tests.end_to_end.test_views import _pictures, _shown
from tests.end_to_end.test_views import page as page
from tests.end_to_end.test_views import shots as shots

FOLLOWING = ("dataset_archives", "drift_baselines")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def golden(running: Running, drives: list[str]) -> str:
    """The version of the week's dataset, after what follows it was made by itself."""
    if running.lake.manifest("golden_slices", WEEK) is None:
        run_id = request_run(running.platform.url, ["golden_slices"], WEEK)
        running.wait(lambda: running.instance.get_run_by_id(run_id).is_finished, 120)  # type: ignore[union-attr]
    running.wait(lambda: all(running.lake.manifest(a, WEEK) for a in FOLLOWING), 300)
    return running.lake.require("golden_slices", WEEK).content


@pytest.fixture(scope="module")
def reported(running: Running, drives: list[str]) -> list[str]:
    """The drives, after the labeller was judged on all of them by itself."""

    def judged() -> int:
        made = running.lake.manifest("labeller_reports", ALL)
        if made is None or running.lake.signature(made) is None:  # it is signed once it is there
            return 0
        return int(json.loads(running.lake.read_bytes(made, "quality_report.json"))["drives"])

    running.wait(lambda: judged() == len(drives), 240)
    return drives


def metadata(running: Running, asset: str, partition: str | None = None) -> dict[str, Any]:
    key = dg.AssetKey(asset)
    found = running.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None), limit=1
    )
    assert found.records
    materialization = found.records[0].asset_materialization
    assert materialization is not None
    return dict(materialization.metadata)


def test_every_frame_is_labelled_by_two_people_at_least(running: Running, drives: list[str]) -> None:
    counted = av("sql", "SELECT drive, state, count(*) AS frames FROM label_frames GROUP BY drive, state")[
        "rows"
    ]
    final = {row["drive"]: row["frames"] for row in counted if row["state"] == "final"}
    assert set(final) == set(drives)
    for one in av("labels", "status"):
        assert one["frames"] == sum(one["states"].values())
        assert one["spent_minutes"] > 0
    for drive in drives:
        report = json.loads(
            running.lake.read_bytes(running.lake.require("label_submissions", drive), "report.json")
        )
        assert report["simulated"] > 0
        assert {"strata", "most valuable"} <= set(metadata(running, "label_tasks", drive))
        assert metadata(running, "label_submissions", drive)


def test_the_labeller_is_judged_on_all_drives(running: Running, reported: list[str]) -> None:
    made = running.lake.require("labeller_reports", ALL)
    assert {f.path for f in made.files} >= {"quality_report.json", "confusion.png", "reliability.png"}
    assert running.lake.signature(made) is not None


def test_a_frozen_week_is_archived_and_is_what_drift_is_measured_against(
    running: Running, golden: str
) -> None:
    archive = json.loads(
        running.lake.read_bytes(running.lake.require("dataset_archives", WEEK), "archive.json")
    )
    assert archive["version"] == golden
    assert archive["shards"]
    baseline = running.lake.require("drift_baselines", WEEK)
    assert (
        baseline.made_from.inputs[f"golden_slices/{WEEK}"]
        == running.lake.require("golden_slices", WEEK).digest
    )
    for asset in FOLLOWING:
        run_id = _run_of(running, asset)
        running.wait(lambda one=run_id: running.instance.get_run_by_id(one).is_finished, 120)  # type: ignore[misc]
        run = running.instance.get_run_by_id(run_id)
        assert run is not None
        assert run.is_success
        assert "dagster/sensor_name" in run.tags, "nobody asked for it"


def _run_of(running: Running, asset: str) -> str:
    record = running.instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert record is not None
    return record.run_id


def test_a_version_is_named_shown_verified_compared_and_exported(
    running: Running, golden: str, drives: list[str], tmp_path: Path
) -> None:
    assert (
        av("datasets", "tag", "golden", "1.0.0", "--version", golden[:12], "--by", "ada")["version"] == golden
    )
    shown = av("datasets", "show", "golden@1.0.0")
    assert (shown["version"], shown["tags"], shown["drives"]) == (golden, ["1.0.0"], len(drives))
    assert av("datasets", "verify", "golden@1.0.0")["broken"] == []
    changed = av("diff", "golden@1.0.0", f"golden@{golden[:12]}")
    assert (changed["members"]["same"], changed["members"]["added"], changed["labels"]) == (
        len(drives),
        [],
        {},
    )
    report = av("datasets", "export", "golden@1.0.0", "--format", "coco", "--out", str(tmp_path / "coco"))
    assert (report["version"], report["frames"]) == (
        golden,
        sum(c["frames"] for c in shown["counts"].values()),
    )
    boxes = 0
    for path in (tmp_path / "coco").rglob("*.json"):
        content = json.loads(path.read_text())
        boxes += len(content.get("annotations", ()))
    assert boxes == report["boxes"] > 0


@with_browser
@pytest.mark.browser
@pytest.mark.parametrize("asset", ["auto_labels", "verified_labels"])
def test_the_catalog_shows_labels_on_their_pictures(
    page: object, running: Running, drives: list[str], shots: Path, asset: str
) -> None:
    _look(page, running, asset, drives[0], shots)


@with_browser
@pytest.mark.browser
def test_the_catalog_shows_what_was_frozen(page: object, running: Running, golden: str, shots: Path) -> None:
    body = _look(page, running, "golden_slices", WEEK, shots)
    assert golden in body


@with_browser
@pytest.mark.browser
def test_the_catalog_shows_how_good_the_labeller_is(
    page: object, running: Running, reported: list[str], shots: Path
) -> None:
    _look(page, running, "labeller_reports", None, shots)


def _look(page: Any, running: Running, asset: str, partition: str | None, shots: Path) -> str:
    """The page of an asset; every picture that its metadata has opens and is one."""
    told = metadata(running, asset, partition)
    drawn = [
        n
        for n, v in told.items()
        if isinstance(v, dg.MarkdownMetadataValue) and "data:image/png" in (v.value or "")
    ]
    assert drawn
    where = f"?view=partitions&partition={partition}" if partition else "?view=overview"
    body = _shown(page, running, f"/assets/{asset}{where}", drawn[0], asset, shots)
    assert min(_pictures(page, len(drawn))) > 300
    page.get_by_text("Show markdown", exact=False).first.click()
    page.locator("img[src^='data:image/png']").last.wait_for()
    page.wait_for_timeout(1000)
    page.screenshot(path=str(shots / f"{asset}_picture.png"))
    page.keyboard.press("Escape")
    return body
