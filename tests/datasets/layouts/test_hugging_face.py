from __future__ import annotations

import io
import json
import pickle

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from ttr.datasets.registry import open_dataset
from ttr.errors import DataError, ImageError

IMAGES = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["well", "ill"]}}


def png(shade):
    stream = io.BytesIO()
    pixels = np.random.default_rng(shade).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def table(count, start=0, features=FEATURES, **columns):
    made = {
        "image": pyarrow.array([{"bytes": png(start + n), "path": f"{n}.png"} for n in range(count)], IMAGES),
        "label": pyarrow.array([n % 2 for n in range(count)], pyarrow.int64()),
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    return pyarrow.table({**made, **columns}).replace_schema_metadata(metadata)


def arrow(path, made):
    path.parent.mkdir(parents=True, exist_ok=True)
    with pyarrow.ipc.new_stream(path, made.schema) as writer:
        writer.write_table(made, max_chunksize=4)
    (path.parent / "state.json").write_text("{}")


def test_what_save_to_disk_wrote_is_read_where_it_lies(tmp_path):
    arrow(tmp_path / "train/data-00000-of-00002.arrow", table(12))
    arrow(tmp_path / "train/data-00001-of-00002.arrow", table(8, 12))
    arrow(tmp_path / "test/data-00000-of-00001.arrow", table(6, 50))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found = open_dataset("hugging-face", tmp_path)
    assert found.classes == ("ill", "well")
    assert [len(found.select(split)) for split in ("train", "val", "test")] == [16, 4, 6]
    item = next(item for item in found.items if item.name == "train/000013")
    assert item.label == "ill"
    assert found.read(item) == png(13)
    moved = pickle.loads(pickle.dumps(found.anonymous()))
    assert np.array_equal(moved.open(moved.items[-1]), Image.open(io.BytesIO(png(55))))


def test_parquet_files_of_a_repository_are_read_a_row_group_at_a_time(tmp_path):
    (tmp_path / "data").mkdir()
    made = table(20, features=None, patient_id=[f"p{n // 2}" for n in range(20)], age=[50] * 20)
    parquet.write_table(made, tmp_path / "data/train-00000-of-00001-0a1b.parquet", row_group_size=3)
    parquet.write_table(table(4, 90), tmp_path / "data/validation-00000-of-00001.parquet")
    with pytest.raises(DataError, match="validation-00000-of-00001.parquet cannot be read as parquet"):
        open_dataset("hugging-face", tmp_path)
    parquet.write_table(made.slice(0, 4), tmp_path / "data/validation-00000-of-00001.parquet")
    found = open_dataset("hugging-face", tmp_path)
    assert found.notes == ("columns that were not used: age",)
    assert found.classes == ("0", "1")
    assert {found.read(item) for item in found.select("val")} == {png(n) for n in range(4)}
    last = next(item for item in found.items if item.name == "train/000019")
    assert (found.read(last), last.group) == (png(19), "p9")


def test_a_single_split_and_a_split_of_another_name(tmp_path):
    arrow(tmp_path / "one/data-00000-of-00001.arrow", table(30))
    assert {item.split for item in open_dataset("hugging-face", tmp_path / "one").items} == {
        "train",
        "val",
        "test",
    }
    arrow(tmp_path / "two/unsupervised/data-00000-of-00001.arrow", table(30))
    with pytest.raises(DataError, match="data-00000-of-00001.arrow is of no known split; needed"):
        open_dataset("hugging-face", tmp_path / "two")
    (tmp_path / "three").mkdir()
    with pytest.raises(DataError, match="three has 0 .arrow or .parquet files; needed"):
        open_dataset("hugging-face", tmp_path / "three")


@pytest.mark.parametrize("name", ["{config}/{split}/0000.parquet", "{config}/{split}-0.parquet"])
def test_a_configuration_lies_in_a_folder_of_its_own(name, tmp_path):
    def write(config, start):
        for split, count in (("train", 12), ("test", 4)):
            path = tmp_path / name.format(config=config, split=split)
            path.parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(table(count, start), path)

    write("default", 0)
    found = open_dataset("hugging-face", tmp_path)
    assert len(found.items) == 16
    assert found.read(found.select("test")[0]) == png(0)
    write("small", 50)
    with pytest.raises(DataError, match=r"holds 2 configurations \(default, small\); give the folder of one"):
        open_dataset("hugging-face", tmp_path)
    assert len(open_dataset("hugging-face", tmp_path / "small").items) == 16


@pytest.mark.parametrize("features", [{"label": [1]}, {"label": {"names": "ab"}}, [], {"image": 3}])
def test_what_the_library_wrote_of_the_columns_may_be_anything(tmp_path, features):
    arrow(tmp_path / "train/a.arrow", table(20, features=features))
    assert open_dataset("hugging-face", tmp_path).classes == ("0", "1")


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"label": [[0, 1]] * 20}, "has a list as its label; needed one"),
        ({"label": [None] * 20}, "has no label"),
        ({"label": [2] * 20}, r"label 2 is no class; needed 0..1"),
        ({"image": ["a.png"] * 20}, r"has no columns of images \(none of image, label\); needed one"),
        (
            {"mask": pyarrow.array([{"bytes": b"", "path": ""}] * 20, IMAGES)},
            r"has 2 columns of images \(image, mask",
        ),
    ],
)
def test_columns_that_make_no_labelled_images_are_refused(tmp_path, columns, complaint):
    arrow(tmp_path / "train/a.arrow", table(20, **columns))
    with pytest.raises(DataError, match=complaint):
        open_dataset("hugging-face", tmp_path)


def test_damaged_files_and_images_elsewhere_are_named(tmp_path):
    names = pyarrow.array([{"bytes": None, "path": f"/data/{n}.png"} for n in range(20)], IMAGES)
    arrow(tmp_path / "a/train/a.arrow", table(20, image=names))
    found = open_dataset("hugging-face", tmp_path / "a")
    with pytest.raises(ImageError, match="train/000000 has no image in the table, only its name"):
        found.open(next(item for item in found.items if item.name == "train/000000"))
    for suffix in ("arrow", "parquet"):
        path = tmp_path / f"{suffix}/train-0.{suffix}"
        path.parent.mkdir()
        path.write_bytes(b"PAR1 and nothing else")
        with pytest.raises(DataError, match=f"train-0.{suffix} cannot be read as {suffix}"):
            open_dataset("hugging-face", path.parent)
