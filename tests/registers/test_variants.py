"""The variant that equals the authors' released code, written again here from its description."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

import ttr
from tests.tools.edited_by_hand import feature_edited_by_hand
from tests.tools.tiny_models import scramble, tiny_clip, tiny_vit
from ttr.errors import OptionError
from ttr.forward.record import record

NEURONS = ttr.RegisterNeurons.from_pairs([(0, 3), (0, 40), (1, 5), (2, 9)])


def released(backbone, image, registers):
    """Return the feature of ONE image [3, H, W]: registers at the END, maxima over the sequence, CLS left."""

    def moved(hidden, listed):
        hidden = hidden.clone().numpy()
        for neuron in listed:
            column = hidden[0, :, neuron].copy()
            hidden[0, 1 : len(column) - registers, neuron] = 0
            hidden[0, len(column) - registers :, neuron] = np.max(column)
        return torch.from_numpy(hidden)

    edits = {layer: partial(moved, listed=listed) for layer, listed in NEURONS.by_layer().items()}
    return feature_edited_by_hand(backbone, image, registers, edits)


@pytest.mark.parametrize("make", [tiny_vit, tiny_clip])
@pytest.mark.parametrize("registers", [0, 1, 3])
def test_it_gives_the_features_of_the_released_code(make, registers, images):
    """In a batch of which every item is edited; the code edits the first alone, and nothing without one."""
    backbone = ttr.adapt(scramble(make()))
    expected = torch.stack([released(backbone, image, registers) for image in images])
    with ttr.TestTimeRegisters(backbone, NEURONS, num_registers=registers, variant="released-code") as wrap:
        torch.testing.assert_close(backbone.embed(images), expected, rtol=1e-4, atol=1e-4)
        with torch.inference_mode():
            torch.testing.assert_close(backbone.embed(images), expected, rtol=1e-4, atol=1e-4)
    assert wrap.variant == "released-code"
    with ttr.TestTimeRegisters(backbone, NEURONS, num_registers=registers):
        assert not torch.allclose(backbone.embed(images), expected, rtol=1e-4, atol=1e-4)


def test_trained_registers_are_zeroed_and_cls_alone_keeps_its_own(images):
    backbone = ttr.adapt(scramble(tiny_vit(reg_tokens=2)))
    seen = []
    for options in ({"variant": "released-code"}, {"others": "keep"}):
        kept = {}
        with ttr.TestTimeRegisters(backbone, NEURONS, **options):
            record(backbone, images, neurons=kept.__setitem__)
        seen.append(kept[0][:, :, [3, 40]])
    after, before = seen
    assert torch.equal(after[:, 0], before[:, 0])
    assert (after[:, 3] >= before[:, [0, 1, 2, *range(4, 20)]].amax(1)).all()
    assert not after[:, [1, 2, *range(4, 20)]].any()


@pytest.mark.slow
def test_it_is_exported_and_traced_as_it_runs(images):
    backbone = ttr.adapt(scramble(tiny_vit()).eval())
    with ttr.TestTimeRegisters(backbone, NEURONS, variant="released-code"), torch.no_grad():
        expected = backbone.model(images)
        program = torch.export.export(backbone.model, (images,))
        torch.testing.assert_close(program.module()(images), expected)


def test_what_is_named_goes_ahead_of_the_variant(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    features = []
    for options in ({}, {"variant": "released-code", "register_value": "neuron", "scope": "all"}):
        with ttr.TestTimeRegisters(backbone, NEURONS, **options):
            features.append(backbone.embed(images))
    assert torch.equal(*features)
    with pytest.raises(OptionError, match="variant='code'; needed one of 'algorithm', 'released-code'"):
        ttr.TestTimeRegisters(backbone, NEURONS, variant="code")
