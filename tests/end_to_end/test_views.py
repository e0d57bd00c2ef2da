"""The catalog as a person sees it, in a real browser: the graph, the partitions, the pictures."""

from __future__ import annotations

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
    body = _shown(page, running, "/assets", "raw_logs", "catalog", shots)
    assert "redacted_clips" in body


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
