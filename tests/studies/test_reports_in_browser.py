"""Every report in a real browser: whole at each width, in the dark, on paper, and readable by everybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.app_page import serious_findings
from tests.tools.report_in_browser import opened
from tests.tools.report_page import held_to_the_design

pytestmark = pytest.mark.browser
#: What sticks out of the window to the right, or is cut by a box that scrolls: figures' own boxes apart.
CUT = """() => [...document.querySelectorAll("body *")]
  .filter((e) => !e.closest("svg, pre, .scroll") && e.clientWidth)
  .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1
    || (e.scrollWidth > e.clientWidth + 1 && e.tagName !== "INPUT"
      && getComputedStyle(e).overflowX !== "visible"))
  .map((e) => `${e.tagName}.${e.className} ${(e.textContent || "").slice(0, 30)}`).slice(0, 5)"""
#: What a paper's width of 182 mm cuts off.
CUT_ON_PAPER = """() => [...document.querySelectorAll("h1, p, li, th, td, figcaption, .plot .main-svg")]
  .filter((e) => e.getBoundingClientRect().right > 689)
  .map((e) => `${e.tagName} ${(e.textContent || "").slice(0, 30)}`).slice(0, 5)"""
#: Words of a figure that leave it.
CUT_IN_FIGURES = """() => [...document.querySelectorAll(".plot")].flatMap((plot) => {
  const box = plot.getBoundingClientRect();
  return [...plot.querySelectorAll(".xtitle, .xtick text")].filter((text) => {
    const own = text.getBoundingClientRect();
    return own.width && (own.left < box.left - 1 || own.right > box.right + 1);
  }).map((text) => text.textContent);
})"""
#: A table that the reader has not opened.
FOLD = """() => {
  const table = document.querySelector(".table"), part = document.createElement("details");
  table.replaceWith(part);
  part.append(table);
}"""
INK = """() => {
  const text = document.querySelector(".plot .xtick text, .plot .ytick text");
  return [getComputedStyle(text).fill, getComputedStyle(document.body).color];
}"""


SLOW = pytest.mark.slow


@pytest.fixture(
    params=["bench", pytest.param("integration", marks=SLOW), pytest.param("ablation", marks=SLOW)]
)
def report(request: pytest.FixtureRequest) -> Path:
    """A table of many columns; slow: many figures, and widgets."""
    folder: Path = request.getfixturevalue(f"small_{request.param}")
    held_to_the_design(folder / "index.html")
    return folder / "index.html"


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "dark"),
        pytest.param(1280, "light", marks=SLOW),
        pytest.param(1920, "light", marks=SLOW),
    ],
)
def test_nothing_is_cut_at_any_width_and_everybody_can_read_it(browser, report, width, scheme):
    with opened(browser, report, width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CUT) == []
        assert page.evaluate(CUT_IN_FIGURES) == []
        assert serious_findings(page) == []
        fill, ink = page.evaluate(INK)
        assert fill == ink


def test_paper_is_light_and_holds_every_column(browser, report, tmp_path):
    with opened(browser, report, 1280, "dark") as page:
        before = page.evaluate("document.querySelector('.plot').clientWidth")
        page.pdf(path=str(tmp_path / "report.pdf"), format="A4")
        assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
        assert page.evaluate("document.querySelector('.plot').clientWidth") == before, (
            "the screen is as it was"
        )
        page.evaluate(FOLD)
        page.set_viewport_size({"width": 688, "height": 900})
        page.emulate_media(media="print", color_scheme="dark")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(CUT_ON_PAPER) == []
        assert page.evaluate(CUT_IN_FIGURES) == []
        assert page.evaluate("getComputedStyle(document.querySelector('.plot')).breakInside") == "avoid"
        assert page.evaluate("document.querySelectorAll('details:has(table):not([open])').length") == 0
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        tables = "[...document.querySelectorAll('table')].map((e) => getComputedStyle(e).display)"
        assert set(page.evaluate(tables)) == {"table"}, "no row is folded into a list"
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        folded = page.evaluate("document.querySelectorAll('details:has(table):not([open])').length")
        assert folded > 0, "the screen is as it was"
