"""Reports of several runs: links, index, and the pages in a real browser."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from ashneuro.reporting.pages import INDEX, write_pages
from tests.reporting.example import whole_report

REPORT = whole_report()
NAMES = ("graded", "lif", "if <b>")
AXE = os.environ.get("ASHNEURO_AXE", "")  # axe.min.js: npm install axe-core


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of three runs; the third has been neither trained nor compared."""
    folder = tmp_path_factory.mktemp("pages")
    bare = replace(REPORT, evaluations=(), comparison=None, workload=None)
    write_pages(dict(zip(NAMES, (REPORT, REPORT, bare), strict=True)), folder, {"twin": "it has no bundle"})
    return folder


def test_links_lead_to_files_of_the_folder(pages: Path) -> None:
    for page in pages.rglob("*.html"):
        links = re.findall(r'href="([^"#]+)"', page.read_text(encoding="utf-8"))
        local = [unquote(link) for link in links if not link.startswith(("https://", "data:"))]
        assert len(local) >= 3 and all((page.parent / link).is_file() for link in local), page


def test_index_has_a_row_and_a_verdict_per_run(pages: Path) -> None:
    text = (pages / INDEX).read_text(encoding="utf-8")
    assert text.count('<th scope="row">') == 3 and text.count("<dt>") == 3
    assert REPORT.verdict.replace("'", "&#39;") in text and "twin (it has no bundle)" in text
    assert "if <b>" not in text and "if &lt;b&gt;" in text


def test_figures_have_text_alternatives(pages: Path) -> None:
    for page in pages.rglob("*.html"):
        for svg in re.findall(r"<svg[^>]*>", page.read_text(encoding="utf-8")):
            assert 'role="img"' in svg and re.search(r'aria-label(ledby)?="[^"]+"', svg), svg


def test_other_pages_have_no_links_of_runs() -> None:
    from ashneuro.reporting import html

    assert 'aria-label="runs"' not in html.render(REPORT)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium at a width of 400 pixels."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install -e '.[dev]'")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium with its driver (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "no-first-run",
    ):
        options.add_argument(f"--{word}")
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    yield started
    started.quit()


def scheme(browser: Any, value: str) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": value}]}
    )


def test_links_can_be_clicked(browser: Any, pages: Path) -> None:
    browser.get((pages / INDEX).as_uri())
    for name in NAMES:
        browser.find_element("link text", name).click()
        assert browser.current_url == (pages / name / "report.html").as_uri()
        browser.find_element("link text", "All runs").click()
        assert browser.current_url == (pages / INDEX).as_uri()
    browser.find_element("link text", NAMES[0]).click()
    browser.find_element("link text", NAMES[1]).click()
    assert browser.current_url == (pages / NAMES[1] / "report.html").as_uri()


def test_headings_sort(browser: Any, pages: Path) -> None:
    browser.get((pages / INDEX).as_uri())
    names = "return [...document.querySelectorAll('tbody th')].map(each => each.textContent)"
    button = browser.find_element("css selector", "thead button")
    button.click()
    assert browser.execute_script(names) == sorted(NAMES)
    button.click()
    assert browser.execute_script(names) == sorted(NAMES, reverse=True)


@pytest.mark.parametrize("page", [INDEX, "graded/report.html"])
def test_pages_fit_400_pixels(browser: Any, page: str, pages: Path) -> None:
    browser.get((pages / page).as_uri())
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert browser.execute_script("return innerWidth") == 400 and width <= 400


def test_dark_mode(browser: Any, pages: Path) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    browser.get((pages / INDEX).as_uri())
    scheme(browser, "light")
    assert min(browser.execute_script(paper)) > 200
    scheme(browser, "dark")
    assert max(browser.execute_script(paper)) < 60


@pytest.mark.skipif(not Path(AXE).is_file(), reason="ASHNEURO_AXE names no axe.min.js: npm install axe-core")
@pytest.mark.parametrize("value", ["light", "dark"])
@pytest.mark.parametrize("page", [INDEX, "graded/report.html"])
def test_axe_finds_nothing_serious(browser: Any, page: str, value: str, pages: Path) -> None:
    browser.get((pages / page).as_uri())
    scheme(browser, value)
    browser.execute_script(Path(AXE).read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run().then(arguments[0])")["violations"]
    serious = [item for item in found if item["impact"] in ("serious", "critical")]
    assert not serious, [(item["id"], item["nodes"][0]["html"][:200], len(item["nodes"])) for item in serious]
