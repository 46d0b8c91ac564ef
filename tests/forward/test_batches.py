"""Whatever holds images comes out as batches of the same inputs; what holds none is refused by its type."""

from __future__ import annotations

import weakref
from collections import UserDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

import ttr
from tests.tools.tiny_models import SIZE, scramble, tiny_vit
from ttr.errors import ImageError
from ttr.forward.batches import batches, count

ARRAYS = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
PICTURES = [Image.fromarray(array) for array in ARRAYS]


def to_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 - 0.5


TENSORS = torch.stack([to_tensor(picture) for picture in PICTURES])


@pytest.fixture(scope="module")
def backbone():
    return ttr.adapt(scramble(tiny_vit()), preprocess=to_tensor)


class Places(Dataset):
    """A data set of torch has places and a length, and no iterator; a place beyond it is no IndexError."""

    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, place):
        return {"image": PICTURES[place], "label": place} if place < len(PICTURES) else None


@dataclass
class Column:
    """What a column of a data set of the hub is: places, a length and an iterator."""

    rows: list

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        return self.rows[place]


def folder(tmp_path):
    for place, picture in enumerate(PICTURES):
        (tmp_path / "one").mkdir(exist_ok=True)
        picture.save(tmp_path / "one" / f"{place}.png")
    (tmp_path / "one" / "notes.txt").write_text("no image")
    return tmp_path / "one"


SOURCES = {
    "a tensor": lambda tmp: TENSORS,
    "a list of tensors": lambda tmp: list(TENSORS),
    "pictures": lambda tmp: PICTURES,
    "a generator of pictures": lambda tmp: (picture for picture in PICTURES),
    "arrays": lambda tmp: list(ARRAYS),
    "one array of all": lambda tmp: ARRAYS,
    "a folder": folder,
    "a folder's name": lambda tmp: str(folder(tmp)),
    "files": lambda tmp: sorted(folder(tmp).glob("*.png")),
    "names and labels": lambda tmp: [(str(p), "benign") for p in sorted(folder(tmp).glob("*.png"))],
    "a loader": lambda tmp: DataLoader(TENSORS, batch_size=3),
    "a loader with labels": lambda tmp: DataLoader(TensorDataset(TENSORS, torch.arange(5)), batch_size=4),
    "a loader of rows": lambda tmp: DataLoader(
        [{"pixel_values": x, "labels": i} for i, x in enumerate(TENSORS)], batch_size=2
    ),
    "a loader of pictures": lambda tmp: DataLoader(
        Places(), batch_size=2, collate_fn=lambda rows: {"images": [row["image"] for row in rows]}
    ),
    "pictures with labels": lambda tmp: [(picture, 1) for picture in PICTURES],
    "a data set of torch": lambda tmp: Places(),
    "a column": lambda tmp: Column(PICTURES),
    "what an image processor returns": lambda tmp: UserDict(pixel_values=TENSORS),
}


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_whatever_holds_images_gives_the_same_batches(backbone, kind, tmp_path):
    found = list(batches(backbone, SOURCES[kind](tmp_path), 2))
    assert [len(batch) for batch in found] == [2, 2, 1]
    assert torch.equal(torch.cat(found), TENSORS)


def test_one_image_by_itself_is_one(backbone, tmp_path):
    file = sorted(folder(tmp_path).glob("*.png"))[0]
    for one in (PICTURES[0], ARRAYS[0], TENSORS[0], file, str(file), {"image": PICTURES[0]}):
        (batch,) = batches(backbone, one, 2)
        assert torch.equal(batch, TENSORS[:1])
    grey, clear = PICTURES[0].convert("L"), PICTURES[0].convert("RGBA")
    (batch,) = batches(backbone, [np.asarray(grey), np.asarray(clear)], 2)
    assert torch.equal(batch, torch.stack([to_tensor(grey.convert("RGB")), TENSORS[0]]))


def test_detect_and_compare_take_them_all(backbone, tmp_path):
    expected = ttr.detect(backbone, TENSORS, threshold="mean+3sd")
    loader = DataLoader(TensorDataset(TENSORS, torch.arange(5)), batch_size=2)
    for images in (folder(tmp_path), loader, Column(PICTURES), (x for x in ARRAYS)):
        assert ttr.detect(backbone, images, threshold="mean+3sd").ranking == expected.ranking
    neurons = ttr.RegisterNeurons.from_pairs([(0, 1)])
    limits = [x.outlier_threshold for x in ttr.compare(backbone, neurons, TENSORS)]
    for images in (folder(tmp_path), loader, Places(), PICTURES):
        assert [x.outlier_threshold for x in ttr.compare(backbone, neurons, images)] == limits


def test_memory_holds_a_batch_and_what_a_loader_gives_at_once(backbone):
    alive: list[weakref.ref] = []

    def pictures():
        for _ in range(64):
            picture = PICTURES[0].copy()
            alive.append(weakref.ref(picture))
            assert sum(ref() is not None for ref in alive) <= 2
            yield picture

    assert sum(len(batch) for batch in batches(backbone, pictures(), 4)) == 64
    assert len(alive) == 64


def test_their_number_is_known_or_is_not(tmp_path):
    known = (TENSORS, ARRAYS, PICTURES, TENSORS[0], Column(PICTURES), Places(), ARRAYS[0])
    assert [count(images) for images in known] == [5, 5, 5, 1, 5, 5, 1]
    for unknown in (DataLoader(TENSORS), (x for x in TENSORS), "folder", PICTURES[0], {"image": TENSORS}):
        assert count(unknown) is None


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (5, "got int as images; needed a tensor .*, a PIL image, a uint8 array .* a column of a data set"),
        (b"bytes", "got bytes as images"),
        (ttr.adapt, "got function as images"),
        ([5], "got int as an image; needed a tensor"),
        ([None], "got NoneType as an image"),
        (
            [[PICTURES[0], PICTURES[1]]],
            "a list of 2 images as one item; needed .image, label., or one",
        ),
        ([(TENSORS[0], TENSORS[1])], "got a tuple of 2 images as one item"),
        ([()], "got an empty tuple"),
        ([{"bytes": b"", "path": "a"}], "a row with the columns bytes, path; needed one named pixel_values"),
        (ARRAYS.astype(np.float32), r"type float32 and shape \[5, 32, 32, 3\]; needed uint8 \[H, W\], "),
        ([ARRAYS[0].transpose(2, 0, 1)], r"type uint8 and shape \[3, 32, 32\]"),
        ([TENSORS[0, 0]], r"got a tensor of shape \(32, 32\); needed \[3, H, W\] or \[N, 3, H, W\]"),
        (torch.zeros(2, 1, SIZE, SIZE), r"shape \(2, 1, 32, 32\); needed \[3, H, W\]"),
        ([torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)], "torch.uint8; needed normalised floats"),
        ("nowhere", "nowhere does not exist; needed an image file, or a folder of them"),
        (["nowhere.png"], "image nowhere.png does not exist"),
    ],
)
def test_what_holds_no_images_is_refused_by_its_type(backbone, images, complaint):
    with pytest.raises(ImageError, match=complaint):
        list(batches(backbone, images, 2))


def test_a_folder_without_images_is_refused(backbone, tmp_path):
    with pytest.raises(ImageError, match="no images found in"):
        list(batches(backbone, tmp_path, 2))
