"""The command and its folder: every block of every model and size, read back."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from tests.tools.report_page import held_to_the_design
from tests.tools.tiny_models import SIZE, scramble, tiny_vit
from ttr.analysis.outliers import LARGEST, MEDIAN, SHARE
from ttr.backbones.families import as_backbone
from ttr.datasets.registry import in_memory, phantom_images
from ttr.errors import OptionError
from ttr.run import Run
from ttr.statistics.estimates import share
from ttr.studies.scan.measure import scan
from ttr.studies.scan.settings import ScanSettings
from ttr.studies.scan.tables import by_block
from ttr.studies.scan.write import write_scan
from ttr.studies.schemas import SCAN, is_result


def test_the_command_writes_every_block_of_every_model_and_size(run, tmp_path):
    out = tmp_path / "scan"
    words = ("--backbone", "phantom,phantom-reg4", "--sizes", "64,80", "--quiet", "--out", out)
    status, said, _ = run("scan", *words, "--dataset", "phantom", "--limit", 3)
    assert status == 0
    blocks, models = (pd.read_csv(out / name) for name in ("scan.csv", "models.csv"))
    pairs = [("phantom", 64), ("phantom", 80), ("phantom-reg4", 64), ("phantom-reg4", 80)]
    assert list(zip(models.model, models["size"], strict=True)) == pairs
    wanted = [(*pair, block) for pair in pairs for block in range(6)]
    assert list(zip(blocks.model, blocks["size"], blocks.block, strict=True)) == wanted
    assert list(models.remedy) == ["TTR"] * 2 + ["cannot be said: too few images"] * 2
    assert list(models.first_block)[:2] == [2, 2]
    assert models.first_block.isna().tolist() == [False, False, True, True]
    assert (blocks.n == 3).all()
    manifest = json.loads((out / "manifest.json").read_text())
    assert is_result(out, SCAN)
    assert [made["backbone"]["image_size"] for made in manifest["provenance"]] == [[64, 64], [80, 80]] * 2
    assert manifest["answer"] in said.replace("\n", " ")
    assert "phantom at 64 px (outliers from block 2 on" in manifest["answer"]
    assert said.strip().splitlines()[-1] == f"open: {(out / 'index.html').resolve()}"
    page = held_to_the_design(out / "index.html").whole
    assert page.count('class="plot"') == 2
    assert "A phantom." in page
    assert "dirty: blocks 2..5" in page


def test_a_row_holds_means_over_images_and_the_interval_of_a_share():
    backbone = as_backbone(scramble(tiny_vit()))
    images = torch.randn(7, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    middle = float(scan(backbone, images).values[:, -1, MEDIAN].mean())
    found = scan(backbone, images, middle)
    table = by_block([found])
    assert len(table) == backbone.num_layers
    last = table.iloc[-1]
    values = found.values[:, -1]
    ends = share(values[:, SHARE]).interval()
    assert 0 < last.ci_low < last.outlier_share < last.ci_high
    assert (last.ci_low, last.ci_high) == (ends.low, ends.high)
    assert (last.median_norm, last.max_norm) == (values[:, MEDIAN].mean(), values[:, LARGEST].mean())


def test_what_cannot_be_scanned_is_refused(run, tmp_path):
    images = in_memory({each.name: each.image for each in phantom_images(1)})
    cut = as_backbone(scramble(tiny_vit(img_size=36)))
    with pytest.raises(OptionError, match="size 36 .* which have 8 px; needed a multiple, such as 32 or 40"):
        write_scan(["tiny"], lambda name, size: cut, images, tmp_path / "out", run=Run())
    with pytest.raises(OptionError, match="each once"):
        ScanSettings(sizes=(64, 64))
    assert not (tmp_path / "out").exists()
    next(iter(phantom_images(1))).image.save(tmp_path / "a.png")
    words = ("scan", "--images", tmp_path, "--out", tmp_path / "out")
    for more, says in (
        (("--backbone", "phantom,phantom"), "phantom, phantom; needed one or more, each once"),
        (("--backbone", "phantom,nothing"), "'nothing'"),
        (("--backbone", "phantom", "--sizes", "64", "--image-size", "64"), "give one of them"),
        (("--backbone", "phantom", "--sizes", "64,"), "--sizes '64,'"),
    ):
        status, _, error = run(*words, *more)
        assert (status, error.count("\n")) == (2, 1)
        assert says in error
