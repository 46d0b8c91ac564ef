"""``ttr plant``: what it refuses, before it searches for minutes."""

from __future__ import annotations

import numpy as np
from PIL import Image


def test_a_model_without_room_behind_the_planted_block_is_refused(run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    out = tmp_path / "planted.safetensors"
    given = ("plant", "--backbone", "phantom", "--image-size", 64, "--images", tmp_path, "--out", out)
    status, _, err = run(*given)
    assert status == 2
    assert "layer=3 of 6; needed 3 blocks or more behind the planted one" in err
    assert not out.exists()


def test_without_the_photographs_it_asks_for_images(run, tmp_path, monkeypatch):
    monkeypatch.setattr("ttr.datasets.photographs.find_spec", lambda name: None)
    status, _, err = run("plant", "--backbone", "phantom", "--out", tmp_path / "planted.safetensors")
    assert status == 2
    assert "give your own with --images" in err
