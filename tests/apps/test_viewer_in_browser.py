"""The viewer in a real browser: what is painted, told, measured and windowed is what Python says."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import expect

import ttr
from tests.tools.app_page import PICTURE, changed, screenshot, select, upload
from tests.tools.dicom_files import write
from ttr.apps.image.inspection import inspect
from ttr.datasets.dicom.radiograph import Window, windowed
from ttr.datasets.registry import open_image, sample_paths
from ttr.drawing.maps import ATTENTION_MAP, colourise
from ttr.drawing.regions import BOX, CONTOURS, boxes, edges, shares

pytestmark = pytest.mark.browser
READOUT = "#maps .ttr-readout"


@pytest.fixture(scope="module")
def found(phantom):
    return inspect(
        phantom, ttr.RegisterNeurons.from_pairs(phantom.planted), open_image(sample_paths()["chest"])
    )


@pytest.fixture
def viewer(page):
    """The page's viewer, as it is when one comes."""
    for widget, name in (("view", "both"), ("compare-style", "squares"), ("compare-scale", "shared")):
        page.locator(f"#{widget}").get_by_role("radio", name=name).check()
    page.locator("#maps .ttr-frame").first.dblclick()
    page.locator("#maps [data-tool=pan]").click()
    yield page
    lay(page, "large values show")
    page.locator("#compare-log").get_by_role("radio", name="linear").check()
    page.locator("#compare-opacity input[type=range]").fill("90")
    page.keyboard.press("Escape")


def lay(page, name):
    page.locator("#compare-laid input").click()
    page.get_by_role("option", name=name).click()


def painted(page, selector):
    """Return the pixels of canvases, [H, W, 4] each."""
    raw = page.evaluate(
        """selector => [...document.querySelectorAll(selector)].map(each =>
            [each.height, each.width,
             [...each.getContext("2d").getImageData(0, 0, each.width, each.height).data]])""",
        selector,
    )
    return [np.array(data, dtype=np.uint8).reshape(height, width, 4) for height, width, data in raw]


def lines(page, selector, *attributes):
    """Return attributes of what is drawn over each map."""
    return page.evaluate(
        """([selector, names]) => [...document.querySelectorAll("#maps .ttr-lines")].map(
            (each) => [...each.querySelectorAll(selector)].map(
                (line) => names.map((name) => line.getAttribute(name))))""",
        [selector, attributes],
    )


def middle(page, row, column, rows=14, columns=14):
    """Return where the middle of a patch is on the screen, of a map over all of what the model saw."""
    box = page.locator("#maps .ttr-before .ttr-map").bounding_box()
    x = box["x"] + (column + 0.5) / columns * box["width"]
    return x, box["y"] + (row + 0.5) / rows * box["height"]


def told(page):
    return [float(each) for each in re.findall(r"-?\d[\d.]*(?:e-?\d+)?", page.locator(READOUT).inner_text())]


@pytest.mark.parametrize("log", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_maps_contours_and_boxes_are_those_of_python(viewer, found, log):
    maps = [run.attention_map(5) for run in found.runs]
    high = max(float(each.max()) for each in maps)
    viewer.locator("#compare-log").get_by_role("radio", name="logarithmic" if log else "linear").check()
    lay(viewer, "all values show")
    viewer.locator("#compare-opacity input[type=range]").fill("100")
    lies = [shares(each, 0, high, log=log) for each in maps]
    for pixels, each in zip(painted(viewer, "#maps .ttr-map"), lies, strict=True):
        expected = colourise(each, 1, ATTENTION_MAP, each.shape)
        assert (
            np.abs(pixels[..., :3].astype(int) - expected).max() <= 3
        )  # a colour of 256 beside it, by rounding
        assert (pixels[..., 3] == 255).all()
    lay(viewer, "large values show")
    for pixels, each in zip(painted(viewer, "#maps .ttr-map"), lies, strict=True):
        assert np.abs(pixels[..., 3] - 255 * each).max() <= 1
    lay(viewer, "contours")
    drawn = lines(viewer, "path:not(.ttr-rim)", "d")
    for paths, each in zip(drawn, lies, strict=True):
        for (path,), level in zip(paths, CONTOURS, strict=True):
            sides = {
                (int(x), int(y), int(x) + (way == "h"), int(y) + (way == "v"))
                for x, y, way in re.findall(r"M(\d+) (\d+)([hv])1", path)
            }
            assert sides == set(edges(each, level))
    lay(viewer, "boxes")
    framed = lines(viewer, "rect:not(.ttr-rim)", "x", "y", "width", "height")
    for rects, each in zip(framed, lies, strict=True):
        corners = [tuple(map(int, rect)) for rect in rects]
        assert {(x, y, x + w, y + h) for x, y, w, h in corners} == set(boxes(each, BOX))


def test_pointer_and_keys_tell_the_numbers_of_a_patch_and_its_pixel(viewer, found):
    """Both frames are linked; the pixel is the picture's own."""
    before, after = found.runs
    frame = viewer.locator("#maps .ttr-before .ttr-frame")

    def expected(row, column):
        of_maps = [run.attention_map(5)[row, column] for run in found.runs]
        return [row + 1, column + 1, *of_maps, *(run.norm_map(5)[row, column] for run in found.runs)]

    frame.scroll_into_view_if_needed()
    viewer.mouse.move(*middle(viewer, 3, 9))
    assert told(viewer)[:6] == pytest.approx(expected(3, 9), rel=0.01)
    picture = np.asarray(open_image(sample_paths()["chest"]))[..., 0]
    seen = found.frame
    x = seen.left + 9.5 / 14 * (seen.right - seen.left)
    y = seen.top + 3.5 / 14 * (seen.bottom - seen.top)
    row, column = int(y * picture.shape[0]), int(x * picture.shape[1])
    around = picture[row - 1 : row + 2, column - 1 : column + 2]
    assert around.min() <= told(viewer)[6] <= around.max()
    expect(viewer.locator("#maps .ttr-cursor:visible")).to_have_count(2)
    frame.focus()
    viewer.keyboard.press("ArrowRight")
    viewer.keyboard.press("ArrowDown")
    assert told(viewer)[:6] == pytest.approx(expected(4, 10), rel=0.01)
    viewer.keyboard.press("Enter")
    cells = viewer.locator("#maps .ttr-loupe td").all_inner_texts()
    by_head = [run.attention_map(5, head)[4, 10] for head in range(found.heads) for run in (before, after)]
    assert [float(each) for each in cells] == pytest.approx(by_head, rel=0.01)
    viewer.mouse.move(0, 0)
    viewer.keyboard.press("Escape")
    expect(viewer.locator(READOUT)).to_be_empty()
    expect(viewer.locator("#maps .ttr-loupe")).to_be_hidden()


def test_wheel_drag_and_keys_move_both_frames_and_another_block_keeps_the_place(viewer):
    def planes():
        return viewer.locator("#maps .ttr-plane").evaluate_all("all => all.map(each => each.style.transform)")

    def place():
        first, second = planes()
        assert first == second
        x, y, zoom = (float(each) for each in re.findall(r"-?[\d.]+", first))
        return x, y, zoom

    assert place() == (0, 0, 1)
    at = middle(viewer, 7, 7)
    viewer.mouse.move(*at)
    under = told(viewer)[:2]
    viewer.mouse.wheel(0, -700)
    viewer.wait_for_function("document.querySelector('#maps .ttr-zoom').textContent !== '100%'")
    x, y, zoom = place()
    assert zoom > 2
    viewer.mouse.move(at[0], at[1] + 1)
    assert told(viewer)[:2] == under, "what lies under the pointer stays there"
    viewer.evaluate(
        """() => { const place = document.querySelector("#maps .ttr-zoom"), told = (window.told = []);
            new MutationObserver(() => told.push(place.textContent)).observe(place, { childList: true }); }"""
    )
    viewer.mouse.move(*at)
    viewer.mouse.down()
    viewer.mouse.move(at[0] + 40, at[1] + 20)
    viewer.mouse.up()
    assert viewer.evaluate("window.told") == [], "a screen reader hears no enlargement that stays"
    width = viewer.locator("#maps .ttr-frame").first.bounding_box()["width"]
    moved = place()
    assert moved[0] - x == pytest.approx(100 * 40 / width, abs=0.2)
    assert moved[1] > y
    viewer.locator("#maps .ttr-frame").first.focus()
    viewer.keyboard.press("O")
    changed(viewer, lambda: viewer.keyboard.press("["))
    assert place() == moved
    expect(viewer.locator("#maps .ttr-map").first).to_be_hidden()
    viewer.locator("#maps .ttr-frame").first.focus()
    viewer.keyboard.press("o")
    changed(viewer, lambda: viewer.keyboard.press("]"))
    viewer.locator("#maps .ttr-frame").first.focus()
    viewer.keyboard.press("0")
    assert place() == (0, 0, 1)


def test_another_block_is_painted_before_it_is_answered(viewer, found):
    """Maps, the numbers under the cursor, the scale and the words; the last that was asked for stays."""
    held, holds = [], [True]
    viewer.route("**/run/predict", lambda route: held.append(route) if holds else route.continue_())
    frame = viewer.locator("#maps .ttr-before .ttr-frame")
    frame.focus()
    viewer.keyboard.press("ArrowRight")
    for _ in range(2):
        viewer.keyboard.press("[")
    maps = [run.attention_map(3) for run in found.runs]
    square = [run.attention_map(3)[7, 7] for run in found.runs]

    def check():
        high = max(float(each.max()) for each in maps)
        for pixels, each in zip(painted(viewer, "#maps .ttr-map"), maps, strict=True):
            assert np.abs(pixels[..., 3] - 0.9 * 255 * shares(each, 0, high)).max() <= 1
        assert told(viewer)[2:4] == pytest.approx(square, rel=0.01)
        assert float(viewer.locator("#maps .ttr-ticks span").last.inner_text()) == pytest.approx(
            high, rel=0.05
        )
        assert "block 3" in frame.get_attribute("aria-label")

    check()
    ahead = viewer.locator("#maps ttr-view[data-ahead]")
    expect(ahead).to_have_count(1)
    holds.clear()
    for route in held:
        route.continue_()
    expect(ahead).to_have_count(0)
    check()
    for _ in range(2):
        viewer.keyboard.press("]")
    expect(ahead).to_have_count(0)
    viewer.unroute("**/run/predict")


def check_keys_window_and_measure(page, frame):
    """Keys alone: a window, a length in millimetres, and all as it was; the page stays where it is."""
    boxes = [page.get_by_label(name, exact=True) for name in ("Centre", "Width")]
    frame.focus()
    before = page.evaluate("scrollY")
    for key in ("w", "ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    for box, value in zip(boxes, ("18", "441"), strict=True):
        expect(box).to_have_value(value)
    expect(page.locator(READOUT)).to_contain_text("Window 18 / 441")
    for key in ("m", "ArrowDown", "Enter", *["ArrowRight"] * 20):
        page.keyboard.press(key)
    expect(page.locator(READOUT)).to_contain_text("17.9 mm")  # 20 hundredths of 128 pixels of 0.7 mm
    expect(page.locator(READOUT)).to_have_attribute("aria-live", "polite")
    page.keyboard.press(" ")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#maps .ttr-length").first).to_have_text("17.9 mm")
    assert page.evaluate("scrollY") == before
    page.keyboard.press("Escape")
    expect(page.locator("#maps .ttr-length").first).to_be_hidden()
    page.keyboard.press("0")
    for box, value in zip(boxes, ("40", "400"), strict=True):
        expect(box).to_have_value(value)
    page.keyboard.press("p")


def test_a_ct_is_windowed_by_dragging_measured_in_millimetres_and_applied(viewer, tmp_path):
    stored = np.add.outer(np.arange(128), np.arange(128)).astype(np.uint16) * 8
    fields = {"Modality": "CT", "RescaleIntercept": -1024, "RescaleSlope": 1, "PixelSpacing": [0.7, 0.7]}
    file = write(tmp_path / "a.dcm", stored, WindowCenter=40, WindowWidth=400, **fields)
    changed(viewer, lambda: upload(viewer, file), PICTURE)
    viewer.wait_for_selector("#maps ttr-view[data-ready]")
    first, _ = painted(viewer, "#maps .ttr-photo")
    frame = viewer.locator("#maps .ttr-before .ttr-frame")
    check_keys_window_and_measure(viewer, frame)
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    at = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    viewer.mouse.move(*at)
    assert viewer.locator(READOUT).inner_text().endswith("HU")
    pixel = int(box["width"] / 4 / box["width"] * 128) + 64
    assert told(viewer)[6] == pytest.approx(8 * pixel - 1024, abs=16)
    viewer.locator("#maps [data-tool=window]").click()
    viewer.mouse.move(*at)
    viewer.mouse.down()
    viewer.mouse.move(at[0] + 60, at[1] - 30, steps=3)
    viewer.mouse.up()
    center, width = (
        int(float(viewer.get_by_label(name, exact=True).input_value())) for name in ("Centre", "Width")
    )
    assert (center, width) == (-160, 800)
    note = viewer.locator("#maps .ttr-window-note")
    expect(note).to_contain_text("Shown in the window -160 / 800. The model saw 40 / 400")
    shown, other = painted(viewer, "#maps .ttr-photo")
    np.testing.assert_array_equal(shown, other)
    expected = windowed(stored.astype(float) - 1024, Window("", center, width), "LINEAR_EXACT")
    assert np.abs(shown[..., 0].astype(int) - expected).max() <= 1
    viewer.locator("#maps [data-tool=ruler]").click()
    viewer.mouse.move(*at)
    viewer.mouse.down()
    viewer.mouse.move(at[0] + box["width"] / 2, at[1])
    viewer.mouse.up()
    length, measured = viewer.locator("#maps .ttr-length").first, re.compile(r"^44\.[5-9] mm|45\.[0-1] mm$")
    expect(length).to_have_text(measured)
    label = length.bounding_box()
    assert box["x"] <= label["x"]
    assert label["x"] + label["width"] <= box["x"] + box["width"], "whole, and on the picture"
    screenshot(viewer, "viewer-ct")
    changed(viewer, viewer.get_by_role("button", name="Apply this window").click, PICTURE)
    expect(note).to_be_hidden()
    expect(length).to_have_text(measured)
    viewer.wait_for_selector("#maps ttr-view[data-ready]")
    assert np.abs(painted(viewer, "#maps .ttr-photo")[0][..., 0].astype(int) - expected).max() <= 2
    assert (painted(viewer, "#maps .ttr-photo")[0] != first).any()


@pytest.mark.slow  # which these are is held in tests/apps/tabs/test_compare.py
def test_what_a_tab_has_no_use_for_is_disabled(viewer):
    for name, use in (("Norms", False), ("Attention", True)):
        viewer.get_by_role("tab", name=name, exact=True).click()
        for widget in ("#head input", "#query input"):
            (
                expect(viewer.locator(widget)).to_be_enabled
                if use
                else expect(viewer.locator(widget)).to_be_disabled
            )()
        expect(viewer.locator("#layer input[type=range]")).to_be_enabled()
    for name, use in (("contours", False), ("all values show", True)):
        lay(viewer, name)
        expect(viewer.locator("#compare-opacity input[type=range]")).to_be_enabled(enabled=use)


def test_two_fingers_enlarge_on_a_telephone_and_one_scrolls_the_page(telephone):
    select(telephone, "Compare")
    frame = telephone.locator("#maps .ttr-frame").first
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    assert frame.evaluate("each => getComputedStyle(each).touchAction") == "pan-y"
    client = telephone.context.new_cdp_session(telephone)

    def fingers(kind, apart):
        points = (
            [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        )
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 30)
    for apart in (40, 50, 60, 90):
        fingers("touchMove", apart)
    fingers("touchEnd", None)
    expect(telephone.locator("#maps .ttr-zoom")).to_have_text(re.compile(r"^(2[5-9]|3[0-4])\d%$"))
    assert frame.evaluate("each => getComputedStyle(each).touchAction") == "none"
    telephone.locator("#maps [data-act=reset]").click()
    expect(telephone.locator("#maps .ttr-zoom")).to_have_text("100%")
    assert telephone.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
