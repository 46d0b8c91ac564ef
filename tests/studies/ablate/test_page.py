"""``ttr report``: the page of a real small ablation, its refusals, and how it behaves in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import ttr
from tests.tools.report_in_browser import opened
from tests.tools.report_page import held_to_the_design, unpacked
from tests.tools.small_results import CONDITIONS, COUNTS
from ttr.datasets.phantom_set import phantom_set
from ttr.errors import OptionError
from ttr.evaluate.segmentation import miou_resampled
from ttr.forward.preprocessing import pixels_of
from ttr.studies.ablate.between import effects, read_per_image
from ttr.studies.ablate.folder import read_folder
from ttr.studies.ablate.page import _told_apart
from ttr.studies.ablate.report import write_report


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_ablation):
    """phantom-reg4 at 64 px, 12 test images, every analysis, and its page."""
    return shutil.copytree(small_ablation, tmp_path_factory.mktemp("report") / "out")


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def test_the_page_is_one_file_that_asks_for_nothing(made):
    text = held_to_the_design(made / "index.html").whole
    assert len(text) < 8e6
    assert "A phantom." in text
    assert "read nothing medical into its maps" in text
    assert "For research use only. Not a medical device." in text
    assert "is not in this folder" not in text


def test_the_charts_in_the_page_are_the_tables(made):
    charts = unpacked((made / "index.html").read_text(), "charts")
    results, attention = (pd.read_csv(made / f"{name}.csv") for name in ("results", "attention"))
    (trace,) = charts["m0-heatmap"]["variants"]["raw"]["data"]
    for row in results.itertuples():
        column = {"top1": "probe", "top1_own": "own probe", "pck_0.1": "PCK@0.1", "miou": "mIoU"}.get(
            row.metric, "nearest patch"
        )
        drawn = trace["z"][trace["y"].index(row.condition)][trace["x"].index(column)]
        assert drawn == pytest.approx(100 * row.value)
    flows = charts["m0-flows"]["variants"]
    assert set(flows) == {f"{c}|{b}" for c in CONDITIONS for b in range(6)}
    here = attention[(attention.condition == "registers:zero") & (attention.block == 3)]
    shares = here.pivot(index="source", columns="target", values="share")
    drawn = flows["registers:zero|3"]["data"][0]["z"]
    assert drawn[2][1] == pytest.approx(shares.loc["patches", "registers"])
    assert set(charts) == {
        f"m0-{name}"
        for name in (
            *("heatmap", "additivity", "flows", "flow-cls", "flow-registers", "flow-patches"),
            *("divergence", "probing", "layers", "registers"),
        )
    }


def test_pictures_are_there_for_every_image_condition_and_query(made):
    shown = (unpacked((made / "index.html").read_text(), "pictures"))["m0"]
    assert shown["conditions"] == CONDITIONS
    assert shown["queries"] == ["cls", "register-1", "register-2", "register-3", "register-4"]
    for scale in ("all", "full"):
        assert np.array(shown["norms"][scale]).shape == (len(CONDITIONS), len(shown["images"]))
        assert np.array(shown["attention"][scale]).shape == (len(CONDITIONS), len(shown["images"]), 5)
    assert np.array(shown["colours"]).shape == (len(CONDITIONS), len(shown["images"]))


def test_the_inputs_are_the_images_that_the_model_was_given(made):
    shown, backbone = read_folder(made).pictures, ttr.load("phantom-reg4", image_size=64)
    data = phantom_set(counts=COUNTS)
    items = {item.name: item for item in data.items}
    batch = torch.stack([backbone.preprocess(data.open(items[name])) for name in shown.images])
    assert np.array_equal(shown.arrays["pixels"], pixels_of(backbone, batch))
    (uri, *_) = (unpacked((made / "index.html").read_text(), "pictures"))["m0"]["pixels"]
    assert np.array_equal(picture(uri), shown.arrays["pixels"][0])


def picture(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def test_a_maps_pixels_are_its_numbers_on_the_shared_scale(made):
    shown = (unpacked((made / "index.html").read_text(), "pictures"))["m0"]
    norms = read_folder(made).pictures.arrays["norms"]
    pixels = picture(shown["norms"]["all"][1][2])
    expected = matplotlib.colormaps["viridis"](np.round(255 * norms[1, 2] / norms.max()).astype(int))[..., :3]
    assert np.abs(pixels - 255 * expected).max() <= 1


MADE_BY = {
    "attention.csv": "--analysis-images",
    "divergence.csv": "--analysis-images",
    "geometry.csv": "--analysis-images",
    "probing.csv": "--analysis-images",
    "layers.csv": "--tasks correspondence",
    "registers.csv": "on a model with registers",
    "additivity.csv": "--conditions all",
    "pictures.safetensors": "--analysis-images",
}


def test_missing_analyses_are_named_with_what_makes_them(copy, tmp_path):
    for file in MADE_BY:
        (copy / file).unlink()
    text = write_report([copy], tmp_path / "page.html").read_text()
    said = dict(re.findall(r'<p class="missing">(\S+) is not in this folder\.([^<]*)</p>', text))
    assert set(said) == set(MADE_BY)
    assert all(how in said[file] for file, how in MADE_BY.items())
    assert set(unpacked(text, "charts")) == {"m0-heatmap"}


def damaged(folder, what):
    if what == "no manifest":
        (folder / "manifest.json").unlink()
    elif what == "another kind":
        (folder / "manifest.json").write_text('{"schema": "ttr.bench/1"}')
    elif what == "no json":
        (folder / "manifest.json").write_text("{")
    elif what == "no results":
        (folder / "results.csv").unlink()
    elif what == "no column":
        pd.read_csv(folder / "results.csv").drop(columns="ci_low").to_csv(folder / "results.csv", index=False)
    elif what == "no numbers":
        table = pd.read_csv(folder / "attention.csv").astype({"share": object})
        table.loc[3, "share"] = "abc"
        table.to_csv(folder / "attention.csv", index=False)
    elif what == "no rows":
        pd.read_csv(folder / "layers.csv").head(0).to_csv(folder / "layers.csv", index=False)
    elif what == "cut short":
        whole = (folder / "pictures.safetensors").read_bytes()
        (folder / "pictures.safetensors").write_bytes(whole[: len(whole) // 2])
    elif what == "other pictures":
        index = json.loads((folder / "pictures.json").read_text())
        (folder / "pictures.json").write_text(json.dumps({**index, "conditions": ["full"]}))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("no manifest", "has no manifest.json: not a finished result"),
        ("another kind", "holds ttr.bench/1, not ttr.ablate/1"),
        ("no json", "cannot be read as JSON"),
        ("no results", "has no results.csv"),
        ("no column", "results.csv is damaged (no column ci_low)"),
        ("no numbers", "attention.csv is damaged"),
        ("no rows", "layers.csv is damaged (no rows)"),
        ("cut short", "pictures.safetensors"),
        ("other pictures", "does not belong to pictures.json"),
    ],
)
def test_what_is_no_whole_result_is_refused_in_one_line(copy, run, what, says):
    (copy / "index.html").unlink()
    damaged(copy, what)
    status, _, error = run("report", copy)
    assert status == 2
    assert says in error
    assert error.startswith("ttr: ")
    assert len(error.strip().splitlines()) == 1
    assert not (copy / "index.html").exists()


def test_other_refusals(made, run, tmp_path):
    assert run("report", tmp_path / "nowhere")[0] == 2
    status, _, error = run("report", made, made)
    assert (status, "name each once" in error) == (2, True)
    status, _, error = run("report", made, "--out", tmp_path)
    assert (status, "cannot be written" in error) == (2, True)


def test_the_command_writes_into_the_folder_and_names_are_escaped(copy, run):
    index = json.loads((copy / "pictures.json").read_text())
    index["images"][0] = "</script><script>alert(1)</script>"
    (copy / "pictures.json").write_text(json.dumps(index))
    for name in ("attention.csv", "divergence.csv"):
        (copy / name).unlink()  # a page without what takes long
    before = (copy / "index.html").read_bytes()
    status, out, _ = run("report", copy)
    assert status == 0
    assert "index.html" in out
    text = (copy / "index.html").read_text()
    assert "<script>alert" not in text
    assert text.encode() != before
    assert set(json.loads((copy / "manifest.json").read_text())["files"]) >= {"index.html", "results.csv"}


def test_models_of_one_name_are_told_apart_by_their_folders():
    def folder(name, path):
        return SimpleNamespace(name=name, path=Path(path))

    mine, later, third = folder("a", "x/one"), folder("a", "x/two"), folder("b", "x/one")
    assert _told_apart([mine, later], anonymous=False) == ["a (one)", "a (two)"]
    assert _told_apart([mine, later], anonymous=True) == ["a (1)", "a (2)"]
    assert _told_apart([mine, folder("a", "y/one"), third], anonymous=False) == ["a (1)", "a (2)", "b"]


def other(copy, name="other"):
    """Make of a copy the folder of another model, in which zeroed registers cost the probe nothing."""
    table = pd.read_parquet(copy / "per_image.parquet")
    probe = (table.task == "probe") & (table.metric == "top1")
    full = table[probe & (table.condition == "full")]["value"].to_numpy()
    table.loc[probe & (table.condition == "registers:zero"), "value"] = full
    table.to_parquet(copy / "per_image.parquet", index=False)
    pd.read_csv(copy / "results.csv").assign(backbone=name).to_csv(copy / "results.csv", index=False)
    return table


@pytest.mark.slow
def test_models_are_compared_on_the_same_images(made, copy, tmp_path):
    mine, theirs = read_per_image(made), other(copy)
    table = effects(mine, theirs, ("phantom-reg4", "other")).set_index(["metric", "condition"])
    values = mine[mine.metric == "top1"].pivot(index="image", columns="condition", values="value")
    lost = (values["registers:zero"] - values["full"]).mean()
    row = table.loc[("top1", "registers:zero")]
    assert (row.effect_a, row.effect_b, row.difference) == pytest.approx((lost, 0, lost))
    assert row.n == 12
    assert (table.loc["miou"].difference == 0).all()
    assert table.loc["miou"].p_holm.isna().all(), "where no image differs no test can fire"
    masks = mine[mine.metric == "miou"]
    stacked = {c: np.stack(list(rows.confusion)).reshape(-1, 7, 7) for c, rows in masks.groupby("condition")}
    once = np.ones((1, len(stacked["full"])))
    lost = miou_resampled(stacked["cls:zero"], once) - miou_resampled(stacked["full"], once)
    assert table.loc[("miou", "cls:zero")].effect_a == pytest.approx(lost[0])
    text = write_report([made, copy], tmp_path / "two.html").read_text()
    assert "phantom-reg4 and other" in text
    assert "b0-effects" in (unpacked(text, "charts"))


@pytest.mark.slow
def test_models_on_other_images_are_not_compared(made, copy, tmp_path):
    table = other(copy)
    renamed = table.assign(image=table["image"].str.replace("-0003", "-0099"))
    renamed.to_parquet(copy / "per_image.parquet", index=False)
    with pytest.raises(OptionError, match="12 and 12, of which 11 in common"):
        effects(read_per_image(made), renamed, ("a", "b"))
    text = write_report([made, copy], tmp_path / "two.html").read_text()
    assert "Not compared." in text
    assert "were not measured on the same images" in text


CENTRED = ("centred", "centred_low", "centred_high", "null", "own", "agreement", "deletion")


def test_an_integration_adds_how_faithful_the_map_is(made, copy, tmp_path, run):
    rows = [
        {
            "backbone": "m",
            "block": 1,
            "num_registers": 0,
            "part": part,
            "cka": 0.5,
            "cosine": 0.95,
            "norm": 1.0,
        }
        for part in ("patches", "skip")
    ]
    table = pd.DataFrame(rows).assign(attention_share=0.5, images=9, dimensions=4, parameters=10)
    ends = dict.fromkeys(("ci_low", "ci_high", "cosine_low", "cosine_high", *CENTRED), 0.4)
    alone = tmp_path / "integration"
    alone.mkdir()
    for folder in (copy, alone):
        table.assign(**ends).to_csv(folder / "integration.csv", index=False)
    (alone / "manifest.json").write_text('{"schema": "ttr.integrate/1"}')
    assert "Is the map faithful?" not in (made / "index.html").read_text()
    for name in ("attention.csv", "divergence.csv", "pictures.safetensors", "pictures.json"):
        (copy / name).unlink()  # two pages without what takes long
    assert "Is the map faithful?" in write_report([copy], tmp_path / "a.html").read_text()
    status, _, _ = run("report", alone, copy)
    assert status == 0
    assert not (alone / "index.html").exists()
    assert "Is the map faithful?" in (copy / "index.html").read_text()
    with pytest.raises(OptionError, match="no folder of ttr ablate"):
        write_report([alone], tmp_path / "b.html")
    table.to_csv(alone / "integration.csv", index=False)
    status, _, error = run("report", copy, alone)
    assert (status, "no column ci_low" in error) == (2, True)


def drawn(page, chart):
    return page.evaluate("id => document.querySelector(`[data-chart=${id}]`).data[0].z", chart)


@pytest.mark.slow  # what the page is made of is held above, and its look in test_reports_in_browser.py
@pytest.mark.browser
def test_choices_change_figures_and_pictures(made, browser):
    with opened(browser, made / "index.html", 1280, "light") as page:
        results = pd.read_csv(made / "results.csv").set_index(["condition", "metric"])
        assert drawn(page, "m0-heatmap")[1][0] == pytest.approx(
            100 * results.loc[("registers:zero", "top1")].value
        )
        page.get_by_label("change from full, points").check()
        change = 100 * results.loc[("registers:zero", "top1")].delta
        assert drawn(page, "m0-heatmap")[1][0] == pytest.approx(change)
        attention = pd.read_csv(made / "attention.csv")
        flows = attention[(attention.source == "patches") & (attention.target == "registers")]
        shares = flows.set_index(["condition", "block"]).share
        assert drawn(page, "m0-flows")[2][1] == pytest.approx(shares["full", 5])
        page.locator("#m0-attention input[type=range]").fill("2")
        assert drawn(page, "m0-flows")[2][1] == pytest.approx(shares["full", 2])
        page.locator("#m0-attention select").select_option("cls:zero")
        assert drawn(page, "m0-flows")[2][1] == pytest.approx(shares["cls:zero", 2])
        chosen = "#m0-overlays .pair figure:nth-child(3) img.values"
        seen = {page.get_attribute(chosen, "src")}
        for part, value in (("query", "2"), ("image", "3"), ("condition", "cls:zero")):
            page.locator(f"#m0-overlays select[data-part={part}]").select_option(value)
            seen.add(page.get_attribute(chosen, "src"))
        page.locator("#m0-overlays button[data-condition='registers:mean']").click()
        assert page.locator("#m0-overlays select[data-part=condition]").input_value() == "registers:mean"
        seen.add(page.get_attribute(chosen, "src"))
        page.locator("#m0-overlays").get_by_label("of the full condition").check()
        seen.add(page.get_attribute(chosen, "src"))
        assert len(seen) == 6
        assert "attention of register-2" in page.get_attribute(chosen, "alt")


@pytest.mark.browser
@pytest.mark.slow  # the style sheet is that of the comparison, whose page is looked at by default
def test_the_page_fits_a_telephone_in_the_dark(made, browser):
    with opened(browser, made / "index.html", 390, "dark") as page:
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        page.wait_for_function("[...document.images].every(i => !i.src || (i.complete && i.naturalWidth))")
        ink = "getComputedStyle(document.querySelector('[data-chart=m0-heatmap] .ytick text')).fill"
        assert page.evaluate(ink) == page.evaluate("getComputedStyle(document.body).color")
