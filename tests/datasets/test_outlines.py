"""Where the class of an image is: masks of files, numbers and drawn ones, and boxes, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.tools.hostile_files import png
from tests.tools.made_sets import draw, outline, write_rows
from ttr.datasets.phantom_lesions import phantom_lesions
from ttr.datasets.phantom_set import phantom_set
from ttr.datasets.registry import Box, Masks, Outlines, open_dataset
from ttr.errors import DataError, ImageError

SIZE = (8, 6)


def table(root, rows, header="path,label,split,mask,box"):
    for number in range(6):
        draw(root / f"{number}.png", number)
    return open_dataset("csv", write_rows(root / "t.csv", header, rows))


@pytest.fixture
def mixed(tmp_path):
    """One image with a mask and a box, one with two boxes, one with nothing; all of the test split."""
    outline(tmp_path / "m.png", (1, 2, 4, 5))
    rows = [(f"{n}.png", "ab"[n % 2], ("train", "train", "val")[n], "", "") for n in range(3)]
    rows += [
        ("3.png", "a", "test", "m.png", '"0,0,8,6"'),
        ("4.png", "a", "test", "", '"0,0,2,1;2.4,1,3.6,3"'),
    ]
    return table(tmp_path, [*rows, ("5.png", "b", "test", "", "")])


def test_a_mask_counts_before_boxes_and_a_pixel_is_inside_by_its_middle(mixed):
    outlines = Outlines.of(mixed)
    with_mask, with_boxes = outlines.items("test")
    assert np.argwhere(outlines.draw(with_mask, SIZE)).tolist() == [
        [y, x] for y in (2, 3, 4) for x in (1, 2, 3)
    ]
    # The middle of column 2 is 2.5, that of column 3 is 3.5: both between 2.4 and 3.6.
    assert np.argwhere(outlines.draw(with_boxes, SIZE)).tolist() == [
        [0, 0],
        [0, 1],
        [1, 2],
        [1, 3],
        [2, 2],
        [2, 3],
    ]
    assert outlines.items("train") == ()
    with pytest.raises(DataError, match=r"no mask and no box of a class in its train split \(2 images\)"):
        outlines.required("train")


def test_what_does_not_fit_its_image_is_refused_by_name(mixed):
    outlines = Outlines.of(mixed)
    with_mask, with_boxes = outlines.items("test")
    with pytest.raises(
        ImageError, match="the mask of 3.png has 8 × 6 pixels, and its image 9 × 6; needed one"
    ):
        outlines.draw(with_mask, (9, 6))
    with pytest.raises(ImageError, match=r"box 2.4, 1, 3.6, 3 of 4.png leaves its image of 2 × 6 pixels"):
        outlines.draw(with_boxes, (2, 6))
    assert outlines.draw(with_boxes, (3, 6)).shape == (6, 3), "by less than a pixel it may"
    with_mask.mask.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="the mask of 3.png is not an image"):
        outlines.draw(with_mask, SIZE)
    with_mask.mask.write_bytes(png(20_000, 20_000))
    with pytest.raises(ImageError, match="the mask of 3.png has too many pixels"):
        outlines.draw(with_mask, SIZE)


@pytest.mark.parametrize("cell", ["1,2,3", "1,2,1,4", "-1,0,2,2", "a,b,c,d", "1,2,nan,4", "0,0,inf,2"])
def test_a_cell_without_a_box_in_it_is_refused_with_its_line(tmp_path, cell):
    rows = [("0.png", "a", "train", ""), ("1.png", "b", "train", f'"{cell}"')]
    with pytest.raises(DataError, match=r"t.csv, line 3: box .* is none; needed left,top,right,bottom"):
        table(tmp_path, rows, "path,label,split,box")


@pytest.mark.parametrize("cell", ["1 2 3 4", "[1, 2, 3, 4]", "(1,2,3,4);", "1.0,2.0,3.0,4.0"])
def test_boxes_are_read_as_people_write_them(tmp_path, cell):
    splits, cells = ("train", "train", "val", "test"), ("", f'"{cell}"', "NaN", "")
    rows = [(f"{n}.png", "abab"[n], splits[n], cells[n]) for n in range(4)]
    found = table(tmp_path, rows, "path,label,split,bbox")
    boxes = {item.name: item.boxes for item in found.items}
    assert boxes == {"0.png": (), "1.png": (Box("", 1, 2, 3, 4),), "2.png": (), "3.png": ()}


def test_boxes_of_other_findings_are_not_the_class_of_an_image(mixed):
    boxes = (Box("a", 0, 0, 1, 1), Box("c", 2, 0, 4, 1))
    items = tuple(replace(item, mask=None, boxes=boxes) for item in mixed.items)
    named = Outlines.of(replace(mixed, items=items))
    assert {item.label for item in named.items("test")} == {"a"}
    assert named.draw(named.items("test")[0], SIZE).sum() == 1
    others = tuple(replace(item, boxes=boxes[1:]) for item in items)
    none_named = Outlines.of(replace(mixed, items=others))
    assert len(none_named.items("test")) == 3
    assert none_named.draw(none_named.items("test")[0], SIZE).sum() == 2


def test_of_a_mask_of_numbers_the_images_own_class_counts(mixed):
    numbers = np.array([[0, 1, 2, 255]])
    masks = Masks(("background", "b", "a"), lambda item: numbers, covers=lambda item: True)
    item = mixed.select("test")[0]
    assert Outlines.of(replace(mixed, masks=masks)).draw(item, (4, 1)).tolist() == [[0, 0, 1, 255]]
    strange = replace(masks, classes=("background", "x", "y"))
    assert Outlines.of(replace(mixed, masks=strange)).draw(item, (4, 1)).tolist() == [[0, 1, 1, 255]]


def test_phantoms_have_an_outline_each():
    for dataset in (phantom_set(), phantom_lesions()):
        outlines = Outlines.of(dataset)
        assert len(outlines.items("test")) == len(dataset.select("test"))
        item = outlines.items("test")[1]
        drawn = outlines.draw(item, (224, 224))
        assert set(np.unique(drawn)) == {0, 1}


def test_a_phantom_lesion_is_what_tells_the_classes_apart():
    dataset = phantom_lesions(counts={"train": 6, "val": 2, "test": 6})
    outlines, shares = Outlines.of(dataset), []
    for item in dataset.items:
        grey, spot = np.asarray(dataset.open(item))[..., 0], outlines.draw(item, (224, 224)) == 1
        y, x = (np.mgrid[:224, :224] + 0.5) / 224 - 0.5
        rest = (np.hypot(x, y) < 0.45) & ~spot
        assert abs(grey[rest].mean() / 255 - 0.5) < 0.01
        assert abs(grey[spot].mean() / 255 - {"bright": 0.9, "dark": 0.1}[item.label]) < 0.01
        shares.append(spot.mean())
    assert len({outlines.draw(item, (224, 224)).tobytes() for item in dataset.items}) == 14
    assert 0.004 < min(shares) < max(shares) < 0.046
    assert phantom_lesions(seed=1).items[0].name != dataset.items[0].name
