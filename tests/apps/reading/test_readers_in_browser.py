"""A reader in a real browser: by keys alone, on a phone, through a killed server, and nobody is asked."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

from tests.tools.app_page import PATIENCE, Record, screenshot, violations
from tests.tools.reader_studies import study_in
from ttr.studies.reading.answers import read_answers

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@contextmanager
def served(folder):
    """Run ``ttr readers serve`` until the block is left, and yield where and as which process."""
    command = [sys.executable, "-u", "-m", "ttr", "readers", "serve", folder, "--no-browser", "--port", "0"]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield re.search(r"http://[\d.:]+", process.stdout.readline()).group(), process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()


def enter(page, address, code):
    page.goto(address)
    page.get_by_label("Your reader code").fill(code)
    page.keyboard.press("Enter")
    page.wait_for_selector("#between:visible, #trial:visible, #done:visible")


def begin(page):
    page.get_by_role("button", name="Begin session").press("Enter")
    stands(page)


def stands(page):
    """Wait until the pictures of a trial stand there, and return what the page knows of it."""
    page.wait_for_function("() => ready && !busy")
    return page.evaluate("now")


def answer(page, now):
    """Answer by keys, and wait for what comes then."""
    keys = ["b"] if now["stage"] == "pair" else ["w", "ArrowRight", *(["4"] if "map" in now["slots"] else [])]
    expect(page.locator("#next")).to_be_disabled()
    for key in keys:
        page.keyboard.press(key)
    expect(page.locator("#next")).to_be_enabled()
    page.keyboard.press("Enter")
    page.wait_for_function("trial => now.trial !== trial && !busy", arg=now["trial"])


def test_a_reader_reads_by_keys_and_goes_on_after_a_kill(page, tmp_path):
    study = study_in(tmp_path, cases=2, readers=1, catch=0.5, repeats=0.0, conditions=("none", "after"))
    record = Record()
    record.watch(page)
    with served(tmp_path) as (address, process):
        enter(page, address, "R1-code")
        assert violations(page) == []
        begin(page)
        kinds = set()
        for _ in range(2):
            now = stands(page)
            if (kind := (now["stage"], len(now["slots"]))) not in kinds:
                kinds.add(kind)
                look(page, f"readers-{kind[0]}-{kind[1]}")
            answer(page, now)
        now = stands(page)
        page.locator("#trial [name=answer]").first.click()
        page.keyboard.press("ArrowRight")  # the click left the focus there
        expect(page.locator("#trial [name=answer]").first).to_be_checked()
        expect(page.locator("#sure")).to_have_text("55")
        page.get_by_role("button", name="Log out").click()
        enter(page, address, "R1-code")
        page.get_by_role("button", name="Go on").click()
        assert stands(page)["trial"] == now["trial"]
        assert record.elsewhere(address) == []
        assert record.complaints == []
        stands(page)
        process.kill()
        process.wait(30)
    done = read_answers(tmp_path)
    assert len(done) == 2
    assert {a.answer for a in done} == {"no"}
    with served(tmp_path) as (address, process):
        enter(page, address, "R1-code")
        while not page.locator("#done").is_visible():
            if page.locator("#between").is_visible():
                begin(page)
                continue
            answer(page, stands(page))
    answers = read_answers(tmp_path)
    assert answers[:2] == done
    assert [a.trial for a in answers] == [t.trial for t in study.of_reader("R1")]
    assert {a.preference for a in answers} == {"", "B"}
    assert {a.trust for a in answers} == {None, 4}


def test_a_pause_hides_the_pictures_and_stops_the_time_also_over_a_reload(page, tmp_path):
    study_in(tmp_path, cases=2, readers=1, catch=0.0, conditions=("after",), pairs=False)
    with served(tmp_path) as (address, _):
        enter(page, address, "R1-code")
        begin(page)
        page.keyboard.press("p")
        expect(page.get_by_alt_text("The image", exact=True)).to_be_hidden()
        time.sleep(0.3)  # a pause that must be seen in the numbers, however long it comes to be
        page.reload()
        page.wait_for_selector("#resting:visible")
        page.keyboard.press("p")
        expect(page.get_by_alt_text("The image", exact=True)).to_be_visible()
        answer(page, stands(page))
        stands(page)
        found = read_answers(tmp_path)[0]
        assert found.paused_ms >= 300
        assert found.pauses >= 1
        assert found.displays == 2


def look(page, name):
    """Look at a trial on a desk and on a phone, dark and light: nothing stands out, and axe finds nothing."""
    for width, scheme in ((1280, "dark"), (390, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert violations(page) == []
        screenshot(page, f"{name}-{width}")
    page.set_viewport_size({"width": 1280, "height": 900})
