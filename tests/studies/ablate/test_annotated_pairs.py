"""Correspondence on annotated pairs in the suite: points follow their images, and ``full`` finds itself."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.backbones.phantoms.recipes import Preprocess
from ttr.datasets.layouts.spair import spair
from ttr.datasets.phantom_set import phantom_set
from ttr.errors import ImageError
from ttr.registers.arms import PLAIN
from ttr.run import Run
from ttr.studies.ablate.annotated_pairs import AnnotatedPairs
from ttr.studies.ablate.settings import AblationSettings
from ttr.studies.ablate.write import write_ablation

SIDE = 64


@pytest.fixture(scope="module")
def backbone():
    model = scramble(tiny_vit(img_size=SIDE, reg_tokens=2, no_embed_class=True))
    return ttr.adapt(model, preprocess=Preprocess(SIDE))


@pytest.fixture
def root(tmp_path):
    """Six pairs in two categories, each of an image with itself, one wide and one high."""
    folder = tmp_path / "spair"
    random = np.random.default_rng(0)
    (folder / "PairAnnotation" / "test").mkdir(parents=True)
    for number in range(6):
        category, size = (("cat", (64, 96)), ("dog", (96, 64)))[number % 2]
        (folder / "JPEGImages" / category).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "JPEGImages" / category / f"{number}.png")
        points = [[30, 30], [44, 40], [36, 52]][: 2 + number % 2]
        annotation = {
            "src_imname": f"{number}.png",
            "trg_imname": f"{number}.png",
            "category": category,
            "src_kps": points,
            "trg_kps": points,
            "trg_bndbox": [10, 10, 60, 60],
        }
        (folder / "PairAnnotation" / "test" / f"{number}.json").write_text(json.dumps(annotation))
    return folder


def test_points_and_boxes_follow_their_image(backbone, root):
    pairs = spair(root)
    annotated = AnnotatedPairs(backbone)
    images = annotated.read(pairs[0])[None]
    batch = annotated.batch(pairs[:1], images)
    # 64 x 96 px, centre crop of 64 px: 16 px are cut off at the left.
    np.testing.assert_allclose(batch.source[0], np.array([[14, 30], [28, 40]]), atol=0.25)
    np.testing.assert_allclose(batch.extent, [[50, 50]], atol=0.3)
    assert batch.valid.tolist() == [[True, True]]
    assert len(annotated.places) == 1


def test_a_suite_on_pairs_finds_each_point_in_full_and_resamples_categories(backbone, root, tmp_path):
    dataset = phantom_set(counts={"train": 12, "val": 6, "test": 6})
    settings = AblationSettings(tasks=("correspondence",), analysis_images=0)
    run = Run(cache=tmp_path / "c", batch_size=4)
    out = tmp_path / "out"
    write_ablation(backbone, PLAIN, dataset, ["registers:zero"], out, settings, run, pairs=spair(root))
    table = pd.read_csv(out / "results.csv").set_index(["metric", "condition"])
    assert (table.n == 6).all()
    assert table.loc[("nearest_patch", "full"), "value"] == 1
    assert table.loc[("pck_0.1", "full"), "value"] == 1
    images = pd.read_parquet(out / "per_image.parquet")
    assert set(images.group) == {"cat", "dog"}
    assert json.loads((out / "manifest.json").read_text())["dataset"]["pairs"] == 6


def test_a_missing_image_of_a_pair_is_named(backbone, root):
    pair = spair(root)[0]
    pair.target.unlink()
    with pytest.raises(ImageError, match="image of pair 0"):
        AnnotatedPairs(backbone).content_hash(pair)
