"""The tabs Prompt map and Marker test in a real browser: what a visitor types and sees, wide and narrow."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.tools.app_page import screenshot, select, violations

WORDS = "Words, separated by commas or lines"
pytestmark = pytest.mark.browser
NARROW = pytest.mark.parametrize("page", ["narrow-dark"], indirect=True)
IN_BOTH = pytest.mark.parametrize(
    "page", ["narrow-dark", pytest.param("wide-light", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture(scope="module", params=["wide-light", "narrow-dark"])
def page(request, visit):
    """A visit that has turned to the phantom which knows words."""
    page = visit() if request.param == "wide-light" else request.getfixturevalue("telephone")
    page.kind = request.param
    select(page, "Compare")
    page.get_by_text("Model and register neurons").click()
    turn_to(page, "phantom-clip")
    return page


def turn_to(page: Page, model: str) -> None:
    """Choose a model, and wait until the page has its numbers."""
    select(page, "Compare")
    page.get_by_label("Model", exact=True).click()
    page.get_by_role("option", name=model, exact=True).click()
    expect(page.locator("#numbers")).to_contain_text(f"{model} ·")


def too_wide(page: Page) -> list[str]:
    """Return what reaches beyond the window, if the page can be scrolled sideways."""
    return page.evaluate(
        """() => document.documentElement.scrollWidth <= window.innerWidth ? [] :
        [...document.querySelectorAll('body *')].filter(e => e.offsetParent !== null
            && e.getBoundingClientRect().right > window.innerWidth + 1)
            .map(e => `${e.tagName} ${e.className} ${Math.round(e.getBoundingClientRect().right)}`)"""
    )


@pytest.mark.slow  # its maps and numbers are held in tests/apps/image/test_prompt_map.py
@IN_BOTH
def test_words_become_maps_with_their_scale_and_numbers(page):
    select(page, "Prompt map")
    page.get_by_label(WORDS).fill("rings, stripes\nL")
    page.get_by_role("button", name="Show where they fit").click()
    maps = page.locator("#prompt-maps")
    expect(maps.get_by_role("application", name=re.compile("^Before: fit of “rings”"))).to_be_visible()
    expect(maps.get_by_role("application", name=re.compile("^After: fit of “rings”"))).to_be_visible()
    expect(maps).to_contain_text("cosine of a patch with “rings”")
    numbers = page.locator("#prompt-numbers")
    expect(numbers.locator("tbody tr")).to_have_count(3)
    expect(numbers).to_contain_text("knows no words")
    page.get_by_label("stripes").check()
    expect(maps.get_by_role("application", name=re.compile("^After: fit of “stripes”"))).to_be_visible()
    screenshot(page, f"prompts-{page.kind}")
    page.get_by_label("difference to the others").check()
    expect(maps).to_contain_text("minus the mean of the others")
    assert too_wide(page) == []
    assert violations(page) == []
    screenshot(page, f"difference-{page.kind}")
    page.get_by_label(WORDS).fill(" , ")
    page.get_by_role("button", name="Show where they fit").click()
    expect(page.locator("#prompt-status").get_by_role("alert")).to_contain_text("There are no words")


@IN_BOTH
@pytest.mark.slow  # its numbers are held in tests/apps/tabs/test_attribution.py
def test_a_finding_is_outlined_and_held_against_the_map_of_words(page):
    """What is drawn is what the page takes: two corners, in pixels of the picture."""
    select(page, "Attribution")
    picture = page.locator("#outline-picture .ttr-drawn")
    picture.scroll_into_view_if_needed()
    place = picture.bounding_box()

    def at(share):
        return place["x"] + share * place["width"], place["y"] + share * place["height"]

    page.mouse.move(*at(0.75))
    page.mouse.down()
    page.mouse.move(*at(0.25))
    page.mouse.up()
    expect(page.locator("#outline-picture .ttr-outline")).to_be_visible()
    pixels = [float(picture.get_attribute(f"data-{side}")) for side in ("width", "height")]
    sides = ("left", "top", "right", "bottom")
    corners = [float(page.locator(f"#outline-{side} input").input_value()) for side in sides]
    wanted = [share * side for share in (0.25, 0.75) for side in pixels]
    assert corners == pytest.approx(wanted, abs=pixels[0] / place["width"] + 1)
    page.locator("#attribution-method input").click()
    page.get_by_role("option", name="legrad", exact=True).click()
    expect(page.locator("#attribution-said")).to_contain_text("no block, head or class can be chosen")
    expect(page.locator("#attribution-block input[type=range]")).to_be_disabled()
    page.get_by_label("Words", exact=True).fill("rings")
    page.get_by_role("button", name="Show where it looks").click()
    maps = page.locator("#attribution-maps")
    expect(maps.get_by_role("application", name=re.compile("^After: legrad for “rings”"))).to_be_visible()
    expect(maps.locator(".ttr-outline")).to_have_count(2)
    expect(page.locator("#attribution-numbers tbody tr")).to_have_count(5)
    assert too_wide(page) == []
    assert violations(page) == []
    screenshot(page, f"attribution-{page.kind}")


@NARROW
@pytest.mark.slow
def test_what_was_asked_stays_with_its_image_and_goes_with_it(page):
    select(page, "Prompt map")
    page.get_by_label(WORDS).fill("hip")
    page.get_by_role("button", name="Show where they fit").click()
    expect(page.get_by_label("hip", exact=True)).to_be_checked()
    maps = page.locator("#prompt-maps .ttr-pair")
    expect(maps).to_be_visible()
    select(page, "Marker test")
    select(page, "Prompt map")
    page.wait_for_timeout(500)
    expect(maps).to_be_visible()
    select(page, "Compare")
    old = page.locator("#maps ttr-view").get_attribute("data-json")
    page.get_by_role("button", name="Sample: fundus").click()
    expect(page.locator("#maps ttr-view")).not_to_have_attribute("data-json", old)
    select(page, "Prompt map")
    expect(maps).to_have_count(0)
    expect(page.locator("#prompt-status")).to_contain_text("Type what to look for")


@IN_BOTH
@pytest.mark.slow  # what it says is held in tests/apps/image/test_marker.py
def test_a_marker_is_burnt_in_and_answered(page):
    select(page, "Marker test")
    expect(page.locator("#marker-status")).to_contain_text("Choose a marker")
    page.get_by_label("PORTABLE").check()
    page.get_by_label("bottom right").check()
    page.get_by_label("Answers to choose from").fill("rings, stripes")
    page.get_by_role("button", name="Burn it in").click()
    numbers = page.locator("#marker-numbers")
    expect(numbers).to_contain_text("Clean, and marked with “PORTABLE”, bottom right")
    expect(page.locator("#marker-verdict")).to_contain_text("follow the marker")
    expect(numbers.locator("tbody tr")).to_have_count(6)
    expect(numbers).to_contain_text("This backbone is a phantom")
    assert "50.5" not in numbers.locator("table").inner_text()
    expect(numbers.locator(".ttr-published")).to_contain_text("Published, on natural images")
    expect(page.locator("#marker-maps .ttr-pair")).to_have_count(2)
    expect(page.locator("#marker-maps .ttr-mark").first).to_be_visible()
    assert too_wide(page) == []


@IN_BOTH
@pytest.mark.slow  # a hundred passes, and the rules for readers over all of it
def test_a_marker_is_tried_in_every_place(page):
    select(page, "Marker test")
    page.get_by_label("Answers to choose from").fill("rings, stripes")
    page.get_by_role("button", name="Try all markers in all corners").click()
    places = page.locator("#marker-places")
    expect(places).to_contain_text("All 16 places on this picture")
    expect(places.locator("tbody tr")).to_have_count(2)
    expect(places).to_contain_text("of 16 (")
    assert too_wide(page) == []
    assert violations(page) == []
    screenshot(page, f"marker-{page.kind}")


@NARROW
@pytest.mark.slow
def test_a_model_without_words_says_which_model_has_them(page):
    turn_to(page, "phantom")
    select(page, "Prompt map")
    status = page.locator("#prompt-status")
    expect(status).to_contain_text("it has no text tower")
    expect(status).to_contain_text("ttr app --backbone clip-vit-b-16 --pretrained")
    page.get_by_label(WORDS).fill("bone")
    page.get_by_role("button", name="Show where they fit").click()
    page.wait_for_timeout(300)
    expect(status).to_contain_text("it has no text tower")
    expect(page.locator("#prompt-maps .ttr-pair")).to_have_count(0)
    screenshot(page, f"no-words-{page.kind}")
