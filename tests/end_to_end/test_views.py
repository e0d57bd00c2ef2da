"""The catalog as a person sees it, in a real browser: the graph, the partitions, the pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def page(running: Running) -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1500, "height": 1100})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def _shown(page: object, running: Running, path: str, text: str, name: str, shots: Path) -> str:
    page.goto(f"{running.platform.url}{path}")  # type: ignore[attr-defined]
    page.get_by_text(text, exact=False).first.wait_for()  # type: ignore[attr-defined]
    page.wait_for_timeout(2500)  # type: ignore[attr-defined]
    page.screenshot(path=str(shots / f"{name}.png"))  # type: ignore[attr-defined]
    return str(page.inner_text("body"))  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def shots(pytestconfig: pytest.Config) -> Path:
    folder = pytestconfig.rootpath / ".pytest_cache" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_catalog_lists_the_families(page: object, running: Running, shots: Path) -> None:
    page.set_viewport_size({"width": 1500, "height": 4000})  # type: ignore[attr-defined]  # it renders what is in view
    body = _shown(page, running, "/assets", "raw_logs", "catalog", shots)
    page.set_viewport_size({"width": 1500, "height": 1100})  # type: ignore[attr-defined]
    assert {"raw_logs", "redacted_clips", "golden_slices", "checkpoints"} <= set(body.split())


def test_lineage_draws_the_groups(page: object, running: Running, shots: Path) -> None:
    body = _shown(page, running, "/asset-groups", "foundations", "lineage", shots)
    assert {"mining", "training", "promotion"} <= set(body.split())


def test_a_drive_shows_its_contact_sheet(page: object, running: Running, shots: Path) -> None:
    drive = running.lake.partitions("redacted_clips")[0]
    _shown(
        page,
        running,
        f"/assets/redacted_clips?view=partitions&partition={drive}",
        drive,
        "redacted_clips",
        shots,
    )
    pictures = page.locator("img[src^='data:image/png']")  # type: ignore[attr-defined]
    links = page.get_by_text("Show markdown", exact=False)  # type: ignore[attr-defined]
    if pictures.count() == 0 and links.count():
        links.first.click()
        pictures.first.wait_for()
        page.screenshot(path=str(shots / "contact_sheet.png"))  # type: ignore[attr-defined]
    assert pictures.count() >= 1
    assert pictures.first.evaluate("image => image.naturalWidth") > 100


def test_an_evaluation_shows_its_curves(page: object, running: Running, shots: Path) -> None:
    release = running.lake.partitions("eval_reports")[0]
    body = _shown(
        page,
        running,
        f"/assets/eval_reports?view=partitions&partition={release}",
        release,
        "eval_reports",
        shots,
    )
    assert "verdict" in body


@pytest.fixture(scope="module")
def drive(running: Running, recorded: Path) -> str:
    """A drive whose shards are made: one that is there, or else one that lands now."""
    if not running.lake.partitions("synced_shards"):
        landed = running.landing.land(min((recorded / "landing").iterdir()))
        running.wait(lambda: running.lake.manifest("synced_shards", landed) is not None, 300)
    return running.lake.partitions("synced_shards")[0]


def _pictures(page: object, links: int) -> list[int]:
    """Widths in pixels of the pictures behind the links of one asset page, opened one after the other."""
    shown = page.get_by_text("Show markdown", exact=False)  # type: ignore[attr-defined]
    assert shown.count() == links
    widths = []
    for number in range(links):
        shown.nth(number).click()
        picture = page.locator("img[src^='data:image/png']").last  # type: ignore[attr-defined]
        picture.wait_for()
        widths.append(int(picture.evaluate("image => image.naturalWidth")))
        page.keyboard.press("Escape")  # type: ignore[attr-defined]
        picture.wait_for(state="detached")
    return widths


def test_the_report_of_a_log_shows_findings_timeline_and_clocks(
    page: object, running: Running, drive: str, tmp_path: Path
) -> None:
    path = f"/assets/log_reports?view=partitions&partition={drive}"
    body = _shown(page, running, path, "rules_passed", "log_reports", tmp_path)
    assert {"verdict", "findings", "timeline", "clocks", "severity", "threshold"} <= set(body.split())
    assert page.locator("table", has_text="skipped").count() >= 1, "a rule that was not asked is told, too"  # type: ignore[attr-defined]
    assert min(_pictures(page, 2)) > 400


def test_redacted_clips_show_their_mode_and_the_second_look(
    page: object, running: Running, drive: str, tmp_path: Path
) -> None:
    path = f"/assets/redacted_clips?view=partitions&partition={drive}"
    body = _shown(page, running, path, "second_look", "redacted_clips", tmp_path)
    assert {"mode", "standard", "cameras", "camera_front", "frames_in"} <= set(body.split())
    if "miss_bound" not in body:
        page.get_by_text("Show JSON", exact=False).first.click()  # type: ignore[attr-defined]
        page.get_by_text("miss_bound", exact=False).first.wait_for()  # type: ignore[attr-defined]
        body = str(page.inner_text("body"))  # type: ignore[attr-defined]
        page.screenshot(path=str(tmp_path / "second_look.png"))  # type: ignore[attr-defined]
    assert "sampled" in body
    assert "flagged_frames" in body


def test_synced_shards_show_their_pairs_of_sensors(
    page: object, running: Running, drive: str, tmp_path: Path
) -> None:
    path = f"/assets/synced_shards?view=partitions&partition={drive}"
    body = _shown(page, running, path, "residuals", "synced_shards", tmp_path)
    assert {"pairs", "streams", "calibration", "reference"} <= set(body.split())
    report = json.loads(
        running.lake.read_bytes(running.lake.require("synced_shards", drive), "sync_report.json")
    )
    assert report["pairs"]
    assert all(name in body for name in report["pairs"])
    assert _pictures(page, 1)[0] > 400
