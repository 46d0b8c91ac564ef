"""Folders as archives, notebooks and discs leave them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.tools.dicom_files import write
from ttr.datasets.audit import audit
from ttr.datasets.base import Item
from ttr.datasets.registry import list_images, open_dataset, require_classes
from ttr.datasets.tables.findings import Reported, one_label
from ttr.errors import DataError


def draw(root, *names):
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (6, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)


def class_folders(above=""):
    return [f"{above}{label}/{number}.png" for label in ("ill", "well") for number in range(8)]


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".git", "__MACOSX", "@eaDir"])
def test_what_tools_leave_in_folders_is_no_image(tmp_path, hidden):
    draw(tmp_path, *class_folders(), f"ill/{hidden}/0-checkpoint.png", f"{hidden}/ill/0.png")
    (tmp_path / "ill/Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert len(list_images(tmp_path)) == 16
    assert len(open_dataset("folder", tmp_path).items) == 16


def test_a_hidden_folder_that_was_asked_for_is_searched(tmp_path):
    draw(tmp_path / ".cache", *class_folders())
    assert len(list_images(tmp_path / ".cache")) == 16
    assert len(open_dataset("folder", tmp_path / ".cache").items) == 16


def test_folders_around_the_splits_are_looked_through(tmp_path):
    draw(tmp_path, *[name for split in ("train", "val", "test") for name in class_folders(f"a/b/{split}/")])
    (tmp_path / "__MACOSX/a").mkdir(parents=True)
    found = open_dataset("folder", tmp_path)
    assert found.classes == ("ill", "well")
    assert found.select("val")[0].name == "a/b/val/ill/0.png"
    draw(tmp_path, "a/b/more/0.png")
    with pytest.raises(
        DataError, match=r"a/b has folders of splits and the folder 'more' beside them.* move"
    ):
        open_dataset("folder", tmp_path)


def test_a_single_class_is_no_task_and_what_was_meant_is_said(tmp_path):
    draw(tmp_path, *class_folders("archive/"))
    with pytest.raises(DataError, match="archive is one folder too many, and the classes are ill, well"):
        require_classes(open_dataset("folder", tmp_path))
    draw(tmp_path / "two", *class_folders("x/y/"))
    with pytest.raises(DataError, match="x/y is 2 folders too many, and the classes are ill, well in it"):
        require_classes(open_dataset("folder", tmp_path / "two"))
    with pytest.raises(DataError, match="single class 'ill', .*: perhaps the folder above ill holds"):
        draw(tmp_path / "one", *[name for name in class_folders() if name.startswith("ill")])
        require_classes(open_dataset("folder", tmp_path / "one"))
    require_classes(open_dataset("folder", tmp_path / "archive"))


def test_classes_that_differ_in_case_alone_are_refused(tmp_path):
    draw(tmp_path, *class_folders("train/"), *class_folders("test/"))
    (tmp_path / "test/ill").rename(tmp_path / "test/Ill")
    with pytest.raises(DataError, match=r"labels 'Ill' \(8 images\) and 'ill' \(8 images\) differ"):
        open_dataset("folder", tmp_path)


def test_splits_in_the_class_folders_are_those(tmp_path):
    names = class_folders()
    draw(tmp_path, *[n.replace("/", "/train/") for n in names], *[n.replace("/", "/Test/") for n in names])
    found = open_dataset("folder", tmp_path)
    assert found.classes == ("ill", "well")
    assert {item.name.split("/")[1] for item in found.select("test")} == {"Test"}
    assert len(found.select("test")) == 16
    draw(tmp_path, "well/extra.png")
    with pytest.raises(DataError, match="folder 'Test' in that of the class 'ill', which names a split"):
        open_dataset("folder", tmp_path)


def test_a_split_below_a_class_of_a_split_is_refused(tmp_path):
    draw(tmp_path, *class_folders("train/"), *class_folders("test/"), "train/ill/test/9.png")
    with pytest.raises(DataError, match="has a folder 'test' in that of the class 'ill'"):
        open_dataset("folder", tmp_path)


@pytest.mark.parametrize("more", [(), class_folders("test/")])
def test_images_of_a_split_in_no_class_folder_are_refused(more, tmp_path):
    draw(tmp_path, *class_folders("train/"), *more, "test/0.png", "test/1.png")
    with pytest.raises(DataError, match="test holds 2 images in no class folder; needed .*: put each into"):
        open_dataset("folder", tmp_path)


def test_images_beside_class_folders_are_said(tmp_path):
    draw(tmp_path, *class_folders(), "overview.png")
    assert open_dataset("folder", tmp_path).notes == ("1 image beside the class folders not used",)


def test_files_of_several_frames_are_no_patients(tmp_path):
    for number, name in enumerate(class_folders()):
        frames = np.random.default_rng(number).integers(0, 4095, (2, 8, 8)).astype(np.uint16)
        write((tmp_path / name).with_suffix(".dcm"), frames)
    found = open_dataset("folder", tmp_path)
    assert len({item.group for item in found.items}) == 16
    unchecked = audit(found).unchecked
    assert "between patients was not checked (the set names none, its groups are files of" in unchecked


def test_a_set_of_which_no_image_shows_a_single_finding_needs_a_choice():
    reported = [Reported(Item(f"{n}", "", "train"), ("a", "b")) for n in range(3)]
    with pytest.raises(DataError, match="none of its 3 images shows exactly one finding .*--finding NAME"):
        one_label(reported, None, "ab", "set")
