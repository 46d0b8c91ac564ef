"""``ttr reproduce decoupling``: published beside measured, and what is missing by name."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from safetensors.torch import save_file

import ttr
from tests.tools.report_page import held_to_the_design
from ttr.datasets.phantom_set import phantom_set
from ttr.errors import ModelError
from ttr.run import Run
from ttr.studies.reproduce.decoupling import reproduce_decoupling
from ttr.studies.schemas import is_result

SMALL = ("--dataset", "phantom", "--num-images", 8, "--quiet")


def test_a_missing_model_keeps_its_published_numbers_and_a_present_one_is_measured(tmp_path):
    def load(name):
        if name != "dinov2-vit-s-14-reg4":
            raise ModelError("its weights are elsewhere")
        return ttr.load("phantom-registers", image_size=64)

    out = tmp_path / "out"
    table = reproduce_decoupling(
        load, phantom_set(), out, Run(cache=tmp_path / "cache", batch_size=8), num_images=8
    )
    written = pd.read_csv(out / "reproduction.csv", keep_default_na=False, na_values=[""])
    assert len(written) == len(table)
    giant = table[table.backbone == "dinov2-vit-g-14-reg4"].set_index("quantity")
    assert giant.published["cosine of attention outputs, patches alone"] == -0.0092
    assert "cosine, patches alone" not in giant.index, "published is the other reading alone"
    assert giant.published["register cosine before the norm"] == 0.9989
    assert giant.measured.isna().all()
    assert set(giant.missing) == {"its weights are elsewhere"}
    small = table[table.backbone == "dinov2-vit-s-14-reg4"].set_index("quantity")
    assert small.measured["cosine, patches alone"] < 0.3 < 0.8 < small.measured["CKA, registers alone"]
    assert {"register cosine before the norm", "register cosine after the norm"} <= set(small.index)
    assert {"CKA of attention outputs, patches alone", "cosine of attention outputs, patches alone"} <= {
        *small.index
    }
    assert "CKA of attention outputs, skip alone" not in small.index
    assert small.published.isna().all()
    assert table.backbone.nunique() == 8
    manifest = json.loads((out / "manifest.json").read_text())
    assert {p.name for p in out.iterdir()} == {*manifest["files"], "manifest.json"}
    assert is_result(out)
    assert (out / "dinov2-vit-s-14-reg4" / "integration.csv").exists()
    page = held_to_the_design(out / "index.html").whole
    assert "<strong>Missing</strong>" in page
    assert page.count("its weights are elsewhere") == 7
    assert "-0.0092" in page
    assert "0.9989" in page
    assert "A rehearsal" not in page


def test_nothing_to_measure_is_refused_and_leaves_nothing(run, tmp_path):
    status, _, err = run("reproduce", "decoupling", *SMALL, "--out", tmp_path / "out")
    assert status == 2
    assert "not one model could be measured" in err
    assert "--weights dinov2-vit-s-14-reg4=FILE" in err
    assert not (tmp_path / "out").exists()


def test_a_rehearsal_says_loudly_that_it_is_one(run, tmp_path):
    names = ("--backbone", "phantom-skip")
    status, said, err = run("reproduce", "decoupling", *SMALL, *names, "--out", tmp_path / "out")
    assert (status, err) == (0, "")
    assert "A REHEARSAL: phantom-skip was measured" in " ".join(said.split())
    table = pd.read_csv(tmp_path / "out" / "reproduction.csv")
    trust = table[table.quantity == "cosine, patches alone"].set_index("backbone").measured
    assert trust["phantom-skip"] < 0.3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--weights", "dinov2-vit-x=w.pt"), "dinov2-vit-x"),
        (("--weights", "nonsense"), "needed NAME=PATH"),
        (("--backbone", "phantom", "--weights", "dinov2-vit-s-14=w.pt"), "a rehearsal takes random weights"),
    ],
)
def test_wrong_options_are_refused(run, tmp_path, options, says):
    status, _, err = run("reproduce", "decoupling", *SMALL, "--out", tmp_path / "out", *options)
    assert status == 2
    assert says in err


@pytest.mark.slow
def test_weights_on_this_machine_are_measured_at_full_size(run, tmp_path):
    """The study's smallest model with random weights in a file."""
    name, file = "dinov2-vit-s-14-reg4", tmp_path / "w.safetensors"
    save_file(ttr.load(name).model.state_dict(), file)
    options = ("--weights", f"{name}={file}", "--out", tmp_path / "out")
    status, said, _ = run("reproduce", "decoupling", *SMALL, *options)
    assert status == 1
    assert "missing: dinov2-vit-g-14-reg4: no weights were given for it" in said
    table = pd.read_csv(tmp_path / "out" / "reproduction.csv")
    assert table[table.backbone == name].measured.notna().all()
