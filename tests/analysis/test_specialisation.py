"""Register cosines against scikit-learn; the gallery against an exhaustive search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from ttr.analysis.specialisation import NearestPatches, register_cosines
from ttr.errors import OptionError

GRID = (2, 3)


def tokens(batch: int, count: int, seed: int = 0, width: int = 5) -> torch.Tensor:
    return torch.randn(batch, count, width, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 4), st.integers(0, 5), st.integers(0, 1000))
def test_register_cosines_are_scikit_learns(batch, count, seed):
    x = tokens(batch, count, seed)
    found = register_cosines(x)
    assert found.shape == (batch, count, count)
    assert found.dtype == register_cosines(x.bfloat16()).dtype == torch.float32
    for ours, registers in zip(found, x, strict=True):
        if count:
            np.testing.assert_allclose(ours, cosine_similarity(registers.numpy()), atol=1e-6)
    torch.testing.assert_close(found, found.mT)
    torch.testing.assert_close(register_cosines(3 * x), found)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, 5), st.integers(1, 12), st.integers(0, 1000))
def test_the_gallery_is_the_exhaustive_search_in_any_batches(images, count, top, batch, seed):
    registers, patches = tokens(images, count, seed), tokens(images, 6, seed + 1)
    names = [f"image-{i}" for i in range(images)]
    gallery = NearestPatches(top=top)
    for start in range(0, images, batch):
        part = slice(start, start + batch)
        gallery.add(names[part], registers[part], patches[part], GRID)
    for register, found in enumerate(gallery.gallery()):
        best = []
        for i in range(images):
            cosines = cosine_similarity(registers[i, register, None].numpy(), patches[i].numpy())[0]
            best.append((-cosines.max(), i, int(cosines.argmax())))
        expected = sorted(best)[:top]
        assert len(found) == min(top, images)
        assert [patch.cosine for patch in found] == pytest.approx([-c for c, _, _ in expected], abs=1e-5)
        where = [(patch.image, patch.row * GRID[1] + patch.column) for patch in found]
        assert where == [(names[i], at) for _, i, at in expected]
        assert len({patch.image for patch in found}) == len(found)


def test_a_mean_register_for_every_image_asks_what_it_resembles_in_general():
    patches = tokens(4, 6)
    patches[2, 5] = torch.tensor([0.0, 0, 0, 0, 7])
    mean = torch.tensor([[0.0, 0, 0, 0, 1]]).expand(4, 1, 5)
    gallery = NearestPatches(top=1)
    gallery.add(list("abcd"), mean, patches, GRID)
    ((nearest,),) = gallery.gallery()
    assert (nearest.image, nearest.row, nearest.column) == ("c", 1, 2)
    assert nearest.cosine == pytest.approx(1)


def test_of_equal_patches_the_first_stays():
    same = torch.ones(4, 6, 5)
    gallery = NearestPatches(top=2)
    for i in range(4):
        gallery.add([str(i)], same[:1, :1], same[:1], GRID)
    assert [(p.image, p.row, p.column) for p in gallery.gallery()[0]] == [("0", 0, 0), ("1", 0, 0)]


def test_a_model_without_registers_has_empty_galleries():
    assert NearestPatches().gallery() == ()
    gallery = NearestPatches()
    gallery.add(["a"], tokens(1, 0), tokens(1, 6), GRID)
    assert gallery.gallery() == ()


def test_bad_input_is_refused():
    with pytest.raises(OptionError, match="top=0"):
        NearestPatches(top=0)
    with pytest.raises(OptionError, match=r"needed \[B, T, D\]"):
        register_cosines(torch.ones(2, 3))
    gallery = NearestPatches()
    with pytest.raises(OptionError, match="1 names"):
        gallery.add(["a"], tokens(2, 1), tokens(2, 6), GRID)
    with pytest.raises(OptionError, match=r"grid \(3, 3\)"):
        gallery.add(["a"], tokens(1, 1), tokens(1, 6), (3, 3))
    with pytest.raises(OptionError, match=r"P = rows x columns"):
        gallery.add(["a"], tokens(1, 1), tokens(1, 6, width=4), GRID)
    gallery.add(["a"], tokens(1, 1), tokens(1, 6), GRID)
    with pytest.raises(OptionError, match="got 2 registers after 1"):
        gallery.add(["a"], tokens(1, 2), tokens(1, 6), GRID)


def test_a_patient_enters_a_gallery_once():
    registers, patches = tokens(6, 2), tokens(6, 6, 1)
    names, groups = list("abcdef"), ["p", "p", "q", "q", "q", "r"]
    everyone, gallery = NearestPatches(top=6), NearestPatches(top=2)
    everyone.add(names, registers, patches, GRID)
    for start in (0, 1, 4):
        part = slice(start, {0: 1, 1: 4, 4: 6}[start])
        gallery.add(names[part], registers[part], patches[part], GRID, groups=groups[part])
    of = dict(zip(names, groups, strict=True))
    for found, ranked in zip(gallery.gallery(), everyone.gallery(), strict=True):
        best = {of[patch.image]: patch for patch in reversed(ranked)}
        assert list(found) == sorted(best.values(), key=lambda patch: -patch.cosine)[:2]
