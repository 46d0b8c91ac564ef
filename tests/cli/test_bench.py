"""``ttr bench`` as a user meets it."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.tools.cluster import joined
from tests.tools.turns import in_turns
from ttr.datasets.registry import phantom_images


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of two classes, 24 images, one of them damaged."""
    root = tmp_path_factory.mktemp("set")
    for number, phantom in enumerate(phantom_images(24, classes=2, size=64)):
        path = root / phantom.label / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        phantom.image.save(path)
    (root / "rings" / "broken.png").write_text("no image")
    return root


@pytest.fixture
def bench(run, root, tmp_path):
    def call(*options):
        fixed = ("bench", "--dataset", "folder", "--root", root, "--backbone", "phantom", "--image-size", 64)
        return run(*fixed, "--cache", tmp_path / "cache", "--out", tmp_path / "out", "--quiet", *options)

    return call


def test_it_writes_the_folder_and_ends_with_the_table(bench, tmp_path):
    options = ("--arms", "plain,ttr", "--heads", "linear", "--seeds", "1,2", "--num-registers", "classes")
    status, out, err = bench(*options, "--on-error", "skip")
    assert (status, err) == (0, "")
    assert "finding them on training images" in out
    assert "left out as unreadable: 1 image;" in out
    assert "ttr − plain, R = 2" in out
    # Seen beside each other, a seed's accuracies and a difference over seeds say which they are.
    assert "top1, %, of seed 1 alone" in " ".join(out.split())
    assert "in points, mean over 2 seeds of linear heads" in " ".join(out.split())
    assert out.splitlines()[-1] == f"open: {tmp_path / 'out' / 'index.html'}"
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert set(results.num_registers) == {0, 2}
    assert "1 image left out" in (tmp_path / "out" / "index.html").read_text()


def test_processes_share_the_images_and_the_first_writes_what_one_process_does(bench, tmp_path, monkeypatch):
    monkeypatch.setattr("ttr.features.chunks.PART", 8)
    options = ("--arms", "plain,ttr", "--heads", "logistic", "--seeds", "1", "--on-error", "skip")
    assert bench(*options, "--cache", tmp_path / "its", "--out", tmp_path / "one")[0] == 0

    def process(rank):
        monkeypatch.setenv("RANK", str(rank.index))
        monkeypatch.setenv("WORLD_SIZE", str(rank.count))
        return bench(*options)

    (_, said, _), (status, first, err) = in_turns(monkeypatch, process, (1, 0))
    assert (status, err) == (0, "")
    assert "This process's part of the features is done; the first process goes on to" in said
    assert "open:" in first
    both = [(tmp_path / name / "results.csv").read_bytes() for name in ("one", "out")]
    assert both[0] == both[1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "broken.png is not an image"),
        (
            ("--arms", "plain,baseline", "--on-error", "skip"),
            "arms plain, baseline; needed one or more of",
        ),
        (("--heads", "svm"), "heads svm"),
        (("--num-registers", "many"), "cannot read 'many'"),
        (("--preprocess", "blur"), "step 'blur' is not known"),
        (("--on-error", "ignore"), "on_error='ignore'"),
        (("--dataset", "orthonets"), "did you mean orthonet?"),
        (("--neurons", "none.json"), "none.json cannot be read"),
        (("--actors", 2), "got --actors without --engine ray"),
        (("--engine", "ray", "--device", "mps"), "the engine ray got device mps"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(bench, tmp_path, monkeypatch, options, says):
    joined(monkeypatch)
    status, out, err = bench(*options)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert not (tmp_path / "out").exists()
