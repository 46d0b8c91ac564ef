"""PCK and nearest-patch accuracy against plain loops, closed forms, and a warp whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ttr.errors import OptionError
from ttr.evaluate.correspondence import matches
from ttr.evaluate.warps import warped_pair

GRID, SIZE = (4, 6), (64, 96)


def brute(a, b, source, target, valid, alpha, extent):
    """One image, by loops: patch under the point, best cosine, distance of the centres."""
    pck, nearest = [], []
    for (x, y), (u, v), counts in zip(source, target, valid, strict=True):
        visible = all(-0.5 <= p < limit - 0.5 for p, limit in ((x, 96), (u, 96), (y, 64), (v, 64)))
        if not (counts and visible):
            continue
        query = a[math.floor((y + 0.5) / 16) * 6 + math.floor((x + 0.5) / 16)]
        scores = [query @ other / np.linalg.norm(query) / np.linalg.norm(other) for other in b]
        row, column = divmod(int(np.argmax(scores)), 6)
        distance = math.dist((16 * column + 7.5, 16 * row + 7.5), (u, v))
        pck.append(distance <= alpha * max(extent))
        nearest.append(16 * column <= u + 0.5 < 16 * column + 16 and 16 * row <= v + 0.5 < 16 * row + 16)
    return (np.mean(pck), np.mean(nearest)) if pck else (math.nan, math.nan)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.4])
@pytest.mark.parametrize("boxes", [False, True])
def test_it_equals_plain_loops(alpha, boxes):
    random = np.random.default_rng(0)
    a = random.normal(size=(6, 24, 5)).astype(np.float32)
    b = (np.roll(a, 1, axis=1) + 0.6 * random.normal(size=a.shape)).astype(np.float32)
    source = random.uniform(-4, (99, 66), (6, 40, 2))
    target = random.normal((16, 0), 4, source.shape) + source
    valid = random.uniform(size=(6, 40)) < 0.8
    valid[5] = False
    extent = random.uniform(20, 90, (6, 2)) if boxes else None
    found = matches(
        *(torch.from_numpy(a), torch.from_numpy(b), source, target, valid),
        **{"grid": GRID, "image_size": SIZE, "alpha": alpha, "extent": extent},
    )
    expected = [
        brute(a[i], b[i], source[i], target[i], valid[i], alpha, (96, 64) if extent is None else extent[i])
        for i in range(6)
    ]
    np.testing.assert_allclose(np.stack(found, axis=1), expected)
    assert 0 < np.nanmean(found[1]) < 1
    assert np.isnan([found[0][5], found[1][5]]).all(), "no keypoint, no number"


def points_of(*patches):
    return np.array([[[16 * column + 7.5, 16 * row + 7.5] for row, column in patches]])


def test_closed_forms():
    """Orthogonal patches match themselves; the tolerance is alpha times the longer side, edge included."""
    tokens = torch.eye(24)[None]
    source = points_of((0, 0), (3, 5), (1, 2))
    where = {"grid": GRID, "image_size": SIZE}
    valid = np.ones((1, 3), dtype=bool)
    assert matches(tokens, 9 * tokens, source, source, valid, **where) == (1, 1)
    moved = np.add(source, [[9.6, 0], [0, -9.6], [9.61, 0]])
    pck, nearest = matches(tokens, tokens, source, moved, valid, **where)
    assert pck[0] == pytest.approx(2 / 3)
    assert nearest[0] == 0
    pck, _ = matches(tokens, tokens, source, moved, valid, extent=np.array([[30.0, 97.0]]), **where)
    assert pck[0] == 1
    pck, nearest = matches(tokens, tokens, source, np.add(source, 100), valid, **where)
    assert np.isnan(pck[0])
    assert np.isnan(nearest[0])


def test_the_type_of_the_tokens_and_the_batch_do_not_matter():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(3, 24, 8, generator=generator) for _ in range(2))
    source = np.random.default_rng(0).uniform(0, 63, (3, 9, 2))
    valid = np.ones((3, 9), dtype=bool)
    where = {"grid": GRID, "image_size": SIZE, "alpha": 0.3}
    together = matches(a, b, source, source, valid, **where)
    for i in range(3):
        part = slice(i, i + 1)
        alone = matches(a[part], b[part], source[part], source[part], valid[part], **where)
        assert (alone[0][0], alone[1][0]) == (together[0][i], together[1][i])
    low = matches(a.bfloat16(), b.bfloat16(), source, source, valid, **where)
    np.testing.assert_allclose(low, together, atol=0.25)


def test_patches_that_carry_their_content_find_themselves_in_the_warped_image(phantom, phantom_batch):
    """On the phantom the instrument must answer well above a guess; patch tokens at random must not."""
    pair = warped_pair(phantom_batch, seeds=range(8), fill=torch.full((3,), -1.0))
    where = {"grid": phantom.layout.grid, "image_size": phantom.image_size}
    tokens = [phantom.tokens(images).patches for images in (phantom_batch, pair.warped)]
    pck, _ = matches(*tokens, pair.source, pair.target, pair.valid, **where)
    guesses = torch.randn(tokens[0].shape, generator=torch.Generator().manual_seed(0))
    guessed, _ = matches(tokens[0], guesses, pair.source, pair.target, pair.valid, **where)
    assert np.isfinite(pck).all()
    assert np.mean(pck) > 4 * np.mean(guessed)


def test_what_does_not_fit_is_refused():
    tokens, points, valid = torch.eye(24)[None], points_of((0, 0)), np.ones((1, 1), dtype=bool)
    where = {"grid": GRID, "image_size": SIZE}
    with pytest.raises(
        OptionError, match=r"got patches \(1, 24, 24\) and \(1, 23, 24\); needed \[B, 24, D\]"
    ):
        matches(tokens, tokens[:, 1:], points, points, valid, **where)
    with pytest.raises(OptionError, match=r"for a grid of 5x5"):
        matches(tokens, tokens, points, points, valid, grid=(5, 5), image_size=SIZE)
    with pytest.raises(OptionError, match=r"got keypoints \(1, 1, 2\) and \(1, 1, 2\) and valid \(1, 2\)"):
        matches(tokens, tokens, points, points, np.ones((1, 2), dtype=bool), **where)
    with pytest.raises(OptionError, match="alpha=0"):
        matches(tokens, tokens, points, points, valid, alpha=0, **where)
