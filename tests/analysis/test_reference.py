"""Centring and its null, against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.analysis.reference import Reference, among, refer


def features(count, width=5, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(count, width)) + 3, draw.normal(size=(count, width)) + 2


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_a_reference_centres_on_its_own_mean():
    theirs, whole = features(6)
    (p, f), (centre_p, centre_f) = (
        (x[0] for x in features(1, seed=1)),
        (theirs.mean(axis=0), whole.mean(axis=0)),
    )
    found = Reference(torch.tensor(whole), torch.tensor(theirs)).compared(
        *map(torch.tensor, (p[None], f[None]))
    )
    centred = cosine(p - centre_p, f - centre_f)
    assert float(found["centred"]) == pytest.approx(centred, abs=1e-5)
    assert float(found["null"]) == pytest.approx(np.mean([cosine(x, f) for x in theirs]), abs=1e-5)
    fewer = [cosine(x - centre_p, f - centre_f) < centred for x in theirs]
    assert float(found["own"]) == pytest.approx(np.mean(fewer))


def test_an_image_and_its_double_are_no_other_images():
    theirs, whole = features(6)
    reference = Reference(torch.tensor(whole), torch.tensor(theirs))
    rest = Reference(torch.tensor(whole[1:]), torch.tensor(theirs[1:]))
    first = torch.tensor(theirs[:1]), torch.tensor(whole[:1])
    for name, value in reference.compared(*first).items():
        assert float(value) == float(rest.compared(*first)[name])
    alone = Reference(torch.tensor(whole[:2]), torch.tensor(theirs[:2])).compared(*first)
    assert all(torch.isnan(value).all() for value in alone.values())


def test_a_set_is_compared_with_its_other_patients():
    p, f = features(7)
    groups = list("aabbcdd")
    found = among(p, f, groups)
    centre_p, centre_f = p - p.mean(axis=0), f - f.mean(axis=0)
    for i in range(7):
        others = [j for j in range(7) if groups[j] != groups[i]]
        centred = cosine(centre_p[i], centre_f[i])
        assert found["centred"][i] == pytest.approx(centred)
        assert found["null"][i] == pytest.approx(np.mean([cosine(p[j], f[i]) for j in others]))
        assert found["own"][i] == pytest.approx(
            np.mean([cosine(centre_p[j], centre_f[i]) < centred for j in others])
        )
    # The mean of all others lies in the same direction from an image as the mean of all.
    rest = [cosine(p[i] - np.delete(p, i, 0).mean(0), f[i] - np.delete(f, i, 0).mean(0)) for i in range(7)]
    np.testing.assert_allclose(found["centred"], rest)
    assert np.isnan(among(p[:2], f[:2])["centred"]).all()
    assert np.isnan(among(p, f, ["a"] * 7)["null"]).all()


def test_without_preprocessing_and_images_there_is_none(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    assert refer(backbone) is None
    found = refer(backbone, images)
    torch.testing.assert_close(found.full, backbone.embed(images))
    assert found.patches.shape == found.full.shape
