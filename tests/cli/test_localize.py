"""``ttr localize`` as a user meets it: a table with masks and boxes in, a folder and one sentence out."""

from __future__ import annotations

import pandas as pd
import pytest
from PIL import Image

from ttr.datasets.phantom_lesions import phantom_lesions
from ttr.datasets.registry import Outlines

PATIENT = "DOE^JANE"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A table of 20 phantom lesions of 10 patients: masks in training and validation, boxes in the test."""
    root = tmp_path_factory.mktemp("set")
    dataset = phantom_lesions(counts={"train": 6, "val": 4, "test": 10})
    outlines, rows = Outlines.of(dataset), ["path,label,split,patient,mask,box"]
    for number, item in enumerate(dataset.items):
        name = f"{PATIENT}-{number:02d}.png"
        dataset.open(item).save(root / name)
        spot = Image.fromarray(255 * outlines.draw(item, (224, 224)))
        box = '"{},{},{},{}"'.format(*spot.getbbox())
        if item.split != "test":
            spot.save(root / f"mask-{number:02d}.png")
            box = ""
        mask = f"mask-{number:02d}.png" if item.split != "test" else ""
        rows.append(f"{name},{item.label},{item.split},{PATIENT}-{number // 2},{mask},{box}")
    (root / "table.csv").write_text("\n".join(rows))
    return root


@pytest.fixture
def localize(run, root, tmp_path):
    def call(*options, table="table.csv"):
        fixed = ("localize", "--dataset", "csv", "--root", root / table, "--backbone", "phantom", "--quiet")
        small = ("--image-size", 64, "--cache", tmp_path / "cache", "--out", tmp_path / "out", "--draws", 1)
        return run(*fixed, *small, *options)

    return call


def test_it_writes_the_folder_and_ends_with_the_answer_and_the_page(localize, tmp_path):
    status, out, err = localize("--arms", "plain,ttr", "--methods", "attention,gradcam", "--anonymous")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[-1] == f"open: {tmp_path / 'out' / 'index.html'}"
    assert lines[-2].startswith("In the outline lies so much of a map's energy: 0.")
    assert "centre-map" in out
    table = pd.read_csv(tmp_path / "out" / "localisation.csv")
    assert set(table.n) == {10}
    assert set(table.method) == {"attention", "gradcam", "baseline"}
    assert {line.count("…") for line in lines} == {0}, "no number is cut"
    page = (tmp_path / "out" / "index.html").read_text()
    assert "10 test images of 5 patients" in page
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert PATIENT not in written + out
    assert "image 11," in written


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--arms", "plain,bare"), "arms plain, bare; needed one or more of plain"),
        (("--methods", "grad-cam"), "methods grad-cam; needed one or more of attention"),
        (("--margin", "0"), "--margin 0; needed points"),
        (("--neurons", "none.json"), "none.json cannot be read"),
        (("--dataset", "folder"), "is not a folder"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(localize, tmp_path, options, says):
    status, out, err = localize(*options)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert not (tmp_path / "out").exists()


def test_several_processes_are_refused_before_anything_is_read(localize, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = localize()
    assert (status, "ttr localize runs in one process, and the environment says WORLD_SIZE=2" in err) == (
        2,
        True,
    )
    assert not (tmp_path / "out").exists()


def test_a_set_without_outlines_and_a_mask_of_another_size(localize, root):
    lines = (root / "table.csv").read_text().splitlines()
    (root / "bare.csv").write_text("\n".join(",".join(line.split(",")[:4]) for line in lines))
    status, _, err = localize(table="bare.csv")
    assert (status, "no mask and no box of a class in its test split (10 images)" in err) == (2, True)
    Image.new("L", (100, 100)).save(root / "other.png")
    (root / "other.csv").write_text(
        "\n".join([*lines[:-1], f"{lines[-1].split(',')[0]},dark,test,p,other.png,"])
    )
    only = ("--arms", "plain", "--methods", "attention")
    status, _, err = localize(*only, table="other.csv")
    assert status == 2
    assert f"the mask of {PATIENT}-19.png has 100 × 100 pixels, and its image 224 × 224" in err
    status, out, err = localize(*only, "--on-error", "skip", table="other.csv")
    assert (status, err) == (0, "")
    assert "left out as unreadable: 1 image" in out
