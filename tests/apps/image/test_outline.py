"""What a visitor outlines, and the numbers of it: those of the metrics themselves, called directly."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import ttr
from tests.tools.tiny_models import SIZE, scramble, tiny_vit
from ttr.apps.image.intake import Picture
from ttr.apps.image.outline import SEED, Outline, box_on, localised, mask_on, read_mask
from ttr.apps.image.uploads import ABSENT
from ttr.backbones.phantoms.recipes import Preprocess
from ttr.errors import ImageError
from ttr.evaluate.localisation import METRICS, Truth, centred_gaussian
from ttr.evaluate.masks import outline_as_seen
from ttr.studies.localize.localisation import RANDOM_MAPS

WIDTH, HEIGHT = 90, 60
GRID = (4, 4)


@pytest.fixture(scope="module")
def backbone():
    return ttr.adapt(scramble(tiny_vit()), preprocess=Preprocess(SIZE))


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Picture(Image.fromarray(pixels), "PNG", "a" * 64)


def saved(folder, image, name="mask.png", **options):
    image.save(folder / name, **options)
    return folder / name


def test_a_box_is_its_pixels_in_whatever_order_its_corners_came(picture):
    outline = box_on(picture, [70.4, 50, 20, 10])
    assert outline.corners == (20, 10, 70, 50)
    assert outline.said == "box from 20, 10 to 70, 50"
    rows, columns = np.nonzero(outline.inside)
    assert outline.inside.shape == (HEIGHT, WIDTH)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (20, 10, 69, 49)
    assert outline.inside.sum() == 50 * 40


@pytest.mark.parametrize(
    ("corners", "says"),
    [
        ((None, 0, 10, 10), "all four of its numbers"),
        ((float("nan"), 0, 10, 10), "all four of its numbers"),
        ((0, 0, WIDTH + 1, 10), "leaves the picture; needed 0 to 90"),
        ((0, -1, 10, 10), "leaves the picture"),
        ((5, 5, 5, 20), "a box without a pixel"),
        ((-1e300, 0, 1e300, 10), "leaves the picture"),
    ],
)
def test_a_box_that_is_none_is_refused_in_a_sentence(picture, corners, says):
    with pytest.raises(ImageError, match=says):
        box_on(picture, corners)


def test_every_pixel_of_a_mask_that_is_neither_black_nor_transparent_is_inside(picture, tmp_path):
    truth = np.zeros((HEIGHT, WIDTH), dtype=bool)
    truth[12:30, 40:75] = True
    faint = Image.fromarray(truth.astype(np.uint8))  # a class number, to the eye black
    palette = faint.convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0] + [0] * 762)
    clear = Image.fromarray(np.dstack([np.full((HEIGHT, WIDTH, 3), 200, np.uint8), np.uint8(255) * truth]))
    for image in (faint, palette, clear, Image.fromarray(truth)):
        outline = mask_on(picture, read_mask(saved(tmp_path, image)))
        np.testing.assert_array_equal(outline.inside, truth)
        assert outline.corners == (40, 12, 75, 30)
        assert outline.of(picture)


def test_a_mask_that_cannot_be_one_is_refused_in_a_sentence(picture, tmp_path):
    grey = Image.fromarray(np.full((HEIGHT, WIDTH), 9, dtype=np.uint8))
    deep = Image.fromarray(np.full((HEIGHT, WIDTH), 300, dtype=np.uint16))
    (tmp_path / "page.png").write_text("<html>")
    (tmp_path / "half.png").write_bytes(saved(tmp_path, grey).read_bytes()[:60])
    for path, says in (
        (saved(tmp_path, grey, "mask.jpg"), "is no PNG"),
        (saved(tmp_path, deep, "deep.png"), "has 16 bits a colour"),
        (tmp_path / "page.png", "is no PNG"),
        (tmp_path / "half.png", "damaged"),
        (tmp_path / "absent.png", ABSENT),
    ):
        with pytest.raises(ImageError) as refused:
            read_mask(path)
        assert says in str(refused.value)
        assert str(tmp_path) not in str(refused.value)
    small, black = grey.resize((45, 30)), Image.new("L", (WIDTH, HEIGHT))
    for image, says in ((small, "45 × 30 pixels and the picture 90 × 60"), (black, "is all black")):
        with pytest.raises(ImageError, match=says):
            mask_on(picture, read_mask(saved(tmp_path, image)))


def test_an_outline_is_of_its_own_picture_alone(picture):
    outline = box_on(picture, [0, 0, 9, 9])
    assert outline.of(picture)
    assert not outline.of(Picture(picture.image, "PNG", "b" * 64))
    assert not outline.of(Picture(picture.image.resize((30, 20)), "PNG", "a" * 64))


def test_the_numbers_are_those_of_the_metrics_beside_random_and_centre(backbone, picture):
    outline = box_on(picture, [20, 5, 60, 40])
    maps = [np.random.default_rng(seed).random(GRID).astype(np.float32) for seed in (3, 4)]
    found = localised(backbone, outline, [*maps, np.ones(GRID, np.float32)])
    truth = Truth.of(outline_as_seen(backbone, outline.inside.astype(np.uint8)), GRID)
    drawn = np.random.default_rng(SEED).random((RANDOM_MAPS, *GRID))
    assert list(found.values) == list(METRICS)
    assert 0 < truth.share == found.share < 1
    for name, metric in METRICS.items():
        assert found.values[name][:2] == tuple(metric(each, truth) for each in maps)
        assert found.random[name] == pytest.approx(np.mean([metric(each, truth) for each in drawn]))
        assert found.centre[name] == metric(centred_gaussian(GRID), truth)
    assert found.flat == (False, False, True)


def test_an_outline_that_no_map_could_miss_or_hit_is_refused(backbone, picture):
    whole = np.ones((HEIGHT, WIDTH), dtype=bool)
    for inside, says in ((whole, "covers all that the model sees"), (~whole, "is too small")):
        outline = Outline(inside, "box", (0, 0, 1, 1), picture.sha256)
        with pytest.raises(ImageError, match=says):
            localised(backbone, outline, [np.zeros(GRID)])
