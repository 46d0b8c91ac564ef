from __future__ import annotations

import gc
import io
import pickle
import tempfile
import zipfile

import numpy as np
import pytest

from ttr.datasets.registry import open_dataset
from ttr.errors import DataError

COUNTS = {"train": 20, "val": 6, "test": 6}


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Where the images are unpacked."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def arrays(shape=(28, 28, 3), labels=lambda n: [[i % 3] for i in range(n)], dtype=np.uint8):
    draw = np.random.default_rng(0)
    found = {}
    for split, count in COUNTS.items():
        found[f"{split}_images"] = draw.integers(0, 256, (count, *shape)).astype(dtype)
        found[f"{split}_labels"] = np.array(labels(count))
    return found


def saved(path, found):
    np.savez_compressed(path, **found)
    return path


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (64, 64), (128, 128, 3), (224, 224)])
def test_every_size_in_grey_and_colours_keeps_its_splits_and_pixels(tmp_path, shape):
    found = arrays(shape)
    dataset = open_dataset("medmnist", saved(tmp_path / "pathmnist.npz", found))
    assert dataset.classes == ("0", "1", "2")
    assert {split: len(dataset.select(split)) for split in COUNTS} == COUNTS
    item = dataset.select("test")[4]
    pixels = found["test_images"][4]
    expected = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    assert np.array_equal(dataset.open(item), expected)
    assert dataset.content_hash(item) != dataset.content_hash(dataset.select("test")[3])


def test_images_are_unpacked_once_and_removed_with_the_set(tmp_path, scratch):
    dataset = open_dataset("medmnist", saved(tmp_path / "a.npz", arrays()))
    assert len(list(scratch.iterdir())) == 1
    item = dataset.anonymous().items[3]
    elsewhere = pickle.loads(pickle.dumps(dataset.anonymous()))
    assert elsewhere.open(item).tobytes() == dataset.open(dataset.items[3]).tobytes()
    del elsewhere
    gc.collect()
    assert len(list(scratch.iterdir())) == 1, "another process's copy removes nothing"
    del dataset
    gc.collect()
    assert list(scratch.iterdir()) == []


def test_several_findings_are_columns_of_the_labels(tmp_path):
    rows = ([1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0])
    path = saved(tmp_path / "chestmnist.npz", arrays((28, 28), lambda n: [rows[i % 4] for i in range(n)]))
    dataset = open_dataset("medmnist", path)
    assert dataset.classes == ("0", "1", "none")
    assert "7 images with several findings" in dataset.notes[0]
    assert open_dataset("medmnist", path, finding="1").classes == ("1", "no 1")


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        ("3d", r"has the shape \(20, 28, 28, 28\): 3D images"),
        ("objects", r"is of type object; needed whole numbers"),
        ("floats", r"is of type float64; needed whole numbers"),
        ("lacks", r"There is no item named 'val_images.npy' in the archive"),
        ("fewer", "needed 20 images of uint8"),
        ("cut", "is no file of MedMNIST"),
        ("text", "File is not a zip file"),
        ("room", "unpacks to 0.0 GB, and there is room for 0.0"),
        ("claims more", "does not hold what its shape"),
        ("holds more", "does not hold what its shape"),
    ],
)
def test_what_is_no_such_file_is_refused_and_leaves_nothing(tmp_path, scratch, monkeypatch, harm, complaint):
    path, found = tmp_path / "a.npz", arrays()
    if harm == "3d":
        found = arrays((28, 28, 28))
    elif harm == "objects":
        found["train_images"] = np.array([None] * 20, dtype=object)
    elif harm == "floats":
        found["train_images"] = found["train_images"] / 255
    elif harm == "lacks":
        del found["val_images"]
    elif harm == "fewer":
        found["train_images"] = found["train_images"][:19]
    elif harm == "room":
        monkeypatch.setattr("ttr.datasets.layouts.medmnist.MOST_UNPACKED", 1000)
    saved(path, found)
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-3000])
    elif harm == "text":
        path.write_text("a,b")
    elif harm in ("claims more", "holds more"):
        rewrite(path, 1000 if harm == "claims more" else -1)
    with pytest.raises(DataError, match=complaint):
        open_dataset("medmnist", path)
    assert list(scratch.iterdir()) == []


def rewrite(path, change):
    """Let the images of training claim another width than they have."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    array = np.load(io.BytesIO(content["train_images.npy"]))
    stream = io.BytesIO()
    shape = (*array.shape[:2], min(28 + change, 1000), 3)
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": "|u1"})
    content["train_images.npy"] = stream.getvalue() + array.tobytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, each in content.items():
            archive.writestr(name, each)
