"""SPair-71k's layout against a small set that the test writes in it, and every way to be wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ttr.datasets.layouts.spair import CARD, spair
from ttr.datasets.registry import open_image
from ttr.errors import DataError
from ttr.evaluate.correspondence import matches
from ttr.evaluate.keypoints import points_as_seen


def annotation(number, **changes):
    return {
        "pair_id": number,
        "src_imname": "2008_000001.jpg",
        "trg_imname": f"2008_{number:06d}.jpg",
        "src_imsize": [90, 60, 3],
        "trg_imsize": [90, 60, 3],
        "src_bndbox": [1, 2, 50, 40],
        "trg_bndbox": [10, 5, 70, 55],
        "category": "cat",
        "src_kps": [[20, 10], [33, 44], [70, 50]],
        "trg_kps": [[21, 11], [34, 43], [number, 50]],
        "kps_ids": ["0", "3", "7"],
        "mirror": 0,
        **changes,
    }


def write(root, split, name, found):
    path = root / "PairAnnotation" / split / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found if isinstance(found, str) else json.dumps(found))
    return path


@pytest.fixture
def root(tmp_path):
    (tmp_path / "JPEGImages" / "cat").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(1, 8):
        pixels = random.integers(0, 256, (6, 9, 3), dtype=np.uint8).repeat(10, axis=0).repeat(10, axis=1)
        Image.fromarray(pixels).save(tmp_path / "JPEGImages" / "cat" / f"2008_{number:06d}.jpg", quality=100)
    for split, numbers in (("trn", (2, 3)), ("val", (4,)), ("test", (7, 6, 5))):
        for number in numbers:
            write(tmp_path, split, f"{number:06d}-2008_000001-2008_{number:06d}:cat", annotation(number))
    return tmp_path


def test_pairs_are_read_as_they_are_written_in_order_of_name(root):
    pairs = spair(root)
    assert [pair.name[:6] for pair in pairs] == ["000005", "000006", "000007"]
    assert [len(spair(root, split)) for split in ("train", "val", "test")] == [2, 1, 3]
    pair = pairs[1]
    assert pair.category == "cat"
    assert open_image(pair.source).size == open_image(pair.target).size == (90, 60)
    assert pair.target.name == "2008_000006.jpg"
    assert pair.source_points.tolist() == [[20, 10], [33, 44], [70, 50]]
    assert pair.target_points[2].tolist() == [6, 50]
    assert pair.target_box.tolist() == [10, 5, 70, 55]
    assert all(len(text) > 3 for text in vars(CARD).values())


def test_the_layouts_list_chooses_and_a_limit_is_a_seeded_sample(root):
    assert len(spair(root, limit=2)) == 2
    assert [p.name for p in spair(root, limit=2)] == [p.name for p in spair(root, limit=2)]
    assert len({spair(root, limit=1, seed=seed)[0].name for seed in range(20)}) == 3
    (root / "Layout/large").mkdir(parents=True)
    listed = root / "Layout/large/test.txt"
    listed.write_text("000007-2008_000001-2008_000007:cat\n000005-2008_000001-2008_000005:cat\n")
    assert [pair.name[:6] for pair in spair(root)] == ["000005", "000007"]
    listed.write_text("000009-none:cat\n")
    with pytest.raises(DataError, match="names the pair 000009-none:cat, but .* is missing; unpack"):
        spair(root)
    listed.write_text("../../x\n")
    with pytest.raises(DataError, match="leads out of"):
        spair(root)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"src_imname": "../../x.jpg"}, "leads out of"),
        ({"trg_imname": None}, "trg_imname is None; needed a name"),
        ({"category": ""}, "category is ''; needed a name"),
        ({"src_kps": [[1, 2]]}, "has 1 keypoint in the source and 3 in the target"),
        ({"src_kps": [[1, 2, 3]] * 3}, r"src_kps has the shape \(3, 3\); needed \[K, 2\] finite numbers"),
        ({"trg_kps": [[1, None]] * 3}, "trg_kps has the shape|trg_kps is missing or no numbers"),
        ({"trg_kps": "many"}, "trg_kps is missing or no numbers"),
        ({"trg_bndbox": [1, 2, 3]}, "trg_bndbox has the shape .* needed 4 finite numbers"),
        ({"trg_bndbox": [10, 5, 10, 9]}, "has no extent; needed .left, top, right, bottom."),
    ],
)
def test_an_annotation_that_would_mislead_is_refused(root, change, complaint):
    write(root, "test", "000005-2008_000001-2008_000005:cat", annotation(5, **change))
    with pytest.raises(DataError, match=complaint):
        spair(root)


def test_what_is_missing_is_named(root):
    write(root, "val", "1", "{")
    with pytest.raises(DataError, match="is no JSON that can be read"):
        spair(root, "val")
    write(root, "val", "1", "[]")
    with pytest.raises(DataError, match="holds no pair"):
        spair(root, "val")
    for path in (root / "PairAnnotation/val").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="holds no pairs; needed PairAnnotation"):
        spair(root, "val")
    with pytest.raises(DataError, match="PairAnnotation/test is missing in .*authors' page"):
        spair(root / "JPEGImages")


def test_an_image_paired_with_itself_matches_itself_through_resize_and_crop(root, phantom):
    """The whole way: file, preprocessing, tokens, keypoints and box in the model's pixels, PCK."""
    points = [[20, 10], [33, 44], [70, 50], [2, 30]]
    changes = {"trg_imname": "2008_000001.jpg", "src_kps": points, "trg_kps": points}
    write(root, "val", "self", annotation(1, **changes))
    pair = spair(root, "val")[-1]
    image = open_image(pair.source)
    seen, box = (
        points_as_seen(phantom, image.size[::-1], found)[None]
        for found in (pair.source_points, pair.target_box.reshape(2, 2))
    )
    np.testing.assert_allclose((box[:, 1] - box[:, 0])[0], [60 * 224 / 60, 50 * 224 / 60], atol=0.5)
    patches = phantom.tokens(torch.stack([phantom.preprocess(image)])).patches
    pck, nearest = matches(
        *(patches, patches, seen, seen, np.ones((1, 4), dtype=bool)),
        **{"grid": (14, 14), "image_size": (224, 224), "extent": box[:, 1] - box[:, 0]},
    )
    assert (pck[0], nearest[0]) == (1, 1), "the point at x=2 is cropped away and does not count"
