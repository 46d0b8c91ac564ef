"""``ttr integrate``: its tables against plain arithmetic, its page, its refusals."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import ttr
from tests.tools.report_page import held_to_the_design
from ttr.analysis.integration import full_output, restricted, split
from ttr.analysis.similarity import linear_cka
from ttr.datasets.phantom_set import phantom_set
from ttr.datasets.registry import ReadAhead, draw_sample
from ttr.forward.blocks import watch
from ttr.forward.record import record
from ttr.run import Run
from ttr.studies.integrate.parts import KINDS, measure_parts
from ttr.studies.integrate.section import integration_section
from ttr.studies.integrate.settings import IntegrationSettings

COUNT = 12
SMALL = ("--dataset", "phantom", "--image-size", 64, "--num-images", COUNT, "--quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two phantoms at blocks 4 and 5, R = 0 and 2, 12 images of 64 px."""
    from ttr.studies.integrate.write import write_integration

    out = tmp_path_factory.mktemp("integrate") / "out"
    names = ["phantom-registers", "phantom"]
    write_integration(
        names,
        lambda name: (ttr.load(name, image_size=64), planted(name)),
        phantom_set(),
        out,
        IntegrationSettings((-2, -1), (0, 2), num_images=COUNT),
        Run(cache=out.parent / "cache", batch_size=8),
    )
    return out


def planted(name):
    return ttr.RegisterNeurons.from_pairs(ttr.load(name, image_size=64).planted)


def read(folder, name):
    return pd.read_csv(folder / f"{name}.csv", dtype={"named": str})


def test_the_table_has_the_promised_columns_and_every_part(folder):
    table = read(folder, "integration")
    promised = "backbone block num_registers part cka ci_low ci_high cosine attention_share norm"
    assert list(table.columns)[:10] == promised.split()
    places = table.groupby(["backbone", "block", "num_registers"]).part.agg(list)
    every = ["patches", "registers", "cls", "skip"]
    assert set(places.index) == {
        (b, k, r) for b in ("phantom-registers", "phantom") for k in (4, 5) for r in (0, 2)
    }
    for (name, _, registers), parts in places.items():
        assert parts == (every if registers or name != "phantom" else ["patches", "cls", "skip"])
    assert (table.images == COUNT).all()
    assert table[table.part == "skip"].attention_share.isna().all()
    within = table[["ci_low", "cka", "ci_high"]].to_numpy()
    assert (np.diff(within, axis=1) >= -1e-9).all()


@pytest.mark.parametrize("registers", [0, 2])
def test_the_numbers_are_those_of_one_pass(folder, registers):
    """Reference: all images in one batch, the pure functions, the in-memory CKA."""
    backbone, data = ttr.load("phantom", image_size=64), phantom_set()
    items = draw_sample(data.select("test"), COUNT, 42)
    images = torch.stack([backbone.preprocess(data.open(item)) for item in items])
    wrap = ttr.TestTimeRegisters(backbone, planted("phantom"), num_registers=registers)
    if not registers:
        wrap = ttr.TestTimeRegisters(backbone, ttr.RegisterNeurons.from_pairs([]), num_registers=0)
    with wrap:
        with watch(backbone, 4) as seen:
            layout = record(backbone, images).layout
        full, parts = full_output(backbone, layout, seen), restricted(backbone, layout, 4, seen)
        made_of = split(backbone, layout, 4, seen[4])
    table = read(folder, "integration")
    rows = table[(table.backbone == "phantom") & (table.block == 4) & (table.num_registers == registers)]
    assert len(rows) == len(parts)
    for row in rows.itertuples():
        assert row.cka == pytest.approx(linear_cka(parts[row.part], full), abs=1e-4)
        assert row.cka_debiased == pytest.approx(linear_cka(parts[row.part], full, debiased=True), abs=1e-3)
        cosine = F.cosine_similarity(parts[row.part], full).mean()
        assert row.cosine == pytest.approx(float(cosine), abs=1e-4)
        assert row.norm == pytest.approx(float(made_of.contributions[row.part].norm(dim=1).mean()), rel=1e-3)
        if row.part != "skip":
            assert row.attention_share == pytest.approx(float(made_of.shares[row.part].mean()), abs=1e-5)


def test_changes_are_paired_with_the_bare_model(folder):
    changes, table = read(folder, "changes"), read(folder, "integration")
    assert len(changes) == 4
    for row in changes.itertuples():
        at = (table.backbone == row.backbone) & (table.block == row.block) & (table.part == "patches")
        means = table[at].set_index("num_registers").centred
        assert row.difference == pytest.approx(means[2] - means[0], abs=1e-9)
        assert not row.p_holm < row.p
        assert row.verdict in ("higher", "lower", "equivalent", "not distinguishable")


def test_accuracy_of_each_part_and_of_the_whole(folder):
    table = read(folder, "accuracy")
    assert set(table.task) == {"one-shot", "probe"}
    assert set(table.part) == {"patches", "registers", "cls", "skip", "full"}
    assert table.accuracy.between(0, 1).all()
    at_last = table[(table.backbone == "phantom-registers") & (table.block == 5) & (table.num_registers == 0)]
    pairs = at_last.pivot(index="part", columns="task", values="accuracy")
    assert pairs.loc["registers", "one-shot"] == pytest.approx(pairs.loc["full", "one-shot"], abs=0.15)


def test_cls_of_the_last_block_is_itself(folder):
    layers = read(folder, "layers")
    assert layers[layers.block == 5].cosine.to_numpy() == pytest.approx(1)
    assert len(layers) == 2 * 2 * 6


def test_registers_are_compared_before_and_after_the_norm(folder):
    table = read(folder, "registers")
    table = table[table.token == "strongest register"]
    assert set(table.when) == {"before", "after"}
    # The bare phantom has no register; its test-time register carries the planted massive dimension, 191.
    assert not ((table.backbone == "phantom") & (table.num_registers == 0)).any()
    massive = table[(table.backbone == "phantom") & (table.when == "before")]
    assert (massive.named.str.split().str[0] == "191").all()
    assert (massive.outlier_share > 0.9).all()


def test_the_page_and_the_manifest(folder):
    page = held_to_the_design(folder / "index.html").whole
    for words in ("Is the map faithful?", "not faithful", "Few images.", "A phantom.", "Attention by size"):
        assert words in page
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {p.name for p in folder.iterdir()} == {*manifest["files"], "manifest.json"}
    assert [made["backbone"]["name"] for made in manifest["provenance"]] == ["phantom-registers", "phantom"]


def test_the_section_stands_alone_from_its_csv(folder):
    section = integration_section(read(folder, "integration"))
    assert section.html.strip().startswith("<h2>Is the map faithful?</h2>")
    assert section.html.count("<h3") == 3
    one = read(folder, "integration").query("backbone == 'phantom' and num_registers == 0 and block == 5")
    assert not integration_section(one).charts


def test_what_is_kept_of_an_image_does_not_stand_in_memory():
    backbone = ttr.load("phantom", image_size=64)
    images = ReadAhead(phantom_set().opened(phantom_set().select("test")[:5]), Run())
    settings = IntegrationSettings(num_registers=(0, 1))
    found = measure_parts(backbone, planted("phantom"), images, settings, Run(batch_size=2))
    assert all(isinstance(vectors.base, np.memmap) for vectors in found.vectors.values())
    assert {kind for _, _, kind in found.vectors} == set(KINDS)
    assert all(np.abs(vectors).sum(axis=1).all() for vectors in found.vectors.values())


def test_the_command_writes_the_folder_and_says_what_it_found(run, tmp_path):
    out = tmp_path / "out"
    status, said, err = run(
        *("integrate", "--backbone", "phantom-skip", *SMALL, "--num-registers", "0", "--renormalise"),
        *("--keep-skip", "--blocks", "last", "--out", out),
    )
    assert (status, err) == (0, "")
    assert said.splitlines()[-1] == f"open: {out / 'index.html'}"
    table = read(out, "integration").set_index("part")
    # With the skip connection beside it, what comes through the skip passes for the patches' own.
    assert table.cosine["patches"] > 0.9
    assert "--keep-skip" in json.loads((out / "manifest.json").read_text())["notes"][2]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--num-registers", "0", "--blocks", "6"), "block=6, but phantom has 6 blocks"),
        (("--blocks", "first"), "cannot read 'first'"),
        (("--num-registers", "-1"), "num_registers -1; needed numbers >= 0"),
        (("--num-registers", "1,1"), "each once"),
        (("--backbone", "phantom"), "backbones phantom, phantom; needed one or more, each once"),
        (("--backbone", "phantom-skip", "--neurons", __file__), "with several backbones"),
        (
            ("--num-registers", "0", "--blocks", "last", "--backbone", "timm:nothing"),
            "timm has no architecture",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(run, tmp_path, options, says):
    out = tmp_path / "out"
    status, _, err = run("integrate", "--backbone", "phantom", *SMALL, "--out", out, *options)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1
    assert not out.exists()


def test_a_set_of_one_class_is_refused_before_anything_is_measured(run, tmp_path):
    for part in ("train", "test"):
        (tmp_path / "set" / part / "only").mkdir(parents=True)
        for n in range(10):
            Image.new("L", (32, 32), 20 * n).save(tmp_path / "set" / part / "only" / f"{part}{n}.png")
    where = ("--dataset", "folder", "--root", tmp_path / "set", "--out", tmp_path / "out")
    status, _, err = run("integrate", "--backbone", "phantom", *where)
    assert (status, "only" in err, err.count("\n")) == (2, True, 1), err
