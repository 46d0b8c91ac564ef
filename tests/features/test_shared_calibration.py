"""Processes that share a calibration measure what one does: moments to float64 rounding, the same bank."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from tests.tools.turns import in_turns
from ttr.datasets.registry import OpenedImages, in_memory
from ttr.errors import ImageError
from ttr.features import shared_calibration
from ttr.features.prepared import calibrated_tokens
from ttr.forward.calibration import TokenMoments
from ttr.ranks import Rank
from ttr.registers.arms import Arm
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run

#: More images than the bank takes, in four stretches.
COUNT, BATCH = 100, 4
ARM = Arm("ttr", RegisterNeurons.from_pairs([(0, 3), (1, 7)]), 2)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return ttr.adapt(scramble(tiny_vit()), preprocess=to_tensor)


@pytest.fixture(scope="module")
def images() -> OpenedImages:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
    return in_memory({f"{n:03}.png": Image.fromarray(each) for n, each in enumerate(pixels)})


@pytest.fixture
def ended(monkeypatch) -> list[TokenMoments]:
    """The moments of each calibration that ends."""
    seen: list[TokenMoments] = []
    calibration = TokenMoments.calibration
    monkeypatch.setattr(TokenMoments, "calibration", lambda self: seen.append(self) or calibration(self))
    return seen


@pytest.fixture
def measured(monkeypatch) -> list[int]:
    """Before how many images each stretch lies that is measured."""
    seen: list[int] = []
    measure = shared_calibration.measure

    def counted(backbone, images, moments, *rest):
        seen.append(moments.before + moments.images)
        measure(backbone, images, moments, *rest)

    monkeypatch.setattr(shared_calibration, "measure", counted)
    return seen


def assert_same(found: TokenMoments, expected: TokenMoments) -> None:
    for mine, others in ((found.alone, expected.alone), (found.patches, expected.patches)):
        for one, other in zip(mine, others, strict=True):
            assert one.count == other.count
            torch.testing.assert_close(one.mean, other.mean, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(one.squares, other.squares, rtol=1e-12, atol=1e-12)
    assert found.banked == expected.banked
    assert found.kept.keys() == expected.kept.keys()
    assert all(torch.equal(found.kept[place], expected.kept[place]) for place in found.kept)


@pytest.mark.parametrize("order", [(0, 1), (2, 1, 0)])
def test_ranks_in_any_order_measure_what_one_process_measures(
    backbone, images, tmp_path, ended, measured, order, monkeypatch
):
    one, run = (Run(batch_size=BATCH, cache=tmp_path / name) for name in ("one", "shared"))
    calibrated_tokens(backbone, ARM, images, one)
    found = in_turns(
        monkeypatch, lambda rank: calibrated_tokens(backbone, ARM, images, replace(run, rank=rank)), order
    )
    last = found[-1]
    assert {each.value.digest for each in found} == {last.value.digest}
    assert last.value.images == COUNT
    assert last.value.bank.shape == (64, 3, 4, 24), "CLS, two registers, a patch"
    assert_same(*reversed(ended))
    assert sorted(measured) == [0, 32, 64, 96]
    again = calibrated_tokens(backbone, ARM, images, replace(run, rank=Rank(1, 2)))
    assert again.value.digest == last.value.digest
    assert len(measured) == 4


def test_what_comes_behind_a_bad_image_is_drawn_again(
    backbone, images, tmp_path, ended, measured, monkeypatch
):
    """A whole batch of them, so that the batches behind it are those of one process."""
    bad = {f"{n:03}.png" for n in range(32, 32 + BATCH)}

    def opened(name):
        if name in bad:
            raise ImageError(f"{name} is damaged")
        return images.opener(name)

    broken = OpenedImages(images.closed, opened, images.hashed)
    one, run = (Run(batch_size=BATCH, cache=tmp_path / name, on_error="skip") for name in ("one", "shared"))
    expected = calibrated_tokens(backbone, ARM, broken, one)
    found, _ = in_turns(
        monkeypatch, lambda rank: calibrated_tokens(backbone, ARM, broken, replace(run, rank=rank)), (0, 1)
    )
    assert found.skipped.keys() == expected.skipped.keys() == bad
    assert_same(*reversed(ended))
    assert sorted(measured) == [0, 32, 60, 64, 92, 96], "the two stretches behind it, once more"
