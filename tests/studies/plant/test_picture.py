"""The main figure: a row an image, and maps that share the original's scale."""

from __future__ import annotations

import copy

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

import ttr
from tests.studies.plant.test_planting import normalised
from tests.tools.tiny_models import SIZE, WIDTH, scramble, tiny_vit
from ttr.backbones.phantoms.artifacts import Artifacts, plant_into
from ttr.drawing.restored import draw_restored
from ttr.studies.plant.picture import restored, write_picture

ALWAYS = Artifacts(1, (3,), torch.zeros(WIDTH), torch.eye(WIDTH)[0], torch.zeros(1), 1.0, 50.0, threshold=-1)


def test_a_row_an_image_on_the_originals_scale(tmp_path):
    original = ttr.adapt(scramble(tiny_vit()), preprocess=normalised)
    planted = plant_into(copy.deepcopy(original), ALWAYS)
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    images = {"first": Image.fromarray(pixels[0]), "second": Image.fromarray(pixels[1])}
    rows = restored(original, planted, images)
    assert [row.name for row in rows] == ["first", "second"]
    assert np.array_equal(rows[0].pixels, pixels[0])
    for row in rows:
        a, b = row.original.ravel(), row.planted.ravel()
        assert row.planted_cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)
        assert row.original.sum() == pytest.approx(1, abs=1e-5)
    figure = draw_restored(rows)
    assert len(figure.axes) == 8
    high = np.percentile(rows[0].original, 99.5)
    for axis, values in zip(
        figure.axes[1:4], (rows[0].original, rows[0].planted, rows[0].after), strict=True
    ):
        shown = axis.images[0].get_array()[SIZE // 8 :: SIZE // 4, SIZE // 8 :: SIZE // 4]
        expected = 255 * matplotlib.colormaps["inferno"](np.clip(values / high, 0, 1))[..., :3]
        np.testing.assert_allclose(shown, expected, atol=0.51)
    assert figure.axes[2].get_xlabel() == f"cosine {rows[0].planted_cosine:.2f}"
    write_picture(figure, tmp_path / "figure.png")
    assert Image.open(tmp_path / "figure.png").width > 400
