"""The results folder behind the page: what is found, what is refused, tables that are the files' numbers."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from tests.tools.small_results import CONDITIONS
from ttr.apps.html import benchmark as benchmark_html
from ttr.apps.html import integration as integration_html
from ttr.apps.html import pictures as pictures_html
from ttr.apps.html import result_tables
from ttr.apps.html.benchmark import View
from ttr.apps.html.pictures import ALL, FULL, At
from ttr.drawing.regions import ticks
from ttr.errors import DataError, OptionError
from ttr.statistics.verdict import said
from ttr.studies.bench.charts import differences
from ttr.studies.integrate.charts import faithfulness_by_block
from ttr.studies.results import Results
from ttr.studies.schemas import ABLATION, BENCHMARK, INTEGRATION, is_result


@pytest.fixture(scope="module")
def root(tmp_path_factory, small_ablation, small_bench, small_integration):
    """A results folder with an ablation, a benchmark and, one deeper, an integration."""
    root = tmp_path_factory.mktemp("results")
    shutil.copytree(small_ablation, root / "ablation")
    shutil.copytree(small_bench, root / "bench")
    shutil.copytree(small_integration, root / "sizes" / "integration")
    return root


@pytest.fixture(scope="module")
def results(root):
    return Results(root)


@pytest.fixture(scope="module")
def folder(results):
    return results.ablation("ablation")


@pytest.fixture
def copy(root, tmp_path):
    return shutil.copytree(root, tmp_path / "copy")


class Cells(HTMLParser):
    """The rows of a table's body, each a list of texts."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.inside, self.text = [], False, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "tbody":
            self.inside = True
        elif tag == "tr" and self.inside:
            self.rows.append([])
        elif tag in ("th", "td") and self.inside:
            self.rows[-1].append("")
            self.text = True

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self.text = None

    def handle_data(self, data):
        if self.text and self.rows:
            self.rows[-1][-1] += data


def numbers(cell):
    """Return the numbers that a cell prints: the value, then the ends of its interval."""
    return [float(text.replace("−", "-")) for text in re.findall(r"[-−+]?\d+\.\d+", cell)]


def test_results_are_found_at_three_depths_by_what_their_manifests_say(root, results):
    assert results.names(ABLATION) == ["ablation"]
    assert results.names(BENCHMARK) == ["bench"]
    assert results.names(INTEGRATION) == ["sizes/integration"]
    assert Results(root / "bench").names(BENCHMARK) == ["bench"]


def test_what_is_no_finished_result_is_not_found(tmp_path):
    for name, manifest in {
        "no-json": "{",
        "a-list": "[]",
        "other": '{"schema": "ttr.tune/1"}',
        "nothing": "{}",
        "odd": '{"schema": ["ttr.bench/1"]}',
        ".bench.partial-1": '{"schema": "ttr.bench/1"}',
        "a/b/too-deep": '{"schema": "ttr.bench/1"}',
    }.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").write_text(manifest)
    (tmp_path / "no-manifest").mkdir()
    assert [Results(tmp_path).names(kind) for kind in (ABLATION, BENCHMARK, INTEGRATION)] == [[], [], []]
    assert Results().names(ABLATION) == []
    with pytest.raises(OptionError, match="is not a folder"):
        Results(tmp_path / "nowhere")


def test_a_new_result_of_a_name_is_read_anew(copy):
    results = Results(copy)
    before, stamp = results.ablation("ablation"), results.stamp(ABLATION, "ablation")
    assert results.ablation("ablation") is before
    manifest = copy / "ablation" / "manifest.json"
    os.utime(manifest, ns=(1, 1))
    assert results.stamp(ABLATION, "ablation") != stamp
    assert results.ablation("ablation") is not before


def test_links_that_lead_out_are_not_followed(root, copy, tmp_path):
    outside = shutil.copytree(root / "ablation", tmp_path / "outside")
    (copy / "linked").symlink_to(outside)
    (copy / "manifest-alone").mkdir()
    (copy / "manifest-alone" / "manifest.json").symlink_to(outside / "manifest.json")
    (copy / "inside").symlink_to(copy / "ablation")
    assert Results(copy).names(ABLATION) == ["ablation", "inside"]
    (copy / "ablation" / "results.csv").unlink()
    (copy / "ablation" / "results.csv").symlink_to(outside / "results.csv")
    with pytest.raises(DataError, match=r"^ablation: results.csv in it is a link out of the results folder"):
        Results(copy).ablation("ablation")


def test_one_bad_folder_does_not_break_the_list(copy):
    """Whatever a manifest holds or is, the results beside it are listed and read."""
    hostile = {
        "deep": b"[" * 100_000,
        "deeper": b'{"schema":' * 100_000,
        "huge": b" " * (17 << 20),
        "list": b"[]",
        "a list as schema": b'{"schema": ["ttr.ablate/1"]}',
        "twice": b'{"schema": "ttr.ablate/1", "schema": "ttr.bench/1"}',
        "nan": b'{"schema": "ttr.ablate/1", "n": NaN}',
        "no text": b"\xff\xfe",
        "empty": b"",
    }
    for name, content in hostile.items():
        (copy / name).mkdir()
        (copy / name / "manifest.json").write_bytes(content)
    (copy / "pipe").mkdir()
    os.mkfifo(copy / "pipe" / "manifest.json")
    (copy / "folder" / "manifest.json").mkdir(parents=True)
    (copy / "circle").symlink_to(copy / "circle")
    (copy / "bench" / "circle").symlink_to("circle")
    os.mkdir(os.fsencode(copy) + b"/\xff")
    shutil.copy(copy / "bench" / "manifest.json", os.fsencode(copy) + b"/\xff/manifest.json")
    (copy / "sizes" / "integration").rename(copy / "sizes" / ".integration.ttr-earlier")
    results = Results(copy)
    assert is_result(copy / "ablation")
    assert results.names(ABLATION) == ["ablation"]
    assert results.names(BENCHMARK) == ["bench"]
    assert results.names(INTEGRATION) == ["sizes/integration"], "left between two names by a kill"
    assert len(results.ablation("ablation").tables) > 5
    with pytest.raises(DataError, match="circle in it is a link out"):
        results.benchmark("bench")


def test_refusals_are_sentences_without_a_path(copy):
    results = Results(copy)
    (copy / "ablation" / "results.csv").write_text("backbone,dataset\na,b\n")
    (copy / "bench" / "results.csv").unlink()
    (copy / "sizes" / "integration" / "integration.csv").write_text("")
    manifest = copy / "sizes" / "integration" / "manifest.json"
    for read, name, says in (
        (results.ablation, "ablation", "ablation: results.csv is damaged"),
        (results.benchmark, "bench", "bench: results.csv is damaged"),
        (results.integration, "sizes/integration", "sizes/integration: integration.csv is damaged"),
        (results.ablation, "../ablation", "no result of ttr ablate is named ../ablation"),
    ):
        with pytest.raises(DataError) as refused:
            read(name)
        assert str(refused.value).startswith(says)
        assert str(copy) not in str(refused.value)
        assert str(copy.parent) not in str(refused.value)
        assert "\n" not in str(refused.value)
    manifest.write_text('{"schema": "ttr.integrate/1"}')
    with pytest.raises(DataError, match="does not say what made the result"):
        results.integration("sizes/integration")


def test_the_table_of_tasks_is_results_csv(root, folder):
    table = pd.read_csv(root / "ablation" / "results.csv")
    rows = Cells(result_tables.tasks(folder.tables["results"])).rows
    assert len(rows) == len(table)
    for row, of in zip(rows, table.itertuples(), strict=True):
        assert row[0] == of.condition
        assert numbers(row[2]) == pytest.approx(
            [100 * of.value, 100 * of.ci_low, 100 * of.ci_high], abs=0.051
        )
        if of.condition == "full":
            assert row[3] == "–"
        else:
            ends = [100 * of.delta, 100 * of.delta_ci_low, 100 * of.delta_ci_high]
            assert numbers(row[3]) == pytest.approx(ends, abs=0.051)
            assert row[5] == said(of)
        assert int(row[6]) == of.n


def test_flows_and_blocks_are_attention_csv(root, folder):
    table = pd.read_csv(root / "ablation" / "attention.csv")
    here = table[(table.condition == "registers:zero") & (table.block == 3)]
    shares = here.set_index(["source", "target"]).share
    rows = Cells(result_tables.flows(folder.tables["attention"], "registers:zero", 3)).rows
    assert [row[0] for row in rows] == ["from CLS", "from registers", "from patches"]
    assert numbers(rows[2][2])[0] == pytest.approx(shares["patches", "registers"], abs=6e-4)
    assert numbers(rows[0][7])[0] == pytest.approx(shares["cls", "register-4"], abs=6e-4)
    from_cls = table[(table.condition == "full") & (table.source == "cls")]
    text = result_tables.by_block(from_cls, "target", "share", "x", "y", pattern="{:.3f}")
    (to_patches,) = [row for row in Cells(text).rows if row[0] == "patches"]
    expected = from_cls[from_cls.target == "patches"].sort_values("block").share
    assert [numbers(cell)[0] for cell in to_patches[1:]] == pytest.approx(expected.tolist(), abs=6e-4)


def test_additivity_geometry_and_cosines_are_their_files(root, folder):
    sums = pd.read_csv(root / "ablation" / "additivity.csv")
    place = ("registers", "probe", "top1")
    rows = Cells(result_tables.additivity(folder.tables["additivity"], place)).rows
    here = sums[(sums.registers == "registers") & (sums.task == "probe") & (sums.metric == "top1")]
    assert [numbers(row[1])[0] if row[1] != "0.0" else 0 for row in rows] == pytest.approx(
        (100 * here.value).tolist(), abs=0.051
    )
    assert rows[-1][0] == "all − sum"
    assert [row[3] for row in rows] == [said(row) for row in here.itertuples()]
    geometry = pd.read_csv(root / "ablation" / "geometry.csv")
    rows = Cells(result_tables.geometry(folder.tables["geometry"])).rows
    values = geometry.sort_values("measure", kind="stable").value
    assert [numbers(row[2])[0] for row in rows] == pytest.approx(values.tolist(), abs=6e-5)
    cosines = pd.read_csv(root / "ablation" / "registers.csv").set_index(["first", "second"]).cosine
    rows = Cells(result_tables.cosines(folder.tables["registers"])).rows
    assert numbers(rows[0][2])[0] == pytest.approx(cosines["register-1", "register-2"], abs=6e-4)


def test_what_an_ablation_says_of_itself(folder):
    text = result_tables.about(folder)
    assert "A phantom." in text
    assert "12 test images" in text
    assert "Zeroing the trained registers" in text


def test_maps_stand_on_a_stated_scale_and_say_their_numbers(folder):
    shown = folder.pictures
    text = pictures_html.pictures(shown, "norms", At(shown.images[1], "registers:zero", "CLS", ALL))
    values = shown.arrays["norms"][1, 1]
    assert f"largest {values.max():.3g} in row" in text
    largest = f"{shown.arrays['norms'].max():.1f}"
    high = ticks(0.0, float(shown.arrays["norms"].max()))[-1][1]
    assert float(high) == pytest.approx(float(largest), rel=1e-3)
    assert text.count(f"<span>{high}</span>") == 1
    full = pictures_html.pictures(shown, "norms", At(shown.images[1], "registers:zero", "CLS", FULL))
    assert f"<span>{ticks(0.0, float(shown.arrays['norms'][0].max()))[-1][1]}</span>" in full
    assert f"larger values, up to {largest}, take the last colour" in full
    assert text.count("<img") == 1 + 2 + len(CONDITIONS)
    attention = pictures_html.pictures(shown, "attention", At(shown.images[0], "full", "register-2", ALL))
    peak = shown.arrays["attention"][0, 0, 2].max()
    assert "Attention of register-2" in attention
    assert f"largest {peak:.3g} in row" in attention
    with pytest.raises(OptionError, match="choose from the lists"):
        pictures_html.pictures(shown, "norms", At("../secret", "full", "CLS", ALL))
    gallery = pictures_html.gallery(shown)
    assert gallery.count("<h3>register-") == 8
    assert f"{shown.nearest[0][0]['cosine']:.3f}" in gallery
    earlier = replace(shown, nearest_mean=[], arrays={**shown.arrays, "crops_mean": np.array([])})
    assert pictures_html.gallery(earlier).count("<h3>register-") == 4, "a folder of an earlier version"
    assert f"{shown.nearest_mean[3][0]['cosine']:.3f}" in gallery.split("register-4, mean over the images")[1]


def test_maps_that_a_condition_lacks_are_said_to_lack(copy):
    results = Results(copy)
    shown = results.ablation("ablation").pictures
    shown.arrays["attention"][1, :, 1] = np.nan
    pictures_html._made.cache_clear()
    text = pictures_html.pictures(shown, "attention", At(shown.images[0], CONDITIONS[1], "register-1", ALL))
    assert "Hatched: the condition has no such token." in text
    assert f"{CONDITIONS[1]}: there is no such token" in text
    # Beside full, and in the strip.
    assert text.count("ttr-lacking") == 2


def test_before_and_after_are_results_csv_and_comparisons_csv(root, results):
    found = results.benchmark("bench")
    assert benchmark_html.first_pair(found) == ("plain", "ttr, R = 1")
    view = View("plain", "ttr, R = 1", "logistic", "embedding", 42)
    rows = {row[0]: row for row in Cells(benchmark_html.before_after(found, view)).rows}
    table = pd.read_csv(root / "bench" / "results.csv")
    table = table[(table["head"] == "logistic")].set_index(["arm", "metric"])
    for metric, scale in (("top1", 100), ("f1_macro", 100), ("brier", 1), ("ece", 1)):
        row = rows[benchmark_html.METRICS[metric]]
        for cell, arm in zip(row[1:3], ("plain", "ttr"), strict=True):
            of = table.loc[(arm, metric)]
            expected = [scale * of[name] for name in ("value", "ci_low", "ci_high") if of[name] == of[name]]
            assert numbers(cell) == pytest.approx(expected, abs=0.051 if scale == 100 else 6e-4)
    pairs = pd.read_csv(root / "bench" / "comparisons.csv").set_index(["first", "second", "head", "metric"])
    tested = pairs.loc[("ttr", "plain", "logistic", "top1")]
    row = rows[benchmark_html.METRICS["top1"]]
    assert numbers(row[3])[0] == pytest.approx(100 * tested.difference, abs=0.051)
    assert row[5] == said(tested.to_dict())
    assert rows[benchmark_html.METRICS["brier"]][3:] == ["–"] * 3
    text = benchmark_html.before_after(found, view)
    assert "No interval for calibration error: resampling only adds" in text
    assert "published" not in text


def test_a_difference_the_other_way_round_changes_sign_and_verdict(results):
    found = results.benchmark("bench")
    pairs = found.comparisons.copy()
    here = (pairs["first"] == "ttr") & (pairs["second"] == "plain") & (pairs["head"] == "logistic")
    pairs.loc[here, ["difference", "ci_low", "ci_high", "p_holm"]] = [-0.2, -0.3, -0.1, 0.001]
    pairs.loc[here, "verdict"] = "lower"
    changed = type(found)(found.manifest, found.results, pairs)
    there, back = (
        {
            row[0]: row
            for row in Cells(
                benchmark_html.before_after(changed, View(*pair, "logistic", "embedding", 42))
            ).rows
        }["accuracy (top 1), %"]
        for pair in (("plain", "ttr, R = 1"), ("ttr, R = 1", "plain"))
    )
    assert (there[3], there[5]) == ("−20.0 [−30.0, −10.0]", "lower")
    assert (back[3], back[5]) == ("+20.0 [+10.0, +30.0]", "higher")


def test_published_numbers_stand_in_columns_of_their_own(results):
    found = results.benchmark("bench")
    named = found.results.assign(backbone="dinov2-vit-l-14", dataset="orthonet")
    study = type(found)(found.manifest, named, found.comparisons)
    text = benchmark_html.before_after(study, View("token, R = 1", "ttr, R = 1", "logistic", "embedding", 42))
    row = Cells(text).rows[0]
    assert row[-2:] == ["65.00", "69.44"]
    assert all("65.00" not in cell and "69.44" not in cell for cell in row[:-2])
    assert "published before" in text
    assert "Their baseline carries the blank token" in text
    assert all(other[-2:] == ["–", "–"] for other in Cells(text).rows[1:])


def test_what_was_not_measured_is_refused_and_what_was_not_compared_is_said(results):
    found = results.benchmark("bench")
    with pytest.raises(OptionError, match="no arm neurons"):
        benchmark_html.before_after(found, View("neurons", "plain", "logistic", "embedding", 42))
    with pytest.raises(OptionError, match="was not measured with head linear"):
        benchmark_html.before_after(found, View("plain", "ttr, R = 1", "linear", "embedding", 42))
    alone = type(found)(found.manifest, found.results, None)
    text = benchmark_html.before_after(alone, View("plain", "ttr, R = 1", "logistic", "embedding", 42))
    assert Cells(text).rows[0][3:] == ["–"] * 3
    about = benchmark_html.about(found)
    assert "A phantom." in about
    assert "token has blank tokens" in about
    assert "medical study’s baseline" in about


def test_a_benchmark_of_one_arm_is_read(copy):
    (copy / "bench" / "comparisons.csv").write_text("\n")
    assert Results(copy).benchmark("bench").comparisons is None


def test_differences_are_drawn_as_they_are(results):
    pairs = results.benchmark("bench").comparisons
    here = pairs[pairs.metric == "top1"]
    drawn = [x for trace in differences(here).data for x in trace.x]
    assert sorted(drawn) == pytest.approx(sorted(100 * here.difference))
    assert {trace.name for trace in differences(here).data} == {
        "head trained on the arm",
        "head of the bare model",
    }


def test_faithfulness_by_block_is_integration_csv(root, results):
    found = results.integration("sizes/integration")
    table = pd.read_csv(root / "sizes" / "integration" / "integration.csv")
    drawn = faithfulness_by_block(found.table, "phantom-registers", 0)
    (line,) = [trace for trace in drawn.data if trace.name == "registers"]
    expected = table[table.part == "registers"].sort_values("block")
    assert list(line.x) == expected.block.tolist()
    assert list(line.y) == pytest.approx(expected.centred.tolist())
    rows = Cells(integration_html.numbers(found.table, "phantom-registers", 0)).rows
    assert [numbers(row[2])[0] for row in rows] == pytest.approx(table.centred.tolist(), abs=6e-4)
    assert integration_html.counts(found.table, "phantom-registers") == {"none (bare model)": 0}
    assert "fewer images than the feature has dimensions" in integration_html.about(found)


def test_the_command_refuses_a_folder_that_is_not_there(run, tmp_path):
    status, _, error = run("app", "--results", tmp_path / "nowhere", "--no-browser")
    assert status == 2
    assert "is not a folder" in error
    assert len(error.strip().splitlines()) == 1


def test_names_in_a_result_are_escaped(copy):
    index = copy / "ablation" / "pictures.json"
    found = json.loads(index.read_text())
    found["images"][0] = "<script>alert(1)</script>"
    index.write_text(json.dumps(found))
    shown = Results(copy).ablation("ablation").pictures
    text = pictures_html.pictures(shown, "norms", At(shown.images[0], "full", "CLS", ALL))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
