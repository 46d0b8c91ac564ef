"""What a head says on the page: the benchmark's own answers, softened by one temperature."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import ttr
from tests.tools.small_results import COUNTS
from ttr.apps.image.answers import fitted_temperature, read_bench_head, read_head
from ttr.apps.image.intake import Picture
from ttr.apps.image.workbench import Workbench
from ttr.datasets.phantom_set import phantom_set
from ttr.errors import DataError, ModelError

SET = phantom_set(counts=COUNTS)
FIRST = SET.select("test")[0]


@pytest.fixture(scope="module")
def bench(small_bench):
    return small_bench


def test_the_page_answers_as_the_benchmark_did_at_one_temperature(bench):
    reader = read_bench_head(bench)
    assert reader.calibrated_on == COUNTS["test"]
    rows = pd.read_parquet(bench / "predictions.parquet")
    rows = rows[(rows.arm == "plain") & (rows["head"] == "logistic") & (rows.feature == "embedding")]
    said = np.array(rows[rows["image"] == FIRST.name].probabilities.iloc[0])
    softened = said ** (1 / reader.temperature)
    backbone = ttr.load("phantom", image_size=64)
    workbench = Workbench({"small": lambda: backbone}, heads=[reader])
    picture = Picture(SET.decode(FIRST, SET.read(FIRST)), "PNG", "0" * 64)
    answer = workbench.case(picture, workbench.choose("small")).answer
    shown = {name: before for name, before, _ in answer.rows}
    expected = dict(zip(reader.classes, softened / softened.sum(), strict=True))
    for name, value in shown.items():
        assert value == pytest.approx(expected[name], abs=2e-3)
    assert answer.calibrated_on == COUNTS["test"]


def test_the_temperature_is_the_likeliest_one(bench):
    reader = read_bench_head(bench)
    rows = pd.read_parquet(bench / "predictions.parquet")
    rows = rows[(rows.arm == "plain") & (rows["head"] == "logistic") & (rows.feature == "embedding")]
    said = np.log(np.clip(np.stack(rows.probabilities.to_list()), 1e-12, 1))
    right = [reader.classes.index(label) for label in rows.label]

    def loss(temperature):
        soft = np.exp(said / temperature)
        return -np.log((soft / soft.sum(axis=1, keepdims=True))[range(len(right)), right]).mean()

    assert loss(reader.temperature) <= min(map(loss, np.geomspace(0.05, 20, 200))) + 1e-4


def test_a_head_answers_only_for_its_own_weights(bench):
    backbone = ttr.load("phantom-reg4", image_size=64)
    workbench = Workbench({"other": lambda: backbone}, heads=[read_bench_head(bench)])
    picture = Picture(SET.decode(FIRST, SET.read(FIRST)), "PNG", "0" * 64)
    assert workbench.case(picture, workbench.choose("other")).answer is None


def test_a_bare_file_is_uncalibrated_and_a_broken_folder_is_refused(bench, tmp_path):
    (file, *_) = bench.glob("head-plain-0-embedding-logistic-*.safetensors")
    assert (read_head(file).temperature, read_head(file).calibrated_on) == (1, 0)
    with pytest.raises(ModelError):
        read_head(tmp_path / "none.safetensors")
    copy = tmp_path / "copy"
    shutil.copytree(bench, copy)
    (copy / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="the heads of copy cannot be read; run ttr bench again"):
        read_bench_head(copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"] = [name for name in manifest["files"] if not name.startswith("head-plain")]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert read_bench_head(copy) is None


def test_a_fitted_temperature_undoes_the_one_that_was_put_in():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4000, 5))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = np.array([random.choice(5, p=row) for row in true])
    sharp = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)
    assert fitted_temperature(sharp, targets) == pytest.approx(3, rel=0.1)


def test_a_head_answers_only_for_features_that_are_pooled_as_its_own_were(bench, tmp_path):
    """A result of before says nothing of it: features were CLS then, wherever there was one."""
    reader = read_bench_head(bench)
    backbone = ttr.load("phantom", image_size=64)
    assert reader.pooling == backbone.pooling == "cls"
    assert reader.fits(backbone, 192)
    assert not reader.fits(backbone.with_pooling("patches"), 192)
    copy = tmp_path / "before"
    shutil.copytree(bench, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["provenance"]["backbone"]["pooling"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    before = read_bench_head(copy)
    assert before.fits(backbone, 192)
    assert not before.fits(backbone.with_pooling("patches"), 192)
