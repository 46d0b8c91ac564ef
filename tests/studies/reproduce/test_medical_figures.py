"""The medical study's figures: the numbers behind them, and the page that shows them."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import ttr
from tests.tools.medical_sets import load
from tests.tools.report_page import held_to_the_design
from ttr.datasets.registry import open_dataset
from ttr.drawing.norms_and_attention import map_uri
from ttr.errors import ModelError
from ttr.registers.arms import arms
from ttr.run import Run
from ttr.studies.reproduce.medical import reproduce_medical
from ttr.studies.reproduce.medical_figures import look
from ttr.studies.reproduce.medical_settings import MedicalSettings
from ttr.studies.reproduce.published import published_studies

REHEARSAL = MedicalSettings(published_detection=False, maps=1)


def only_dino(name):
    if name != "dinov2-vit-l-14":
        raise ModelError("the weights are elsewhere")
    return load(name)


@pytest.fixture(scope="module")
def result(roots, cache, tmp_path_factory):
    """One set and backbone under both protocols, with the maps of one image."""
    out = tmp_path_factory.mktemp("medical") / "out"
    reproduce_medical({"orthonet": roots["orthonet"]}, only_dino, out, REHEARSAL, Run(cache=cache))
    return out


def test_curves_and_maps_are_those_of_a_comparison_of_the_same_images(roots):
    backbone, dataset = load(""), open_dataset("aptos", roots["aptos"])
    neurons = ttr.RegisterNeurons.from_pairs(backbone.planted)
    arm = arms(("ttr",), backbone, neurons, num_registers=2)[0]
    found = look(backbone, arm, dataset, Run(batch_size=2), images=3, maps=1)
    items = {item.name: item for item in dataset.select("test")}
    assert set(found.names) <= set(items)
    assert len(found.names) == 3
    images = [dataset.open(items[name]) for name in found.names]
    for place, one in enumerate(ttr.compare(backbone, neurons, images, num_registers=2)):
        for passed, view in ((found.bare, one.before), (found.wrapped, one.after)):
            assert passed.largest_norm[place] == pytest.approx(view.curves.max_patch_norm, rel=1e-4)
            assert passed.largest_attention[place] == pytest.approx(
                view.curves.max_patch_attention, rel=1e-4, abs=1e-6
            )
            assert passed.patch_norms[place] == pytest.approx(view.maps.norms.ravel(), rel=1e-4)
            assert passed.register_norms[place] == pytest.approx(view.maps.register_norms, rel=1e-4)
            assert passed.register_attention[place] == pytest.approx(view.maps.register_attention, rel=1e-4)
            if place == 0:
                assert passed.norm_maps[0, -1] == pytest.approx(view.maps.norms, rel=1e-4)
                assert passed.attention_maps[0, -1] == pytest.approx(view.maps.attention, rel=1e-4)
                assert np.array_equal(found.pixels[0], one.pixels)
    assert found.bare.register_norms.shape == (3, 0)
    assert found.wrapped.norm_maps.shape == (1, backbone.num_layers, 4, 4)
    none = look(backbone, arm, dataset, Run(batch_size=2), images=1, maps=0)
    assert (len(none.pixels), len(none.bare.norm_maps)) == (0, 0)
    table = found.by_block({"dataset": "aptos"})
    last = table[(table.model == "wrapped") & (table.block == backbone.num_layers - 1)]
    assert last.max_patch_norm.item() == pytest.approx(found.wrapped.largest_norm[:, -1].mean())


def test_the_page_has_the_figures_of_each_cell_and_published_values_beside_their_protocol(result):
    page = held_to_the_design(result / "index.html").whole
    published, ours = re.findall(r"<section>.*?</section>", page, re.DOTALL)
    assert "dinov2-vit-l-14 on orthonet, protocol published: phantom in its place</h2>" in published
    for section in (published, ours):
        for number in ("figure 1 ", "figure 3 ", "figure 5 ", "figures 7 and 9 "):
            assert f"As {number}of the study" in section
        assert section.count("<img") == 1 + 4 * load("").num_layers
        assert len(re.findall('alt="[^"]*block 5, CLS attention, wrapped"', section)) == 1
    stated = published_studies()["medical"].settings["figures"]["dinov2-vit-l-14"].values()
    assert all(text in published for text in stated)
    assert not any(text in ours for text in stated)
    assert "clip-vit-b-16): the weights are elsewhere" in page
    assert "A rehearsal." in page
    assert "https://" not in page
    table = pd.read_csv(result / "by_block.csv")
    assert len(table) == 2 * 2 * load("").num_layers
    assert json.loads((result / "manifest.json").read_text())["files"][:3] == [
        *("reproduction.csv", "by_block.csv", "index.html")
    ]


def test_where_images_are_anonymous_their_maps_are_an_option(roots, cache, tmp_path):
    some, run = {"orthonet": roots["orthonet"]}, Run(cache=cache)
    for maps, shown in ((None, 0), (1, 1)):
        asked = replace(REHEARSAL, protocols=("ours",), maps=maps)
        reproduce_medical(some, only_dino, tmp_path / "out", asked, run, anonymous=True)
        page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
        assert page.count("maps of every block") == shown
        assert ".png" not in page
        assert json.loads((tmp_path / "out/manifest.json").read_text())["settings"]["maps"] == shown
    assert MedicalSettings().shown(anonymous=False) == 3


def test_a_cell_without_figures_keeps_its_numbers_and_says_why(roots, cache, tmp_path, monkeypatch):
    def refuse(*asked):
        raise ModelError("the model has no CLS token")

    monkeypatch.setattr("ttr.studies.reproduce.medical_cell.look", refuse)
    some, asked = {"orthonet": roots["orthonet"]}, replace(REHEARSAL, protocols=("ours",))
    table = reproduce_medical(some, only_dino, tmp_path / "out", asked, Run(cache=cache))
    assert table[table.missing == ""].measured.notna().any()
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "No figures: The model has no CLS token" in page
    assert not (tmp_path / "out/by_block.csv").exists()


def test_equal_numbers_are_equal_colours_of_one_scale():
    values = np.array([[0.0, 1.0], [2.0, 4.0]], dtype=np.float32)

    def drawn(numbers):
        content = base64.b64decode(map_uri(numbers, 4.0, "viridis").partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(content)))

    assert drawn(values).shape == (2, 2, 3)
    assert np.array_equal(drawn(values)[0], drawn(values[:1])[0])
    assert not np.array_equal(drawn(values)[1, 0], drawn(values)[1, 1])


@pytest.mark.slow  # widths, the dark and paper are held in test_reports_in_browser.py
@pytest.mark.browser
def test_charts_keep_a_readable_size_on_a_telephone(result, browser):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto((result / "index.html").as_uri())
    page.wait_for_selector("body[data-ready]", state="attached")
    widths = page.evaluate("[...document.querySelectorAll('.plot .main-svg')].map(e => e.clientWidth)")
    assert widths
    assert all(300 < width <= 390 for width in widths), "each fills the window, below the one before"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()
