"""The page: what it says, what it never asks for, and how it looks in a real browser."""

from __future__ import annotations

import io
import json
import time
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import ttr
from tests.tools.app_page import PATIENCE
from tests.tools.report_page import held_to_the_design
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.datasets.registry import OpenedImages, in_memory, phantom_images
from ttr.drawing import maps
from ttr.errors import ImageError, OutputError
from ttr.run import Run
from ttr.studies.compare.page import SHOWN, intervention, rows
from ttr.studies.compare.settings import ComparisonSettings
from ttr.studies.compare.write import write_comparison
from ttr.studies.demo.on_phantom import on_phantom


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "result"
    return on_phantom(out, phantoms=8, shown_phantoms=2, progress=False), out


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.images: list[dict[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.addresses += [found[name] for name in ("src", "href", "srcset", "action") if name in found]
        if tag == "img":
            self.images.append(found)

    def handle_data(self, data):
        self.text += data


def test_a_cosine_below_nothing_is_no_multiple():
    before, after = (SimpleNamespace(null=value) for value in (0.02, -0.016))
    quantity = [("null", "null", "{:.2f}")]
    for pair in ((before, after), (after, before)):
        (row,) = rows(*([each] for each in pair), quantity)
        assert row.ratio == "–"
    assert row.before == "−0.02"
    (row,) = rows([before], [before], quantity)
    assert row.ratio == "1.000"


def test_the_page_is_self_contained_and_says_what_it_shows(demo):
    held_to_the_design(demo[1] / "index.html")
    page = Page((demo[1] / "index.html").read_text())
    assert all(image["alt"] for image in page.images)
    assert len(page.images) == 4 * 6
    for words in (
        "not the biology",
        "share one scale",
        "fundus",
        "chest",
        "For research use only",
        "Image by image",
    ):
        assert words in page.text


def test_results_hold_the_numbers_and_the_truth(demo):
    result, out = demo
    results = json.loads((out / "results.json").read_text())
    assert (result.detected.recall, result.detected.precision) == (1.0, 1.0)
    assert results["detection"]["pairs"] == results["detection"]["planted"]
    assert [entry["image"] for entry in results["images"][:2]] == ["fundus", "chest"]
    for entry in results["images"]:
        assert entry["after"]["outlier_patches"] == 0 < entry["before"]["outlier_patches"]
        assert len(entry["before"]["curves"]["max_patch_norm"]) == 6
    made_with = json.loads((out / "manifest.json").read_text())["provenance"]
    assert made_with["backbone"]["weights_hash"]
    assert made_with["libraries"]["torch"]
    assert "not the biology" in made_with["warning"]


def test_equal_colours_are_equal_numbers():
    low = maps.colourise(np.array([[1.0, 5.0]]), 10, maps.ATTENTION_MAP, (2, 4))
    high = maps.colourise(np.array([[5.0, 10.0]]), 10, maps.ATTENTION_MAP, (2, 4))
    assert (low[:, 2:] == high[:, :2]).all()
    assert (low[:, :2] != high[:, 2:]).any()
    assert maps.colourise(np.zeros((1, 1)), 0, maps.NORM_MAP, (1, 1)).shape == (1, 1, 3)
    pixels = np.full((4, 4, 3), 200, dtype=np.uint8)
    assert (maps.overlay(pixels, np.zeros((2, 2)), 1.0, opacity=0) == 200).all()


def test_a_table_of_means_knows_what_is_missing(phantom, phantom_batch):
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    found = list(ttr.compare(phantom, neurons, phantom_batch))
    table = {row.label: row for row in rows([c.before for c in found], [c.after for c in found])}
    assert table["largest register norm"].before == table["largest register norm"].ratio == "–"
    norms = [[getattr(c, run).max_patch_norm for c in found] for run in ("before", "after")]
    assert table["largest patch norm, last block"].before == f"{np.mean(norms[0]):.1f}"
    ratio = np.mean(norms[1]) / np.mean(norms[0])
    assert table["largest patch norm, last block"].ratio == f"{ratio:.3f}"


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (-0.001, 0.5, ("0.00", "0.50", "–")),
        (0.004, 0.5, ("0.00", "0.50", "–")),
        (0.5, -0.25, ("0.50", "−0.25", "–")),
        (0.5, -0.001, ("0.50", "0.00", "–")),
        (0.5, 0.25, ("0.50", "0.25", "0.500")),
        (0.5, 0.0, ("0.50", "0.00", "0.000")),
    ],
)
def test_no_ratio_stands_where_it_says_nothing_and_no_zero_is_negative(before, after, shown):
    views = [[SimpleNamespace(faithfulness=value)] for value in (before, after)]
    (row,) = rows(*views, [("faithfulness", "faithfulness", "{:.2f}")])
    assert (row.before, row.after, row.ratio) == shown


def test_names_are_escaped_and_long_sets_are_cut_on_the_page_only(tmp_path):
    phantom = ttr.load("phantom", image_size=64)
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    image = next(phantom_images(1)).image
    names = [f"<script>alert({i})</script>" for i in range(SHOWN + 2)]
    write_comparison(phantom, neurons, in_memory(dict.fromkeys(names, image)), tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    Page(text)
    assert "2 more images" in text
    assert len(json.loads((tmp_path / "out" / "compare.json").read_text())) == len(names)


def test_a_failure_midway_leaves_no_folder(phantom, tmp_path):
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)

    def opened(name):
        if name == "b":
            raise ImageError("the second is damaged")
        return next(phantom_images(1)).image

    two = OpenedImages(["a", "b"], opened)
    with pytest.raises(ImageError, match="damaged"):
        write_comparison(phantom, neurons, two, tmp_path / "out", run=Run(batch_size=1))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine.txt").touch()
    with pytest.raises(OutputError, match="not a result of ttr"):
        write_comparison(phantom, neurons, in_memory({}), tmp_path)


def test_an_image_that_cannot_be_read_is_left_out_by_name(phantom, tmp_path):
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    drawn = {p.name: p.image for p in phantom_images(3)}
    bad = list(drawn)[1]

    def opened(name):
        if name == bad:
            raise ImageError("it is damaged")
        return drawn[name]

    run = Run(on_error="skip", batch_size=2)
    compared = write_comparison(
        phantom, neurons, OpenedImages(list(drawn), opened), tmp_path / "out", run=run
    )
    assert [each.image for each in compared.images] == [name for name in drawn if name != bad]
    alone = next(ttr.compare(phantom, neurons, [drawn[list(drawn)[2]]]))
    assert compared.images[1].before.max_patch_norm == pytest.approx(alone.before.max_patch_norm, rel=1e-5)
    assert compared.skipped == {bad: "it is damaged"}
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["skipped"] == compared.skipped


@pytest.mark.slow  # widths, the dark and paper are held in test_reports_in_browser.py
@pytest.mark.browser
def test_the_page_opens_offline_and_fits(demo, browser):
    page = browser.new_page()
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((demo[1] / "index.html").as_uri())
    page.wait_for_selector("body[data-ready]", state="attached")
    for width, scheme in ((1280, "light"), (390, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length") == 0
        # Plots follow the window a moment later.
        deadline = time.monotonic() + PATIENCE / 1000
        while page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            assert time.monotonic() < deadline
            page.wait_for_timeout(50)
        seen = Image.open(io.BytesIO(page.screenshot()))
        assert len(seen.getcolors(maxcolors=2**24)) > 100
    page.close()
    assert [r for r in requests if not r.startswith(("data:", "file:", "blob:"))] == []
    assert complaints == []


@pytest.mark.parametrize(
    ("count", "registers", "says"),
    [
        (2, 1, "2 register neurons moved to 1 test-time register"),
        (1, 2, "1 register neuron moved to 2 test-time registers"),
        (2, 0, "2 register neurons zeroed and no register appended"),
        (0, 1, "no neuron edited and 1 test-time register appended (the blank-token control)"),
        (0, 0, "no neuron edited and no test-time registers appended"),
    ],
)
def test_what_was_done_to_the_model_is_said_in_words(count, registers, says):
    assert intervention(count, registers) == says


def test_the_page_says_what_was_done_to_the_model(phantom, tmp_path):
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted[:1])
    image = next(phantom_images(1)).image
    settings = ComparisonSettings(2)
    write_comparison(phantom, neurons, in_memory({"one": image}), tmp_path / "out", settings)
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.count("1 register neuron moved to 2 test-time registers") == 3
    assert "Mean over 1 image on this page" in text
    assert "They were given as pairs, without scores." in text


def test_a_set_chosen_from_a_ranking_says_so(phantom, phantom_batch, tmp_path):
    neurons = ttr.detect(phantom, phantom_batch).top(3)
    write_comparison(phantom, neurons, in_memory({"one": next(phantom_images(1)).image}), tmp_path / "out")
    assert "3 neurons kept by rank" in (tmp_path / "out" / "index.html").read_text()


def test_neurons_that_were_not_measured_are_not_ranked_on_the_page(tmp_path):
    backbone = ttr.load("phantom-reg4", image_size=112)
    image = next(phantom_images(1)).image
    neurons = ttr.detect(backbone, [image])
    write_comparison(backbone, neurons, in_memory({"one": image}), tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    assert "No outlier patches: 0 of 1 image (0 %) has outlier patches" in text
    assert "of the ranking" not in text


def test_the_page_of_a_model_whose_feature_is_not_cls_says_so(tmp_path):
    """In float16: the maps' numbers are float32 all the same, and the manifest knows both."""
    backbone = ttr.adapt(scramble(tiny_vit(global_pool="avg", depth=2)).half(), preprocess=to_tensor)
    chosen = in_memory({"one": Image.new("RGB", (32, 32), "grey")})
    write_comparison(backbone, ttr.RegisterNeurons.from_pairs([(0, 3)]), chosen, tmp_path / "out")
    text = Page((tmp_path / "out" / "index.html").read_text()).text
    assert "The feature of VisionTransformer is not CLS alone (avg)" in text
    made_with = json.loads((tmp_path / "out" / "manifest.json").read_text())["provenance"]["backbone"]
    assert (made_with["pooling"], made_with["dtype"]) == ("avg", "float16")


def to_tensor(image):
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)
