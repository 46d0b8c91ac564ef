"""A stack in a real browser: each slice at once, its maps once it stays, and none over another slice."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.tools.app_page import select, upload
from tests.tools.dicom_files import write

pytestmark = pytest.mark.browser
SLICES, SIDE = 5, 48
HERE = "#maps ttr-view[data-ready]:not([data-awaiting]):not([data-loading])"
#: What is seen of the first side: the grey in the middle, whether a map stands over it, and what is said.
SEEN = """() => {
  const view = document.querySelector("#maps ttr-view"), photo = view.querySelector(".ttr-photo");
  const [grey] = photo.getContext("2d").getImageData(photo.width / 2, photo.height / 2, 1, 1).data;
  return [grey, getComputedStyle(view.querySelector(".ttr-map")).visibility === "visible",
    document.querySelector(".ttr-slice").textContent, document.querySelector("#verdict").inert];
}"""


def grey(index):
    return 40 * (index + 1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Slices of one grey each, whose names run against their places."""
    folder = tmp_path_factory.mktemp("stack")
    tags = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SeriesInstanceUID": "1.2.3", "Modality": "CT"}
    window = {"WindowCenter": 128, "WindowWidth": 256}
    return [
        write(
            folder / f"{SLICES - n}.dcm",
            np.pad(np.full((SIDE - 8, SIDE - 8), grey(n), np.uint16), 4),
            ImagePositionPatient=[0, 0, 3 * n],
            **tags,
            **window,
        )
        for n in range(SLICES)
    ]


@pytest.fixture
def stack(page, files):
    """The page on the middle of the stack, its maps there."""
    upload(page, *files)
    page.wait_for_selector("#stack ttr-stack")
    page.wait_for_selector(HERE)
    yield page
    page.get_by_label("Clear").first.click()
    expect(page.locator("ttr-stack, ttr-view")).to_have_count(0)
    select(page, "Compare")


def seen(page, index, has_map):
    """Wait until a slice is seen, and check that its own picture is, and its own map or none."""
    page.wait_for_function(
        f"document.querySelector('.ttr-slice').textContent.startsWith('Slice {index + 1} of {SLICES}')"
        f" && ({SEEN})()[1] === {str(has_map).lower()} && Math.abs(({SEEN})()[0] - {grey(index)}) < 2"
    )
    _, _, said, is_inert = page.evaluate(SEEN)
    assert f": {SLICES - index}.dcm" in said
    assert ("not there yet" in said) == is_inert == (not has_map)


def test_a_slice_is_seen_at_once_and_a_map_never_stands_over_another(stack):
    page, frame = stack, stack.locator("#maps .ttr-before .ttr-frame")
    seen(page, 2, has_map=True)
    held = []
    page.route("**/queue/join*", lambda route: route.continue_() if held else held.append(route))
    frame.hover()
    with page.expect_request("**/queue/join*"):
        page.mouse.wheel(0, 100)
        seen(page, 3, has_map=False)
    told = re.compile(f"Slice 4: its maps are not there yet.*{grey(3)}")
    expect(page.locator("#maps .ttr-readout")).to_have_text(told)
    frame.focus()
    for key, index in (("End", 4), ("Home", 0), ("PageDown", 1), ("PageUp", 0)):
        page.keyboard.press(key)
        seen(page, index, has_map=False)
    held[0].continue_()
    seen(page, 0, has_map=True)
    page.unroute("**/queue/join*")
    expect(page.locator("#picture")).to_contain_text(f"{SLICES}.dcm")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export ZIP").click()
    assert saved.value.suggested_filename == "ttr-study.zip"
    page.keyboard.down("Control")
    frame.hover()
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    assert page.locator("#maps .ttr-zoom").inner_text() != "100%"
    seen(page, 0, has_map=True)


@pytest.mark.slow
def test_a_window_that_is_dragged_or_applied_holds_for_all_slices_and_a_film_plays(stack):
    page, frame = stack, stack.locator("#maps .ttr-before .ttr-frame")
    page.locator("#maps [data-tool=window]").click()
    box = frame.bounding_box()
    page.mouse.move(box["x"] + 90, box["y"] + 90)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 90, steps=3)
    page.mouse.up()
    dragged = page.evaluate("[...ttrViewer.window]")
    shade = "Math.min(255, Math.max(0, 255 * (value - (centre - width / 2)) / width))"
    shaded = f"([value, centre, width]) => Math.abs(({SEEN})()[0] - {shade}) < 3"
    for index, act in ((3, "PageDown"), (4, "PageDown")):
        frame.focus()
        page.keyboard.press(act)
        page.wait_for_function(shaded, arg=[grey(index), *dragged])
    page.get_by_label("Width").fill("1000")
    page.get_by_label("Centre").fill("0")
    page.get_by_role("button", name="Apply this window").click()
    page.wait_for_function(f"Math.abs(({SEEN})()[0] - 255 * ({grey(4)} + 500) / 1000) < 3")
    page.wait_for_selector(HERE)
    page.locator("[data-go=back]").click()
    page.wait_for_function(f"Math.abs(({SEEN})()[0] - 255 * ({grey(3)} + 500) / 1000) < 3")
    page.locator(".ttr-rate").fill("20")
    page.locator("[data-go=play]").click()
    page.wait_for_function("document.querySelector('ttr-stack').shown === 1")
    assert "no maps while it plays" in page.locator(".ttr-slice").inner_text()
    page.locator("[data-go=play]").click()
    page.wait_for_selector(HERE)
    page.locator("[data-go=play]").click()
    select(page, "Attribution")
    page.wait_for_function("!document.querySelector('ttr-stack').playing")
    select(page, "Compare")
    page.wait_for_selector(HERE)


@pytest.mark.slow
def test_a_second_choice_stands_below_the_first_and_moves_with_it(page):
    """Also where it changes alone: what the library strips of the first pair is painted anew."""
    page.get_by_role("button", name="Beside it").click()
    chosen = (("second", "phantom", "1 test-time"), ("second-neurons", "none: blank", "no neurons"))
    here = "([...document.querySelectorAll('#maps ttr-view')].every(each => each.matches('[data-ready]')))"
    for widget, option, said in chosen:
        page.locator(f"#{widget} input").click()
        page.get_by_role("option", name=option, exact=option == "phantom").first.click()
        expect(page.locator("#maps .ttr-second")).to_contain_text(said)
        page.wait_for_function(here)
    photos = page.locator("#maps .ttr-photo")
    widths = photos.evaluate_all("all => all.map(each => each.width)")
    assert len(widths) == 4
    assert len(set(widths)) == 1
    expect(page.locator("#verdict p")).to_have_count(2)
    page.locator("#maps .ttr-frame").first.focus()
    page.keyboard.press("+")
    enlarged = page.locator("#maps .ttr-plane").evaluate_all("all => all.map(each => each.style.transform)")
    assert len(set(enlarged)) == 1
    assert "scale(1.5)" in enlarged[0]
    page.keyboard.press("0")
    page.locator("#second input").click()
    page.get_by_role("option", name="nothing").click()
    expect(page.locator(".ttr-second")).to_have_count(0)
    page.get_by_role("button", name="Beside it").click()
