"""What the shipped artifacts are fitted on, and what no fit sees."""

from __future__ import annotations

import numpy as np
import pytest

from ttr.datasets import photographs
from ttr.datasets.photographs import PHOTOGRAPHS, photograph_paths
from ttr.errors import ImageError
from ttr.studies.plant import images
from ttr.studies.plant.images import FITTED_ON, fitting_images, held_out_images


def test_every_photograph_states_its_licence_and_is_found_where_its_package_is():
    assert all(photograph.licence for photograph in PHOTOGRAPHS)
    names = [photograph.name for photograph in PHOTOGRAPHS]
    assert len(set(names)) == len(names)
    assert set(FITTED_ON) <= set(names)
    found = photograph_paths()
    assert {"fundus", "chest", "china", "flower", "grace_hopper"} <= set(found)
    assert all(path.is_file() for path in found.values())


def test_a_package_that_is_not_there_ships_none(monkeypatch):
    monkeypatch.setattr(photographs, "find_spec", lambda name: None)
    assert set(photograph_paths()) == {"fundus", "chest"}
    with pytest.raises(ImageError, match=r"photographs brick, .* are not there; .*\[real\]"):
        list(fitting_images())


def test_photographs_and_crops_of_them_are_the_same_each_time(monkeypatch):
    monkeypatch.setattr(images, "FITTED_ON", ("china",))
    first, again, other = (list(fitting_images(seed=seed)) for seed in (0, 0, 1))
    assert len(first) == 1 + images.CROPS
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(a.size != b.size for a, b in zip(first, other, strict=True))
    whole, *crops = first
    for crop in crops:
        assert 0.19 <= crop.width / whole.width <= 0.91
        assert crop.width / crop.height == pytest.approx(whole.width / whole.height, rel=0.02)
    assert "china" not in held_out_images()
    assert {"fundus", "chest", "flower"} <= set(held_out_images())
