"""Tables as people have them: read as they are meant, or refused with what to do."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from PIL import Image

from ttr.datasets.registry import open_dataset
from ttr.datasets.tables.files import read_table
from ttr.errors import DataError, ImageError

NAMES = [f"img/i{number:02d}.png" for number in range(24)]
SPLITS = ("train", "train", "val", "test")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "set/img").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        pixels = np.random.default_rng(number).integers(0, 255, (6, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / name)
    return tmp_path / "set"


def rows(path=str, label=lambda n: "ab"[n % 2], more=lambda n: SPLITS[n // 2 % 4]):
    return [(path(name), label(n), more(n)) for n, name in enumerate(NAMES)]


def opened(root, lines, header=("path", "label", "split"), sep=",", encoding="utf-8", **options):
    text = "\n".join(sep.join(map(str, line)) for line in [header, *lines])
    (root / "t.csv").write_bytes(text.encode(encoding))
    return open_dataset("csv", root / "t.csv", **options)


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_every_usual_separator_and_encoding_is_read(root, sep, encoding):
    found = opened(root, rows(label=lambda n: ("légère", "x")[n % 2]), sep=sep, encoding=encoding)
    assert found.classes == ("légère", "x")
    assert [item.name for item in found.items if item.split == "val"] == [
        NAMES[n] for n in range(24) if SPLITS[n // 2 % 4] == "val"
    ]


def test_what_spreadsheets_write_around_a_table_is_left_out(root):
    lines = ["sep=;", "path;label;split", *(";".join(line) for line in rows()), ";;", ""]
    (root / "t.csv").write_text("\n".join(lines))
    assert len(open_dataset("csv", root / "t.csv").items) == 24
    lines[5] = ";a;train"
    (root / "t.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match="t.csv, line 6: path '' is not allowed"):
        open_dataset("csv", root / "t.csv")


def test_a_packed_table_is_unpacked_up_to_a_bound(tmp_path, monkeypatch):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"path,label\na.png,b\n"))
    assert list(read_table(tmp_path / "t.csv.gz", ("path",)).label) == ["b"]
    monkeypatch.setattr("ttr.datasets.tables.files.MOST_TEXT", 1 << 20)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a" * (2 << 20)))
    with pytest.raises(DataError, match="it unpacks to over 1 MiB"):
        read_table(tmp_path / "t.csv.gz", ())
    (tmp_path / "t.csv").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match="no text that can be read"):
        read_table(tmp_path / "t.csv", ())


@pytest.mark.parametrize(
    "path",
    [
        lambda root, name: name.replace("/", "\\"),
        lambda root, name: f"C:\\data\\{name}".replace("/", "\\"),
        lambda root, name: f"/home/other/set/{name}",
        lambda root, name: str(root / name),
    ],
    ids=["backslashes", "windows", "another machine", "below the root"],
)
def test_paths_of_other_machines_are_found_below_the_table(root, path):
    found = opened(root, rows(lambda name: path(root, name)))
    assert sorted(item.name for item in found.items) == NAMES
    assert all(item.path.is_file() for item in found.items)


def test_a_missing_file_is_not_taken_for_another_of_its_name(root):
    """What is cut off one absolute path is cut off all: a shorter end may be another picture."""
    (root / "i00.png").write_bytes((root / NAMES[3]).read_bytes())
    (root / NAMES[0]).unlink()
    found = opened(root, rows(lambda name: f"/data/{name}"))
    assert NAMES[0] in [item.name for item in found.items]
    lines = rows(lambda name: f"/data/{name}" if name != NAMES[5] else f"/other/{name}")
    with pytest.raises(DataError, match=r"23 paths begin with /data/ .* '/other/img/i05.png' begins"):
        opened(root, lines)
    with pytest.raises(DataError, match=r"'/data/x/i01.png' is absolute, and no end of it is a file below"):
        opened(root, rows(lambda name: f"/data/x/{name[4:]}")[1:2])


@pytest.mark.parametrize(
    "header",
    [
        ("filename", "diagnosis", "split", "PatientID"),
        ("Image", "Target", "Set", "subject_id"),
        ("image_id", "class", "partition", "Patient ID"),
    ],
)
def test_columns_are_known_by_the_names_that_people_give_them(root, header):
    lines = [(name[:-4] if header[0] == "image_id" else name, *rest) for name, *rest in rows()]
    found = opened(root, [(*line, f"p{n // 2}") for n, line in enumerate(lines)], header)
    assert sorted(item.name for item in found.items) == NAMES
    assert len({item.group for item in found.items}) == 12
    assert {split: len(found.select(split)) for split in ("train", "val", "test")} == {
        "train": 12,
        "val": 6,
        "test": 6,
    }


def test_two_columns_for_one_thing_are_refused_and_unused_ones_are_named(root):
    lines = [(*line, "x", "7") for line in rows()]
    with pytest.raises(DataError, match="columns image and filename, and either may be the path; call"):
        opened(root, lines, ("image", "label", "split", "filename", "Age"))
    found = opened(root, lines, ("path", "label", "split", "filename", "Age"))
    assert found.notes == ("columns that were not used: filename, age",)


def test_words_for_splits_and_rows_without_one(root):
    words = ("training", "Train", "validate", "testing")
    found = opened(root, rows(more=lambda n: words[n // 2 % 4]))
    assert [len(found.select(split)) for split in ("train", "val", "test")] == [12, 6, 6]
    found = opened(root, rows(more=lambda n: ("", "train", "dev", "test")[n // 2 % 4]))
    assert found.notes == ("6 rows without a split, taken as training",)


def test_whole_numbers_are_one_class_and_others_are_none(root):
    assert opened(root, rows(label=lambda n: ("0", "1", "1.0")[n % 3])).classes == ("0", "1")
    with pytest.raises(DataError, match="line 3: label '0.5' is no class; needed whole numbers or names"):
        opened(root, rows(label=lambda n: ("0", "0.5")[n % 2]))
    with pytest.raises(DataError, match="line 2: the label is empty"):
        opened(root, rows(label=lambda n: ("nan", "a")[n % 2]))


def test_labels_that_differ_in_case_alone_are_refused(root):
    with pytest.raises(DataError, match=r"'Normal' \(12 images\) and 'normal' \(12 images\) differ in upper"):
        opened(root, rows(label=lambda n: ("Normal", "normal")[n % 2]))


def test_a_patient_whose_number_got_decimals_is_one_patient(root):
    lines = [(*line, f"{n // 4}.0" if n % 2 else n // 4) for n, line in enumerate(rows())]
    found = opened(root, lines, ("path", "label", "split", "patient"))
    assert {item.group for item in found.items} == set("012345")


def test_findings_that_differ_in_case_alone_are_refused_whichever_is_chosen(root):
    with pytest.raises(DataError, match=r"'Mass' \(12 images\) and 'mass' \(12 images\) differ in upper"):
        opened(root, rows(label=lambda n: ("a|Mass", "b|mass")[n % 2]), finding="mass")


def test_several_labels_in_a_cell_need_a_choice(root):
    labels = ("a|b", "a", "b", "c")
    with pytest.raises(DataError, match=r"6 rows with several labels, such as 'a\|b'; .* --finding a"):
        opened(root, rows(label=lambda n: labels[n % 4]))
    with pytest.raises(DataError, match="6 rows with several labels, such as 'a;b'"):
        opened(root, rows(label=lambda n: labels[n % 4].replace("|", ";")))
    found = opened(root, rows(label=lambda n: labels[n % 4]), finding="B")
    assert found.classes == ("b", "no b")
    assert sum(item.label == "b" for item in found.items) == 12
    with pytest.raises(DataError, match=r"has no finding 'd'.*; needed one of: a, b, c"):
        opened(root, rows(label=lambda n: labels[n % 4]), finding="d")


def test_columns_of_zeros_and_ones_are_labels_where_each_row_has_one(root):
    lines = [(name, int(n % 3 == 0), int(n % 3 == 1), f"{n % 3 == 2:.1f}") for n, name in enumerate(NAMES)]
    header = ("image", "MEL", "NV", "BCC")
    found = opened(root, lines, header)
    assert found.classes == ("BCC", "MEL", "NV")
    assert found.notes == ("labels are the columns with a 1: MEL, NV, BCC",)
    lines[0] = (NAMES[0], 1, 1, 0)
    with pytest.raises(DataError, match=r"not each row has a single 1\): choose one with --finding MEL"):
        opened(root, lines, header)
    found = opened(root, lines, header, finding="nv")
    assert found.classes == ("NV", "no NV")
    assert sum(item.label == "NV" for item in found.items) == 9


def test_a_finding_may_be_named_left_open_or_not_mentioned(root):
    said = ("1.0", "0", "-1.0", "")
    lines = [(name, said[n % 4], ("", "1")[n % 2], "") for n, name in enumerate(NAMES)]
    header = ("path", "Edema", "Mass", "Note")
    found = opened(root, lines, header, finding="edema")
    assert {item.name: item.label for item in found.items} == {
        name: ("Edema", "no Edema", "", "no Edema")[n % 4] for n, name in enumerate(NAMES) if n % 4 != 2
    }
    assert "6 images left out where it is uncertain" in found.notes
    assert "columns that were not used: note" in found.notes
    assert opened(root, lines, header, finding="MASS").classes == ("Mass", "no Mass")
    with pytest.raises(DataError, match="choose one with --finding Edema"):
        opened(root, lines, header)
    with pytest.raises(DataError, match="has no finding 'note'; needed one of: Edema, Mass"):
        opened(root, lines, header, finding="note")


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (("-1", "0"), r"no image of it shows Edema for certain \(12 left open\)"),
        (("1", "-1"), "all of its 12 images show Edema for certain"),
    ],
)
def test_a_finding_that_tells_nothing_apart_is_refused(root, said, says):
    lines = [(name, said[n % 2]) for n, name in enumerate(NAMES)]
    with pytest.raises(DataError, match=says + r".*; choose another --finding"):
        opened(root, lines, ("path", "Edema"), finding="Edema")


@pytest.mark.parametrize("word", ["NA", "n/a", "None", "null", "NaN", "<NA>"])
def test_words_for_no_value_are_none(root, word):
    lines = [(*line, word, word) for line in rows()]
    found = opened(root, lines, ("path", "label", "split", "patient_id", "mask"))
    assert {(item.group, item.mask) for item in found.items} == {(None, None)}
    with pytest.raises(DataError, match=rf"line 2: the label is empty \('{word}' stands for none"):
        opened(root, rows(label=lambda n: (word, "a")[n % 2]))


@pytest.mark.parametrize("name", ["data_split", "Train/Test", "mode", "Dataset"])
def test_a_column_of_nothing_but_splits_is_the_split_whatever_its_name(root, name):
    found = opened(root, rows(), ("path", "label", name))
    assert [len(found.select(split)) for split in ("train", "val", "test")] == [12, 6, 6]
    assert found.notes == (f"the column {name.lower()} taken as the split",)
    with pytest.raises(DataError, match="either may be the split; call the one that counts 'split'"):
        opened(root, [(*line, line[2]) for line in rows()], ("path", "label", name, "other"))


@pytest.mark.parametrize("name", ["participant_id", "person_id", "PID"])
def test_participants_and_persons_are_patients(root, name):
    found = opened(
        root, [(*line, f"p{n}") for n, line in enumerate(rows())], ("path", "label", "split", name)
    )
    assert len({item.group for item in found.items}) == 24


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04rest", "an Excel workbook"),
        (b"\xd0\xcf\x11\xe0rest", "an Excel workbook"),
        (b"\n<!DOCTYPE html><html>", "a page of HTML or XML"),
        (b' [{"path": "a.png"}]', "JSON"),
        (b"PAR1rest", "Parquet"),
    ],
)
def test_what_is_no_table_of_text_is_called_by_its_name(tmp_path, content, says):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"t.csv is {says}.*; save it as CSV"):
        read_table(tmp_path / "t.csv", ())


def test_why_no_split_can_be_made_is_said_as_it_is(root):
    header = ("path", "label", "patient")
    with pytest.raises(DataError, match=r"all 24 training images are of one group \(patient\), so none can"):
        opened(root, rows(more=lambda n: "p"), header)
    with pytest.raises(DataError, match="each of the 24 classes has a single image in training: give more"):
        opened(root, rows(label=lambda n: f"c{n}", more=lambda n: "7"), ("path", "label", "nothing"))
    with pytest.raises(DataError, match="no image is left for training, of which val would be set aside"):
        opened(root, rows(more=lambda n: "test"))
    with pytest.raises(DataError, match="24 items of 2 classes in 2 groups are too few"):
        opened(root, rows(more=lambda n: "pq"[n // 12]), header)


def test_masks_of_a_table_make_a_segmentation_task(root):
    Image.fromarray(np.pad(np.full((2, 2), 255, np.uint8), ((0, 4), (0, 6)))).save(root / "m.png")
    lines = [
        (*line, "m.png" if n % 2 else "") for n, line in enumerate(rows(label=lambda n: "ab"[n % 3 % 2]))
    ]
    found = opened(root, lines, ("path", "label", "split", "mask"))
    assert found.masks.classes == ("background", "foreground")
    assert len(found.masked("train")) == 6
    assert found.masks.open(found.masked("test")[0]).sum() == 4


def test_a_mask_of_several_things_is_not_taken_for_one(root):
    Image.fromarray((np.arange(48, dtype=np.uint8) % 4).reshape(6, 8)).save(root / "m.png")
    found = opened(root, [(*line, "m.png") for line in rows()], ("path", "label", "split", "mask"))
    with pytest.raises(ImageError, match="holds the numbers 0, 1, 2, 3, several things"):
        found.masks.open(found.items[0])
