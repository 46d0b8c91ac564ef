"""Random halves of the evidence: what they must say of parts that agree, and of parts that do not."""

from __future__ import annotations

import pytest
import torch

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.errors import OptionError
from ttr.registers.evidence import Sums
from ttr.registers.split_halves import split_halves


def parts(scores):
    """Return sums of one image each, of scores [parts, blocks, neurons]."""
    return [Sums(x, x, x, x.new_zeros(len(x)), images=1) for x in torch.as_tensor(scores).double()]


def test_parts_that_agree_and_parts_that_do_not():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(16, 2, 100, generator=generator)
    head = noise.clone()
    head[:, 0, :5] += 100
    alike = split_halves(parts(noise[:1].expand(16, -1, -1)), 1, kept=7, splits=20)
    assert [each.top for each in alike] == [5, 7, 10, 20, 50]
    assert {(each.overlap, each.low, each.high) for each in alike} == {(1, 1, 1)}
    five, *_, fifty = split_halves(parts(head), 0, kept=0, splits=100)
    assert (five.overlap, five.chance, five.splits) == (1, 0.05, 100)
    assert fifty.low <= fifty.overlap <= fifty.high < 1
    assert fifty.overlap == pytest.approx((5 + 45 * 45 / 95) / 50, abs=0.05)
    chance = split_halves(parts(noise), 1, kept=0, splits=400)[-1]
    assert chance.overlap == pytest.approx(chance.chance, abs=0.05)


def test_one_image_with_outliers_has_no_halves():
    empty = Sums(*(torch.zeros(2, 100) for _ in range(3)), torch.zeros(2))
    assert split_halves([*parts(torch.rand(1, 2, 100)), empty], 1, kept=3, splits=5) == ()


def test_a_detection_with_halves_finds_what_it_finds_without(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    rule = {"threshold": 1e-3, "outlier_layer": 1, "top_k": 3}
    bare, split = (ttr.detect(backbone, images, **rule, halves=n, batch_size=2) for n in (0, 30))
    again = ttr.detect(backbone, images, **rule, halves=30, batch_size=5)
    assert bare.provenance.split_halves is None
    assert split.pairs == bare.pairs == again.pairs
    assert split.provenance.stability == bare.provenance.stability
    assert [each.top for each in split.provenance.split_halves] == [3, 5, 10, 20, 50]
    for one, other in zip(split.provenance.split_halves, again.provenance.split_halves, strict=True):
        assert one.overlap == pytest.approx(other.overlap, abs=0.1)
    with pytest.raises(OptionError, match="halves=-1"):
        ttr.detect(backbone, images, halves=-1)
