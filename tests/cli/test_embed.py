"""``ttr embed``: shards from the command line, and their proof."""

from __future__ import annotations

import io
import tarfile

import pandas as pd
import pytest

import ttr
from ttr.datasets.registry import phantom_images
from ttr.machines import cluster

SMALL = ("embed", "--backbone", "phantom", "--image-size", 64, "--workers", 1, "--quiet", "--shard-size", 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pictures, a tar file of two more, and a table of two."""
    root = tmp_path_factory.mktemp("pictures")
    packed = []
    for number, drawn in enumerate(phantom_images(5)):
        buffer = io.BytesIO()
        drawn.image.resize((64, 64)).save(buffer, "PNG")
        if number < 3:
            (root / f"{number}.png").write_bytes(buffer.getvalue())
        else:
            packed.append((f"{number}.png", buffer.getvalue()))
    with tarfile.open(root / "more.tar", "w") as archive:
        for name, content in packed:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    pd.DataFrame({"path": ["2.png", "0.png"]}).to_csv(root / "table.csv", index=False)
    return root


def rows(out) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(out.glob("shard-*.parquet"))])


def test_it_ends_with_one_sentence_and_the_path_and_its_result_is_verified(run, folder, tmp_path):
    out = tmp_path / "out"
    neurons = tmp_path / "neurons.json"
    ttr.RegisterNeurons.from_pairs(ttr.load("phantom", image_size=64).planted).save(neurons)
    words = (*SMALL, "--images", folder, "--out", out, "--neurons", neurons, "--outlier-share")
    status, said, err = run(*words, "--faithfulness", "--storage", "float16", "--threshold", "mean+3sd")
    assert (status, err) == (0, "")
    last = said.strip().splitlines()[-2:]
    assert last == [
        "5 images embedded in 3 shards; manifest.json proves that each has one row",
        f"open: {out}",
    ]
    found = rows(out)
    assert list(found.columns) == ["image", "embedding", "outlier_share", "faithfulness", "error"]
    assert list(found["image"]) == ["0.png", "1.png", "2.png", "more.tar/3.png", "more.tar/4.png"]
    status, said, _ = run("embed", "--verify", out)
    assert status == 0
    assert said.startswith("whole: 5 images listed, each with one row, 0 of them with a reason")
    (out / "shard-00001-of-00003.parquet").unlink()
    status, said, _ = run("embed", "--verify", out)
    assert status == 1
    assert said.startswith("off: shard-00001-of-00003.parquet: it is not there")


def test_a_table_says_which_images_and_in_which_order(run, folder, tmp_path):
    status, _, _ = run(*SMALL, "--images", folder / "table.csv", "--out", tmp_path / "out", "--anonymous")
    assert status == 0
    assert list(rows(tmp_path / "out")["image"]) == ["image 1", "image 2"]
    other = tmp_path / "table.csv"
    other.write_text("scan\n1.png\n")
    words = ("--images", other, "--path-column", "scan", "--root", folder, "--out", tmp_path / "other")
    assert run(*SMALL, *words)[0] == 0
    assert list(rows(tmp_path / "other")["image"]) == ["1.png"]


def test_a_process_of_several_says_that_others_are_still_at_work(run, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, said, _ = run(*SMALL, "--images", folder, "--out", tmp_path / "out")
    assert status == 0
    assert "This process's shards are whole; 2 of 3 shards are still to come from other processes" in said
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--images", "nowhere"), "nowhere does not exist"),
        (("--images", "nosuch://place"), "no address that can be read"),
        (("--root", "x"), "got --root with"),
        (("--storage", "int8"), "storage='int8'; needed one of float32, float16"),
        (("--threshold", "high"), "threshold='high'"),
        (("--num-registers", 4), "got --num-registers 4 without --neurons"),
        (("--address", "127.0.0.1:1"), "got --address without --engine ray"),
        (("--actors", 2), "got --actors without --engine ray"),
        (("--engine", "ray", "--address", "ray://head:1"), "needed host:port of its head"),
        (("--engine", "ray", "--address", "127.0.0.1:1"), "no Ray cluster answers at 127.0.0.1:1"),
    ],
)
def test_what_cannot_be_done_is_refused_on_one_line(run, folder, tmp_path, monkeypatch, words, complaint):
    monkeypatch.setattr(cluster, "find_spec", lambda name: True)
    given = words if words[0] == "--images" else ("--images", folder, *words)
    status, _, err = run(*SMALL, "--out", tmp_path / "out", *given)
    assert (status, err.count("\n")) == (2, 1)
    assert complaint in err
    assert not (tmp_path / "out").exists()


def test_ray_is_asked_for_where_it_is_not_installed_or_under_torchrun(run, folder, tmp_path, monkeypatch):
    words = (*SMALL, "--images", folder, "--out", tmp_path / "out", "--engine", "ray")
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "find_spec", lambda name: None)
        status, _, err = run(*words)
    assert (status, err.count("\n")) == (2, 1)
    assert "needs the package ray, which is not installed; run: pip install '.[ray]'" in err
    monkeypatch.setattr(cluster, "find_spec", lambda name: True)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = run(*words)
    assert (status, err.count("\n")) == (2, 1)
    assert "got the engine ray under torchrun" in err


def test_a_folder_of_something_else_is_refused_before_a_model_is_loaded(run, folder, tmp_path):
    (tmp_path / "mine.txt").write_text("-")
    status, said, err = run(*SMALL, "--images", folder, "--out", tmp_path)
    assert (status, said) == (2, "")
    assert "none of ttr embed's" in err


def test_a_folder_that_was_begun_otherwise_is_refused_with_what_differs(run, folder, tmp_path):
    words = (*SMALL, "--images", folder, "--out", tmp_path / "out")
    assert run(*words)[0] == 0
    status, _, err = run(*words, "--batch-size", 3, "--dtype", "bf16")
    assert status == 2
    assert "batch_size was 32 and is 3" in err
    assert "dtype was float32 and is bfloat16" in err
