"""The sums of a detection against a loop over images and outliers that is written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.hooks import keep
from ttr.registers import detection, evidence
from ttr.registers.evidence import Evidence
from ttr.registers.seen import see

#: How far a sum may be off: an activation that is computed again is rounded again.
ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
AT = 1
NAMES = ("scores", "at_outliers", "elsewhere")


def pictures(double: bool = False) -> torch.Tensor:
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    if double:
        images[4] = images[1] * 1.001 + 0.01
    return images


def passing(backbone, images):
    """Return norms [L, B, N] and activations [L, B, N, hidden] in float64."""
    with torch.no_grad(), keep(backbone.sites.blocks) as tokens, keep(backbone.sites.neurons) as active:
        backbone.features(images.to(backbone.dtype))
    return (
        np.stack([np.linalg.norm(x.double().numpy(), axis=-1) for x in tokens]),
        np.stack([x.double().numpy() for x in active]),
    )


def between(norms, share):
    """Return a threshold that no rounding crosses: in the middle of the widest gap near a quantile."""
    ordered = np.sort(norms.ravel())
    places = np.arange(int(share * len(ordered)) - 3, int(share * len(ordered)) + 3)
    widest = places[np.argmax(ordered[places + 1] - ordered[places])]
    return float(ordered[widest] + ordered[widest + 1]) / 2


def naive(norms, active, prefix, threshold, *, sparsity, include_cls, doubles=()):
    """Return the sums of two halves, {name: [L, hidden]}, one image after the other."""
    layers, _, tokens, hidden = active.shape
    halves = [{name: np.zeros((layers, hidden)) for name in NAMES} for _ in range(2)]
    seen = 0
    for item in range(norms.shape[1]):
        candidates = [t for t in range(tokens) if t >= prefix or (t == 0 and include_cls)]
        found = [t for t in candidates if norms[AT, item, t] > threshold]
        if not found or item in doubles:
            continue
        others = [t for t in range(prefix, tokens) if t not in found]
        for layer in range(layers):
            a = active[layer, item]
            mean = np.abs(a[found]).mean(axis=0)
            quiet = (a < 0.5).sum(axis=0) >= tokens / 2
            half = halves[seen % 2]
            half["scores"][layer] += mean * quiet if sparsity else mean
            half["at_outliers"][layer] += mean
            half["elsewhere"][layer] += np.abs(a[others]).sum(axis=0) / max(len(others), 1)
        seen += 1
    return halves, seen


@pytest.mark.parametrize("kind", ROUNDING)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize(("share", "sparsity"), [(0.95, True), (0.4, False)])
def test_both_halves_equal_a_loop_over_images(monkeypatch, kind, batch, registers, share, sparsity):
    """Some images have no outliers, one is another's double, CLS counts; what waits is computed in turns."""
    monkeypatch.setattr(evidence, "IMAGES_AT_ONCE", 3)
    backbone = ttr.adapt(scramble(tiny_vit(reg_tokens=registers, no_embed_class=True)).to(kind))
    images, prefix = pictures(double=True), 1 + registers
    parts = [passing(backbone, part) for part in images.split(batch)]
    norms, active = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    rule = {"sparsity": sparsity, "include_cls": registers == 0}
    threshold = between(norms[AT][:, prefix:], share)
    expected, count = naive(norms, active, prefix, threshold, **rule, doubles={4})
    found = Evidence(backbone)
    for part in images.split(batch):
        found.add(see(backbone, part, AT, threshold, **rule))
    found.settle()
    assert found.images == 6
    assert found.with_outliers == count
    assert count < 6
    for half, numbers in zip(found.halves, expected, strict=True):
        for name, values in numbers.items():
            tolerance = ROUNDING[kind] * values.max()
            np.testing.assert_allclose(getattr(half, name).numpy(), values, rtol=0, atol=tolerance)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_what_is_heard_late_is_heard_whole(monkeypatch, ahead):
    backbone, images = ttr.adapt(scramble(tiny_vit())), pictures()
    options = {"threshold": between(passing(backbone, images)[0][AT][:, 1:], 0.8), "top_k": 5}
    expected = ttr.detect(backbone, images, batch_size=2, outlier_layer=AT, **options)
    monkeypatch.setitem(detection.AHEAD, "cpu", ahead)
    assert ttr.detect(backbone, images, batch_size=2, outlier_layer=AT, **options) == expected
    broken = images.clone()
    broken[-1, 0, 0, 0] = torch.nan
    with pytest.raises(ttr.errors.ImageError, match="NaN or infinite"):
        ttr.detect(backbone, broken, batch_size=2, **options)
