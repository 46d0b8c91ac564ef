"""The tabs over results in a real browser: figures that answer, numbers that agree, nothing asked outside."""

from __future__ import annotations

import json
import re
import shutil

import pandas as pd
import pytest

from tests.tools.app_page import screenshot, select, violations
from ttr.apps.html import explanations

pytestmark = pytest.mark.browser
#: Of each tab, what is there once it shows a result.
TABS = {
    "Ablation": "#additivity .main-svg",
    "Layers": "#faithful .main-svg",
    "Registers": "#pictures-norms img",
    "Benchmarks": "#bench-forest .main-svg",
}
POINT = """([id, column, row]) => {
    const plot = document.querySelector(`#${id} .js-plotly-plot`), axes = plot._fullLayout;
    plot.scrollIntoView({ block: "center" });
    const whole = plot.getBoundingClientRect();
    return [whole.x + axes._size.l + axes.xaxis.d2p(column), whole.y + axes._size.t + axes.yaxis.d2p(row)];
}"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_ablation, small_bench, small_integration):
    root = tmp_path_factory.mktemp("made")
    for each in (small_ablation, small_bench, small_integration):
        shutil.copytree(each, root / each.name)
    without(root / "ablation", "layers.csv")
    return root


def without(folder, file):
    """Take a table out of a result, as if its analysis had not been asked for."""
    (folder / file).unlink()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = [name for name in manifest["files"] if name != file]
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def root(results_root):
    """The results folder that the page is opened with."""
    return results_root


@pytest.fixture(scope="module")
def page(desk):
    """One visit, which every test goes on with."""
    return desk


@pytest.fixture
def filled(made, root):
    return shutil.copytree(made, root, dirs_exist_ok=True)


def show(page, name):
    select(page, name)
    page.wait_for_selector(TABS[name])


def drawn(page, figure):
    return page.evaluate("id => document.querySelector(`#${id} .js-plotly-plot`).data[0].z", figure)


def until(page, figure, row, column, value):
    """Wait until a cell of a figure is a number."""
    page.wait_for_function(
        """([id, row, column, value]) => {
            const plot = document.querySelector(`#${id} .js-plotly-plot`);
            return plot?.data && Math.abs(plot.data[0].z[row][column] - value) < 1e-9;
        }""",
        arg=[figure, row, column, value],
    )


def pick(page, field, value):
    page.locator(f"#{field} input").click()
    page.get_by_role("option", name=value, exact=True).click()


@pytest.mark.slow  # what is found is held in tests/apps/html/test_result_tables.py
def test_empty_tabs_say_what_fills_them_and_a_new_result_is_found(page, root, made):
    for each in list(root.iterdir()):
        shutil.rmtree(each)
    for name, command in (
        ("Ablation", explanations.MAKE_ABLATION),
        ("Layers", explanations.MAKE_INTEGRATION),
        ("Registers", explanations.MAKE_ABLATION),
        ("Benchmarks", explanations.MAKE_BENCHMARK),
    ):
        select(page, name)
        page.locator(".ttr-empty code", has_text=command).locator("visible=true").first.wait_for()
    screenshot(page, "results-empty")
    shutil.copytree(made, root, dirs_exist_ok=True)
    for name in TABS:
        show(page, name)
        assert page.locator(".ttr-empty").locator("visible=true").count() == 0


def test_a_cell_says_its_value_interval_and_verdict(page, filled):
    show(page, "Ablation")
    results = pd.read_csv(filled / "ablation" / "results.csv").set_index(["condition", "metric"])
    zeroed = results.loc[("registers:zero", "top1")]
    page.mouse.move(*page.evaluate(POINT, ["heatmap", "probe", "registers:zero"]))
    said = page.locator("#heatmap .hoverlayer .hovertext").text_content()
    assert "registers:zero" in said
    assert f"probe{100 * zeroed.value:.2f}" in said
    assert f"[{100 * zeroed.ci_low:.2f}, {100 * zeroed.ci_high:.2f}]" in said
    assert zeroed.verdict in said
    until(page, "heatmap", 1, 0, 100 * zeroed.value)
    page.get_by_label("change from full, points").check()
    until(page, "heatmap", 1, 0, 100 * zeroed.delta)


@pytest.mark.slow
def test_the_block_and_the_condition_choose_the_flows(page, filled):
    show(page, "Ablation")
    attention = pd.read_csv(filled / "ablation" / "attention.csv")
    flows = attention[(attention.source == "patches") & (attention.target == "registers")]
    shares = flows.set_index(["condition", "block"]).share
    until(page, "flows", 2, 1, shares["full", 5])
    slider = page.locator("#flow-block input[type=range]")
    slider.focus()
    for block in (4, 3, 2):
        slider.press("ArrowLeft")
        until(page, "flows", 2, 1, shares["full", block])
    pick(page, "flow-condition", "registers:zero")
    until(page, "flows", 2, 1, shares["registers:zero", 2])
    numbers = page.locator("#flow-numbers table").text_content()
    assert f"{shares['registers:zero', 2]:.3f}" in numbers
    page.locator("#flow-source").get_by_label("patches").check()
    page.locator("#flow-series", has_text="Attention of patches under registers:zero").wait_for()


@pytest.mark.slow  # what is shown of a choice is held in tests/apps/html/test_result_tables.py
def test_pictures_change_with_what_is_chosen_and_the_gallery_shows(page, filled):
    show(page, "Registers")
    page.get_by_role("tab", name="Attention", exact=True).last.click()
    chosen = page.locator("#pictures-attention .ttr-trio .ttr-side").nth(2).locator(".ttr-values")
    maps = [chosen.get_attribute("src")]
    index = json.loads((filled / "ablation" / "pictures.json").read_text())
    for field, value in (
        ("picture-condition", "registers:mean"),
        ("picture-query", "register-2"),
        ("picture-image", index["images"][1]),
    ):
        pick(page, field, value)
        page.wait_for_function(
            """old => document.querySelectorAll("#pictures-attention .ttr-trio .ttr-side")[2]
                .querySelector(".ttr-values").src !== old""",
            arg=maps[-1],
        )
        maps.append(chosen.get_attribute("src"))
    assert len(set(maps)) == 4
    said = chosen.locator("xpath=..").get_attribute("aria-label")
    assert re.match(r"attention of register-2 .*registers:mean: largest [\d.e-]+ in row", said)
    page.locator("#picture-opacity input[type=range]").fill("30")
    page.wait_for_function(
        "getComputedStyle(document.querySelector('.ttr-over > .ttr-values')).opacity === '0.3'"
    )
    page.get_by_role("tab", name="Nearest patches").click()
    page.locator("#gallery img").first.wait_for()
    assert page.locator("#gallery img").count() == sum(map(len, index["nearest"] + index["nearest_mean"]))
    assert page.evaluate("[...document.querySelectorAll('#gallery img')].every(i => i.naturalWidth > 0)")


@pytest.mark.slow
def test_layers_and_benchmarks_show_their_files(page, filled):
    show(page, "Layers")
    probing = pd.read_csv(filled / "ablation" / "probing.csv")
    lines = page.evaluate(
        """() => Object.fromEntries(document.querySelector("#probing .js-plotly-plot").data
            .filter((trace) => trace.mode === "lines+markers").map((trace) => [trace.name, trace.y]))"""
    )
    for token, rows in probing.groupby("token"):
        expected = (100 * rows.sort_values("block").accuracy).tolist()
        assert lines["CLS" if token == "cls" else token] == pytest.approx(expected)
    page.locator(".ttr-missing", has_text="layers.csv is not in this result").wait_for()
    page.locator("#faithful-by").get_by_label("linear CKA").check()
    page.wait_for_function(
        "document.querySelector('#faithful .js-plotly-plot').layout.yaxis.title.text.startsWith('linear CKA')"
    )
    show(page, "Benchmarks")
    table = pd.read_csv(filled / "bench" / "results.csv")
    top1 = table[(table.metric == "top1") & (table["head"] == "logistic")].set_index("arm").value
    row = page.locator("#bench-pair tbody tr").first.inner_text()
    assert f"{100 * top1['plain']:.1f}" in row
    assert f"{100 * top1['ttr']:.1f}" in row
    pick(page, "bench-head", "logistic:plain")
    page.locator("#bench-pair p", has_text="head logistic:plain").wait_for()
    assert "A phantom." in page.locator("#bench-about").inner_text()
    assert "medical study’s baseline" in page.locator("#bench-about").inner_text()


def test_a_damaged_result_is_one_sentence_without_a_path(page, filled):
    whole = (filled / "bench" / "results.csv").read_text()
    (filled / "bench" / "results.csv").write_text("arm\nplain\n")
    manifest = filled / "bench" / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    select(page, "Compare")
    select(page, "Benchmarks")
    said = page.get_by_role("alert").locator("visible=true")
    said.wait_for()
    assert said.inner_text().startswith("Bench: results.csv is damaged")
    assert str(filled) not in page.content()
    assert not page.locator("#bench-pair").is_visible()
    (filled / "bench" / "results.csv").write_text(whole)


@pytest.mark.slow
def test_every_tab_fits_a_telephone_in_the_dark_and_can_be_read_by_all(telephone, filled):
    page = telephone
    for name in TABS:
        show(page, name)
        page.wait_for_selector(f"{TABS[name].split()[0]}:visible")
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        screenshot(page, f"results-{name.lower()}-390-dark")
        assert violations(page) == []
