"""Each loader against a small set that the test writes in that very layout, and every way to be wrong."""

from __future__ import annotations

import math
import os
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.tools.made_sets import outline
from ttr.datasets.base import Item, read_file
from ttr.datasets.phantom import CLASSES, phantom_image
from ttr.datasets.phantom_set import phantom_set
from ttr.datasets.registry import LOADERS, SPLITS, Outlines, open_dataset
from ttr.datasets.splits import complete, divide
from ttr.datasets.tables.files import read_table
from ttr.errors import DataError, ImageError


def draw(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), shade % 256, dtype=np.uint8)).save(path)


def counts(dataset):
    return {split: Counter(item.label for item in dataset.select(split)) for split in SPLITS}


@pytest.fixture
def orthonet(tmp_path):
    for split, each in (("train", 10), ("test", 3)):
        rows = ["filenames,labels,masks,valid_mask"]
        for label in ("hip A", "knee B"):
            for number in range(each):
                name = f"{split} {label} {number}.png"
                draw(tmp_path / "orthonet data/orthonet data" / name, number)
                rows.append(f"{name},{label},mask {name},{number % 2 == 0}")
        (tmp_path / f"{split}.csv").write_text("\n".join(rows))
    return tmp_path


def test_orthonet(orthonet):
    dataset = open_dataset("orthonet", orthonet)
    assert dataset.classes == ("hip A", "knee B")
    assert counts(dataset) == {
        "train": {"hip A": 8, "knee B": 8},
        "val": {"hip A": 2, "knee B": 2},
        "test": {"hip A": 3, "knee B": 3},
    }
    item = next(i for i in dataset.select("test") if i.name == "test hip A 2.png")
    assert dataset.open(item).size == (8, 6)
    assert dataset.target(item) == 0
    assert item.mask.name == "mask test hip A 2.png"
    assert next(i for i in dataset.items if i.name == "test hip A 1.png").mask is None
    assert open_dataset("orthonet", orthonet).items == dataset.items
    assert open_dataset("orthonet", orthonet, seed=7).items != dataset.items


def test_orthonets_valid_masks_are_implant_against_background(orthonet):
    dataset = open_dataset("orthonet", orthonet)
    assert dataset.masks.classes == ("background", "implant")
    assert len(dataset.masked("test")) == 4, "of 6, those that are marked valid"
    item = dataset.masked("test")[0]
    expected = np.zeros((6, 8), dtype=np.int64)
    expected[1:4, 2:7] = 1
    for bright in (1, 255, 200):
        Image.fromarray((bright * expected).astype(np.uint8)).save(item.mask)
        assert np.array_equal(dataset.masks.open(item), expected)
    Image.fromarray((255 * expected).astype(np.uint8)).save(item.mask, "JPEG", quality=95)
    assert np.array_equal(dataset.masks.open(item), expected), "a blurred rim does not matter"
    Image.new("L", (8, 6)).save(item.mask)
    assert not dataset.masks.open(item).any()
    item.mask.unlink()
    with pytest.raises(ImageError, match="does not exist"):
        dataset.masks.open(item)
    without = next(item for item in dataset.select("test") if item.mask is None)
    with pytest.raises(ImageError, match="has no mask; leave it out"):
        dataset.masks.open(without)


def test_orthonets_implants_are_where_the_class_of_an_image_is(orthonet):
    dataset = open_dataset("orthonet", orthonet)
    outlines = Outlines.of(dataset)
    assert outlines.items("test") == dataset.masked("test")
    item = outlines.items("test")[0]
    outline(item.mask, (2, 1, 7, 4))
    assert np.argwhere(outlines.draw(item, (8, 6))).tolist() == [
        [y, x] for y in (1, 2, 3) for x in range(2, 7)
    ]


def test_the_phantoms_masks_hold_its_disc_with_its_textures_class():
    dataset = phantom_set(counts={"train": 6, "val": 6, "test": 6})
    assert dataset.masks.classes == ("background", *CLASSES)
    assert len(dataset.masked("test")) == 6
    assert pickle.loads(pickle.dumps(dataset)).masked("test") == dataset.masked("test"), "for other processes"
    for index, item in enumerate(dataset.select("test")):
        truth = phantom_image(index, seed=3, classes=6)
        mask = dataset.masks.open(item)
        assert mask.dtype == np.int64
        assert np.array_equal(mask > 0, truth.mask)
        assert set(np.unique(mask)) == {0, 1 + CLASSES.index(item.label)}
        assert dataset.masks.classes[mask.max()] == item.label == truth.label


def palette(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(np.array(values, dtype=np.uint8), mode="P")
    mask.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    mask.save(path)


@pytest.fixture
def voc(tmp_path):
    """Ten training and three test images; of each the cat or the dog is the larger, on background."""
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    for name, numbers in (("train", range(10)), ("val", range(10, 13))):
        for n in numbers:
            larger, smaller = ((8, 12), (12, 8))[n % 2]
            draw(tmp_path / "JPEGImages" / f"{n}.jpg", n)
            rows = [[0] * 8, [0] * 8, [255] * 8, [larger] * 8, [larger] * 8, [smaller] * 8]
            palette(tmp_path / "SegmentationClass" / f"{n}.png", rows)
        text = "\n".join(map(str, numbers))
        (tmp_path / "ImageSets/Segmentation" / f"{name}.txt").write_text(text + "\n")
    return tmp_path


def test_voc(voc):
    dataset = open_dataset("voc", voc)
    assert dataset.classes == ("cat", "dog")
    assert {split: len(dataset.select(split)) for split in SPLITS} == {"train": 8, "val": 2, "test": 3}
    assert dataset.items == open_dataset("voc", voc).items
    assert len(dataset.masks.classes) == 21
    item = dataset.select("test")[0]
    assert (item.name, item.label, dataset.open(item).size) == ("JPEGImages/10.jpg", "cat", (8, 6))
    mask = dataset.masks.open(item)
    assert mask.dtype == np.int64
    assert mask[:, 0].tolist() == [0, 0, 255, 8, 8, 12], "palette places, not colours"
    assert Outlines.of(dataset).draw(item, (8, 6))[:, 0].tolist() == [0, 0, 255, 1, 1, 0], "the cat alone"
    assert len(dataset.masked("val")) == 2
    with pytest.raises(DataError, match="dataset aptos has no masks"):
        replace(dataset, name="aptos", masks=None).masked("test")


def test_a_set_of_ones_own_in_vocs_layout(voc):
    (voc / "classes.txt").write_text("background\nvessel\n\ndisc\n")
    with pytest.raises(
        DataError, match=r"the mask of JPEGImages/0.jpg holds the number 8; needed 0..2 or 255"
    ):
        open_dataset("voc", voc)
    for n in range(13):
        palette(voc / "SegmentationClass" / f"{n}.png", [[0, 0, 255], [1 + n % 2] * 3])
    dataset = open_dataset("voc", voc)
    assert dataset.masks.classes == ("background", "vessel", "disc")
    assert dataset.classes == ("disc", "vessel")
    Image.fromarray(np.array([[0, 1], [2, 255]], dtype=np.uint8)).save(voc / "SegmentationClass/0.png")
    item = next(i for i in dataset.items if i.name == "JPEGImages/0.jpg")
    assert dataset.masks.open(item).tolist() == [[0, 1], [2, 255]], "grey masks too"
    (voc / "classes.txt").write_text("background\nbackground\n")
    with pytest.raises(DataError, match="needed 2 to 255 different names"):
        open_dataset("voc", voc)


def test_a_voc_folder_that_is_not_whole_is_refused(voc):
    mask = voc / "SegmentationClass" / "3.png"
    Image.new("RGB", (8, 6)).save(mask)
    with pytest.raises(
        DataError, match=r"the mask of JPEGImages/3.jpg has colours \(RGB\); needed one number a pixel"
    ):
        open_dataset("voc", voc)
    mask.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"the mask of JPEGImages/3.jpg is not an image that can be read"):
        open_dataset("voc", voc)
    mask.unlink()
    with pytest.raises(DataError, match=r"the mask of JPEGImages/3.jpg does not exist"):
        open_dataset("voc", voc)
    names = voc / "ImageSets/Segmentation/train.txt"
    names.write_text("../../outside\n")
    with pytest.raises(DataError, match=r"train.txt: path '../../outside.jpg' leads out of"):
        open_dataset("voc", voc)
    names.write_text("\n")
    with pytest.raises(DataError, match="is empty; needed one image name a line"):
        open_dataset("voc", voc)
    names.unlink()
    with pytest.raises(DataError, match=r"ImageSets/Segmentation/train.txt is missing"):
        open_dataset("voc", voc)


def test_pacemaker_and_its_manufacturers(tmp_path):
    for folder, each in (("Train", 5), ("Test", 1)):
        for label in ("BIO - Actros_Philos", "BIO - Cyclos", "MDT - Adapta"):
            for number in range(each):
                draw(tmp_path / folder / label / f"{number}.jpg")
    dataset = open_dataset("pacemaker", tmp_path)
    assert dataset.classes == ("BIO - Actros_Philos", "BIO - Cyclos", "MDT - Adapta")
    assert counts(dataset)["val"] == dict.fromkeys(dataset.classes, 1)
    assert len(dataset.select("test")) == 3
    makers = open_dataset("pacemaker-manufacturer", tmp_path)
    assert makers.classes == ("BIO", "MDT")
    assert [i.name for i in makers.items] == [i.name for i in dataset.items], "the same split"


def test_aptos_as_the_competition_gives_it(tmp_path):
    rows = [f"id{n:03d},{n % 5}" for n in range(100)]
    (tmp_path / "train.csv").write_text("\n".join(["id_code,diagnosis", *rows]))
    for n in range(100):
        draw(tmp_path / "train_images" / f"id{n:03d}.png", n)
    dataset = open_dataset("aptos", tmp_path)
    assert dataset.classes == ("0", "1", "2", "3", "4")
    assert {split: len(dataset.select(split)) for split in SPLITS} == {"train": 64, "val": 16, "test": 20}
    assert set(counts(dataset)["test"].values()) == {4}


def test_aptos_repacked(tmp_path):
    for table, folder, number in (("train_1", "train", 10), ("valid", "val", 5), ("test", "test", 5)):
        rows = [f"{folder}{n},{n % 5}" for n in range(number)]
        (tmp_path / f"{table}.csv").write_text("\n".join(["id_code,diagnosis", *rows]))
        for n in range(number):
            draw(tmp_path / f"{folder}_images/{folder}_images" / f"{folder}{n}.png", n)
    dataset = open_dataset("aptos", tmp_path)
    assert {split: len(dataset.select(split)) for split in SPLITS} == {"train": 10, "val": 5, "test": 5}
    assert dataset.open(dataset.select("val")[2]).getpixel((0, 0)) == (2, 2, 2)
    (tmp_path / "valid.csv").unlink()
    with pytest.raises(
        DataError, match=r"valid.csv is missing in .*; needed train.csv .* competition's page"
    ):
        open_dataset("aptos", tmp_path)


@pytest.mark.parametrize("splits", [(), ("train", "test"), ("Training", "validation", "Test")])
def test_any_folder(tmp_path, splits):
    for split in splits or ("",):
        for label in ("10", "9"):
            for number in range(10):
                draw(tmp_path / split / label / "deeper" / f"{number}.png")
    (tmp_path / ".cache").mkdir()
    dataset = open_dataset("folder", tmp_path)
    assert dataset.classes == ("9", "10"), "numbers in order of value"
    sizes = {split: len(dataset.select(split)) for split in SPLITS}
    expected = {0: (12, 4, 4), 2: (16, 4, 20), 3: (20, 20, 20)}[len(splits)]
    assert tuple(sizes.values()) == expected
    if splits:
        draw(tmp_path / "beside" / "9" / "1.png")
        with pytest.raises(DataError, match="the folder 'beside' beside them"):
            open_dataset("folder", tmp_path)


def table(path, rows, header="path,label,patient,split,mask"):
    path.write_text("\n".join([header, *rows]), encoding="utf-8-sig")
    return path


def test_a_table_with_patients_splits_and_masks(tmp_path):
    rows = [f"img/{n}.png,{'ab'[n % 2]},p{n // 4},,m/{n}.png" for n in range(80)]
    dataset = open_dataset("csv", table(tmp_path / "t.csv", rows))
    by_split = {split: {item.group for item in dataset.select(split)} for split in SPLITS}
    assert not by_split["train"] & by_split["test"]
    assert not by_split["train"] & by_split["val"]
    assert set(counts(dataset)["test"].values()) == {8}
    assert dataset.items[0].mask.parent.name == "m"
    rows = [f"{n}.png,a,,{('train', 'test', 'valid')[n % 3]}," for n in range(9)]
    dataset = open_dataset("csv", table(tmp_path / "s.csv", rows))
    assert [len(dataset.select(split)) for split in SPLITS] == [3, 3, 3]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (["../../etc/passwd,a,,train,"], "line 2: path '../../etc/passwd' leads out of"),
        (["/etc/passwd,a,,train,"], "t.csv: path '/etc/passwd' is absolute, and no end"),
        (["link/secret.png,a,,train,"], "leads out of"),
        (["..\\secret.png,a,,train,"], "path '../secret.png' leads out of"),
        ([",a,,train,"], "path '' is not allowed"),
        (["1.png,a,,train,../m.png"], "leads out of"),
        (["1.png,,,train,"], "line 2: the label is empty"),
        (["1.png,a,,later,"], "line 2: split 'later' is not known"),
        (["1.png,a,,train,", "1.png,a,,test,", "2.png,a,,val,"], "1.png is listed twice"),
        (
            ["1.png,a,,train,", "2.png,b,,test,", "3.png,a,,val,"],
            "label 'b' of 2.png is in the test split and",
        ),
        (["1.png,a,,test,", "2.png,a,,val,"], "the training split is empty"),
        (["1.png,a,,train,,,b"], "line 2: 7 values in 5 columns"),
        ([f"{'a' * 300}.png,a,,train,"], "File name too long"),
        (["loop/1.png,a,,train,"], "is none"),
        ([], "has no rows"),
    ],
)
def test_a_table_that_would_mislead_is_refused(tmp_path, rows, complaint):
    (tmp_path / "set").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "set" / "link").symlink_to(outside)
    (tmp_path / "set" / "loop").symlink_to("loop")
    with pytest.raises(DataError, match=complaint.replace("\\", r"\\").replace("..", r"\.\.")):
        open_dataset("csv", table(tmp_path / "set" / "t.csv", rows))


def test_a_column_that_stands_twice_or_too_many_of_them_are_refused(tmp_path):
    with pytest.raises(DataError, match="has the column label twice"):
        open_dataset("csv", table(tmp_path / "t.csv", ["1.png,a,b"], "path,label,Label"))
    with pytest.raises(DataError, match="has 200,002 columns; needed 1,000 at most"):
        open_dataset("csv", table(tmp_path / "t.csv", ["1.png,a"], "path,label" + ",x" * 200_000))
    rows = [f"{n}.png,a,{('train', 'test', 'val')[n % 3]},," for n in range(9)]
    assert len(open_dataset("csv", table(tmp_path / "t.csv", rows, "path,label,split,,")).items) == 9


@pytest.mark.parametrize("suffix", ["zip", "gz", "xz", "zst", "tar"])
def test_a_table_is_text_whatever_its_name_says(tmp_path, suffix):
    """Nothing is unpacked: a packed table may be of any size, and a damaged one fails in its own ways."""
    rows = [f"{n}.png,a,,{('train', 'test', 'val')[n % 3]}," for n in range(9)]
    found = table(tmp_path / f"t.csv.{suffix}", rows)
    assert len(read_table(found, ("path", "label"))) == 9


def test_lists_masks_and_tables_that_are_pipes_are_not_waited_for(tmp_path, voc, orthonet):
    for pipe in (voc / "ImageSets/Segmentation/train.txt", orthonet / "test.csv"):
        pipe.unlink()
        os.mkfifo(pipe)
    for name, root in (("voc", voc), ("orthonet", orthonet)):
        with pytest.raises(DataError, match="no text that can be read .it is no regular file"):
            open_dataset(name, root)
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a.png cannot be read .it is no regular file"):
        read_file(Item("a.png", "a", "test", tmp_path / "a.png"))


def test_columns_and_files_that_are_missing_are_named(tmp_path, orthonet):
    with pytest.raises(DataError, match=r"the columns path, colour; needed path, label \(label missing\)"):
        open_dataset("csv", table(tmp_path / "t.csv", ["1.png,a"], "path,colour"))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x01\x00")
    with pytest.raises(DataError, match="no UTF-8"):
        open_dataset("csv", tmp_path / "b.csv")
    (orthonet / "test.csv").unlink()
    with pytest.raises(DataError, match=r"OrthoNet: test.csv is missing in .*orthonet data/orthonet data"):
        open_dataset("orthonet", orthonet)


def test_a_missing_image_is_the_items_own_matter(orthonet):
    dataset = open_dataset("orthonet", orthonet)
    item = dataset.select("test")[0]
    item.path.unlink()
    assert open_dataset("orthonet", orthonet).items == dataset.items
    with pytest.raises(ImageError, match="cannot be read"):
        dataset.open(item)


@pytest.mark.parametrize(
    ("name", "root", "complaint"),
    [
        ("orthonets", ".", r"'orthonets' is not known \(did you mean orthonet\?\); needed one of: phantom,"),
        ("orthonet", None, "needs its root, a folder with train.csv"),
        ("orthonet", "none", "does not exist"),
        ("csv", ".", "is not a CSV file"),
        ("folder", "test_loaders.py", "is not a folder"),
        ("folder", "empty", "no images in class folders"),
        ("phantom", ".", "has no root"),
        ("pacemaker", ".", "Train is missing"),
    ],
)
def test_a_wrong_name_or_root_is_refused(tmp_path, monkeypatch, name, root, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_loaders.py").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=complaint):
        open_dataset(name, root)


def test_the_phantom_set_is_the_same_each_time_and_no_image_is_in_two_splits():
    dataset = phantom_set(counts={"train": 6, "val": 6, "test": 12})
    assert counts(dataset)["test"] == dict.fromkeys(dataset.classes, 2)
    first = dataset.select("test")[0]
    assert np.array_equal(dataset.open(first), phantom_set().open(first))
    assert len({dataset.open(item).tobytes() for item in dataset.items}) == 24
    assert dataset.content_hash(first) != dataset.content_hash(dataset.select("train")[0])
    assert {i.name for i in phantom_set(seed=1).items}.isdisjoint(i.name for i in phantom_set().items)


@pytest.mark.parametrize("name", LOADERS)
def test_every_card_is_whole(name):
    assert all(len(text) > 3 for text in vars(LOADERS[name].card).values())


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 12), min_size=1, max_size=4),
    group_size=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_no_group_is_on_both_sides_and_nothing_is_lost(sizes, group_size, seed):
    items = [
        Item(
            f"{label}-{n}",
            str(label),
            "train",
            group=f"{label}/{n // group_size}" if group_size > 1 else None,
        )
        for label, size in enumerate(sizes)
        for n in range(size)
    ]
    try:
        result = divide(items, "test", seed=seed)
    except DataError:
        grouped = {size: math.ceil(size / group_size) for size in sizes}
        movable = [size for size in sizes if grouped[size] > 1]
        if group_size == 1:
            assert math.ceil(len(items) / 5) < len(sizes)
        else:
            assert sum(grouped[size] for size in movable) < 5 or max(movable) < 5
        return
    assert [i.name for i in result] == [i.name for i in items]
    sides = {split: {i.group for i in result if i.split == split and i.group} for split in ("train", "test")}
    assert not sides["train"] & sides["test"]
    assert {i.label for i in result if i.split == "train"} == {i.label for i in items} or group_size > 1


def test_the_order_of_the_files_does_not_change_a_split():
    items = [Item(f"{n:02d}", "ab"[n % 2], "train") for n in range(30)]
    forward = {i.name: i.split for i in complete(items)}
    backward = {i.name: i.split for i in complete(items[::-1])}
    assert forward == backward


def test_a_single_item_stays_in_training_and_too_few_are_refused():
    items = [Item(f"{n}", "a", "train") for n in range(10)] + [Item("only", "b", "train")]
    assert next(i for i in complete(items) if i.name == "only").split == "train"
    with pytest.raises(DataError, match="too few to set a stratified 20 % aside as test"):
        complete([Item("1", "a", "train")])
