"""The page in a real browser, served as a visitor's is: what is seen, and what never happens."""

from __future__ import annotations

import io
import json
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import expect
from pydicom.uid import JPEG2000Lossless

import ttr
from tests.tools.app_page import PICTURE, changed, clear, screenshot, select, upload, violations
from tests.tools.dicom_files import write
from tests.tools.hostile_files import png
from ttr.apps.image.inspection import inspect
from ttr.datasets.registry import open_image, sample_paths
from ttr.wording import shortened

pytestmark = pytest.mark.browser
SLOW = pytest.mark.slow


@pytest.fixture(autouse=True)
def _nothing_is_raised_unseen(served):
    yield
    assert "Traceback" not in served.log.read_text()


def picture(seed=0, size=(230, 200)):
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    pixels[60:] //= 8
    return Image.fromarray(pixels)


def saved(path, seed=0):
    picture(seed).save(path)
    return path


def test_an_uploaded_png_changes_both_overlays(page, tmp_path):
    shot = page.locator("#maps .ttr-pair")
    first = shot.screenshot()
    before, after = changed(page, lambda: upload(page, saved(tmp_path / "mine.png")))
    assert len(before) == len(after) == 2
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert shot.screenshot() != first
    assert "PNG, 200 × 230 pixels" in page.locator("#picture").inner_text()
    expect(page.locator("#verdict").get_by_role("status")).to_contain_text("faithfulness")
    expect(page.locator(".sr-only[role=status]")).to_be_hidden()
    screenshot(page, "compare")


def test_a_radiograph_is_windowed_and_its_patient_is_never_named(page, served, tmp_path):
    pixels = np.add.outer(np.arange(160), np.arange(160)).astype(np.uint16) * 12
    windows = {"WindowCenter": [2000, 600], "WindowWidth": [3000, 300], "BurnedInAnnotation": "YES"}
    names = {
        "WindowCenterWidthExplanation": ["WIDE^Erika", "Lung"],
        "PhotometricInterpretation": "MONOCHROME1",
    }
    file = write(tmp_path / "a.dcm", pixels, PixelSpacing=[2, 1], **windows, **names)
    changed(page, lambda: upload(page, file))
    assert "DICOM, 160 × 320 pixels" in page.locator("#picture").inner_text()
    assert "text is burnt into its pixels" in page.locator("#numbers").inner_text()
    page.get_by_label("Window", exact=True).click()
    narrow = page.get_by_role("option", name="lung 600 / 300")
    changed(page, narrow.click, PICTURE)
    expect(page.get_by_label("Centre")).to_have_value("600")
    expect(page.get_by_label("Width")).to_have_value("300")
    page.get_by_label("Centre").fill("900")
    page.get_by_label("Width").fill("1")
    changed(page, page.get_by_role("button", name="Apply this window").click, PICTURE)
    page.get_by_label("Width").fill("0")
    page.get_by_role("button", name="Apply this window").click()
    page.get_by_role("alert").filter(has_text="A window needs a width above 0").wait_for()
    screenshot(page, "compare-dicom")
    for said in (page.content(), served.log.read_text()):
        # Four digits stand in a picture, a digest or a fraction by chance.
        words = re.findall(r"[\w.]+", re.sub(r"base64,[\w+/=]+", "", said))
        assert not {"Muster", "Erika", "4711", "19700101"} & {*words, *"_".join(words).split("_")}
        assert "Muster" not in said
        assert "Erika" not in said


def test_block_head_and_query_look_up_the_models_own_maps(page, phantom):
    found = inspect(
        phantom,
        ttr.RegisterNeurons.from_pairs(phantom.planted),
        open_image(sample_paths()["chest"]),
    )

    def largest():
        labels = page.locator("#maps .ttr-frame").evaluate_all(
            "frames => frames.map(each => each.getAttribute('aria-label'))"
        )
        return [float(re.search(r"largest ([\d.e-]+)", label)[1]) for label in labels]

    def expected(layer, head=None, query="CLS"):
        maps = [run.attention_map(layer, head, query) for run in found.runs]
        return [pytest.approx(float(values.max()), rel=0.02) for values in maps if values is not None]

    assert largest() == expected(5)
    slider = page.locator("#layer input[type=range]")
    slider.focus()
    changed(page, lambda: page.keyboard.press("ArrowLeft"))
    assert largest() == expected(4)
    page.locator("#head input").click()
    changed(page, page.get_by_role("option", name="head 1").click)
    assert largest() == expected(4, 1)
    typed = page.locator("#layer input[type=number]")
    # What is typed may be taken before Enter: both belong to one change.
    changed(page, lambda: (typed.fill("99"), page.keyboard.press("Enter")))
    assert largest() == expected(5, 1)
    page.locator("#query input").click()
    page.get_by_role("option", name="test-time register 1").click()
    page.wait_for_selector("text=the bare model has no such token")
    labels = page.locator("#maps .ttr-after .ttr-frame").get_attribute("aria-label")
    assert float(re.search(r"largest ([\d.e-]+)", labels)[1]) == expected(5, 1, "test-time register 1")[0]
    for field, first in (("query", "CLS"), ("head", "mean of heads")):
        page.locator(f"#{field} input").click()
        changed(page, page.get_by_role("option", name=first).click)
    assert largest() == expected(5)


def test_the_models_register_neurons_are_named_from_the_start(page):
    page.get_by_role("button", name="Model and register neurons").click()
    expect(page.locator("#neurons input")).to_have_value("planted (the phantom’s known truth)")
    expect(page.locator("#neurons-said")).to_contain_text("10 neurons")


def test_opacity_swipe_smoothing_and_scale_change_what_is_seen(page):
    pair = page.locator("#maps")
    seen = [pair.screenshot()]
    page.locator("#compare-opacity input[type=range]").fill("60")
    seen.append(pair.screenshot())
    page.locator("#compare-style").get_by_role("radio", name="smooth").check()
    page.wait_for_selector("#maps ttr-view[data-smooth]")
    seen.append(pair.screenshot())
    page.get_by_role("group", name="Colour scale").get_by_role("radio", name="own").check()
    expect(page.locator("#maps .ttr-bar:visible")).to_have_count(2)
    seen.append(pair.screenshot())
    page.get_by_role("radio", name="swipe").check()
    cut = page.get_by_label("Swipe: share of the image that shows before, in percent")
    seen.append(pair.screenshot())
    cut.fill("20")
    seen.append(pair.screenshot())
    screenshot(page, "compare-swipe")
    assert len(set(seen)) == len(seen)


@SLOW  # what they hold, in tests/apps/html
def test_every_view_has_its_pictures_and_its_explanation(page):
    for name, shown in (
        ("Norms", "#norms .ttr-map"),
        ("PCA colours", "#colours .ttr-map"),
        ("By block", "#curves .js-plotly-plot .scatterlayer path"),
    ):
        page.get_by_role("tab", name=name).click()
        page.wait_for_selector(shown)
        page.locator("summary:visible", has_text="What am I looking at?").first.click()
        assert len(page.locator(".ttr-why[open] p:visible").first.inner_text()) > 80
        screenshot(page, f"compare-{name.lower().replace(' ', '-')}")
        page.locator("summary:visible").first.click()


def zip_bomb():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    return stream.getvalue()


def compressed_dicom(path):
    """Return a DICOM file whose compression needs a decoder that is not there, or pixels that are none."""
    return write(path, syntax=JPEG2000Lossless, packed=[b"\xff\x4f\xff\x51" + bytes(60)]).read_bytes()


@pytest.mark.slow  # the sentences are held in tests/apps/image/test_intake.py
def test_hostile_files_get_one_sentence_and_the_page_lives_on(page, served, tmp_path):
    whole = io.BytesIO()
    picture().save(whole, "PNG")
    hostile = {
        "page.png": (b"<html><script>document.title='taken'</script></html>", "not an image"),
        "half.png": (whole.getvalue()[: len(whole.getvalue()) // 2], "damaged"),
        "large.png": (png(20_000, 20_000), "too many pixels to open safely"),
        "compressed.dcm": (compressed_dicom(tmp_path / "c.dcm"), "cannot be decoded"),
        "bomb.zip": (zip_bomb(), "not an image"),
    }
    for name, (content, says) in hostile.items():
        (tmp_path / name).write_bytes(content)
        upload(page, tmp_path / name)
        page.get_by_role("alert").filter(has_text=says).wait_for()
        said = page.get_by_role("alert").inner_text()
        assert len(page.get_by_role("alert").all()) == 1
        assert str(tmp_path) not in said
        assert "/" not in said
        assert "\n" not in said
        assert "Traceback" not in page.content()
        clear(page)
    assert page.title() == "Test-time registers"
    screenshot(page, "compare-refused")
    assert served.health() == 200
    changed(page, page.get_by_role("button", name="Sample: fundus").click)
    assert page.get_by_role("alert").count() == 0


def test_a_refused_or_removed_file_takes_all_of_the_former_with_it(page, tmp_path):
    """On every tab; and beside a map, and in an export, stands whose file it is."""
    file = saved(tmp_path / f"{'long-' * 20}name.png", 9)
    (tmp_path / "page.png").write_text("<html>")
    exports = [page.get_by_role("button", name=f"Export {kind}") for kind in ("ZIP", "PDF")]

    def show():
        upload(page, file)
        expect(page.locator("#maps .ttr-file")).to_have_text(shortened(file.name))
        for export in exports:
            expect(export).to_be_enabled()

    def nothing_is_left():
        expect(page.locator("ttr-picture, .ttr-map, .ttr-file, .ttr-grade, #curves .main-svg")).to_have_count(
            0
        )
        for export in exports:
            expect(export).to_be_disabled()

    show()
    with page.expect_download() as zipped:
        exports[0].click()
    archive = zipfile.ZipFile(zipped.value.path())
    assert json.loads(archive.read("numbers.json"))["image_file"]["name"] == shortened(file.name)
    assert shortened(file.name) in archive.read("README.txt").decode()
    select(page, "Marker test")
    page.get_by_role("button", name="Burn it in").click()
    expect(page.locator("#marker-maps .ttr-file").first).to_have_text(shortened(file.name))
    select(page, "Compare")
    clear(page)
    nothing_is_left()
    expect(page.locator("#status")).to_contain_text("There is no image here now")
    show()
    clear(page)
    upload(page, tmp_path / "page.png")
    page.get_by_role("alert").filter(has_text="not an image").wait_for()
    nothing_is_left()
    screenshot(page, "compare-emptied")
    changed(page, page.get_by_role("button", name="Sample: fundus").click)
    expect(page.locator("#maps .ttr-file")).to_have_text("sample: fundus")
    expect(page.get_by_text("page.png")).to_have_count(0)


@SLOW  # what is in it is held in tests/apps/html/test_takeaway.py
def test_an_export_opens_and_holds_what_the_page_shows(page):
    changed(page, page.get_by_role("button", name="Sample: fundus").click)
    with page.expect_download() as zipped:
        page.get_by_role("button", name="Export ZIP").click()
    archive = zipfile.ZipFile(zipped.value.path())
    size = open_image(sample_paths()["fundus"]).size
    for name in ("image", "attention-before", "attention-after", "norms-before", "norms-after"):
        assert Image.open(archive.open(f"{name}.png")).size == size
    numbers = json.loads(archive.read("numbers.json"))
    shown = page.locator("#numbers").inner_text()
    assert f"faithfulness {numbers['after']['faithfulness']:.2f}" in shown
    assert f"{numbers['before']['max_patch_norm']:.1f}" in shown
    assert json.loads(archive.read("provenance.json"))["backbone"]["weights_hash"]
    assert "Not a medical device" in archive.read("README.txt").decode()
    assert all("fundus" not in name for name in archive.namelist())
    with page.expect_download() as printed:
        page.get_by_role("button", name="Export PDF").click()
    assert printed.value.path().read_bytes().startswith(b"%PDF-")


def test_a_batch_is_a_table_that_sorts_opens_and_exports(page, tmp_path):
    files = [saved(tmp_path / f"image-{seed}.png", seed) for seed in range(3)]
    (tmp_path / "page.png").write_text("<html>")
    select(page, "Batch")
    upload(page, *files, tmp_path / "page.png", label="Images (PNG")
    page.locator(".block").filter(has_text="Images (PNG").get_by_text("image-2").wait_for()
    page.get_by_role("button", name="Run the batch").click()
    page.get_by_text("4 of 4 files").wait_for()
    screenshot(page, "batch")
    with page.expect_download() as table:
        page.get_by_role("button", name="Export CSV").click()
    rows = pd.read_csv(table.value.path())
    assert rows.file[0] == "page.png"
    assert rows.faithfulness_after[1:].is_monotonic_increasing

    def files_shown():
        return page.locator("#batch-table td:first-child").all_inner_texts()

    assert files_shown() == list(rows.file)
    for head, column, ascending in (
        ("file", "file", True),
        ("largest norm after", "max_patch_norm_after", False),
        ("largest norm after", "max_patch_norm_after", True),
    ):
        page.locator("#batch-table").get_by_role("button", name=head, exact=True).click()
        expected = rows.sort_values(column, ascending=ascending, na_position="first")
        assert files_shown() == list(expected.file)
    changed(page, page.locator("#batch-table").get_by_role("button", name="image-1.png").click)
    page.wait_for_selector("#picture:visible")
    assert page.get_by_role("tab", name="Compare").get_attribute("aria-selected") == "true"


@SLOW
def test_the_keyboard_reaches_everything_and_is_never_trapped(visit):
    page = visit()
    reached = []
    name = """() => { const e = document.activeElement; const own = e.closest('.block');
        return [e.getAttribute('aria-label'), e.innerText, e.id, e.value, own && own.innerText.slice(0, 60)]
            .filter(Boolean).join(' | '); }"""
    page.locator("body").focus()
    for _ in range(90):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(name))
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        shadow = page.evaluate("getComputedStyle(document.activeElement).boxShadow")
        assert ring != "none" or shadow != "none" or "file" in reached[-1].lower() or not reached[-1]
    for wanted in ("Compare", "Sample: fundus", "Model and register", "Attention", "Block", "Opacity"):
        assert any(wanted in each for each in reached), wanted
    for wanted in ("Attention head", "Attention of", "both", "squares", "shared", "Export ZIP", "Export PDF"):
        assert any(wanted in each for each in reached), wanted
    page.get_by_role("button", name="Sample: fundus").focus()
    changed(page, lambda: page.keyboard.press("Enter"))
    page.get_by_role("radio", name="swipe").focus()
    page.keyboard.press("Space")
    page.wait_for_function("document.documentElement.dataset.ttrView === 'swipe'")
    page.close()


@pytest.mark.parametrize(
    ("place", "read_by_all"),
    [
        ("telephone", True),
        pytest.param("page", True, marks=SLOW),
        pytest.param("telephone", False, marks=SLOW),
    ],
)
def test_each_tab_fits_and_no_reader_is_shut_out(request, place, read_by_all):
    page = request.getfixturevalue(place)
    for tab in ("Compare", "Batch"):
        select(page, tab)
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        assert not read_by_all or violations(page) == []
        screenshot(page, f"{tab.lower()}-{place}")


@pytest.mark.slow  # that nothing of an image outlives its case is held beside the workbench
@pytest.mark.parametrize("count", [20])
def test_uploads_do_not_grow_the_server(page, served, tmp_path, count):
    """What one analysis holds is more than the twentieth part of the process, a few of them together."""
    files = [saved(tmp_path / f"{seed}.png", seed) for seed in range(3 + count)]

    def send(file):
        changed(page, lambda: upload(page, file), PICTURE)
        clear(page)

    for file in files[:3]:
        send(file)
    before = served.resident()
    for file in files[3:]:
        send(file)
    assert served.resident() <= 1.05 * before
