"""Weights that accelerate keeps elsewhere: the same answers, or one sentence."""

from __future__ import annotations

import copy

import pytest
import torch

import ttr
from tests.backbones.test_contract import neurons_of
from tests.tools.tiny_models import scramble, tiny_clip, tiny_eva, tiny_vit
from ttr.analysis.faithfulness import record_with_faithfulness
from ttr.analysis.integration import split
from ttr.backbones.offload import held, whole_state
from ttr.errors import ModelError
from ttr.forward.blocks import watch


class Hook:
    """What accelerate puts into a module, as far as we ask it."""

    offload = True
    execution_device = "cpu"

    def __init__(self, module):
        self.kept = dict(module._parameters)
        self.post_forward(module, None)

    def pre_forward(self, module):
        module._parameters.update(self.kept)

    def post_forward(self, module, output):
        for name, value in self.kept.items():
            module._parameters[name] = torch.nn.Parameter(value.to("meta"))


def test_a_weight_that_is_brought_for_the_forward_is_brought_for_us_and_goes_again():
    layer = torch.nn.Linear(3, 2)
    weight, bias = layer.weight, layer.bias
    state = dict(layer.state_dict())
    layer._hf_hook = Hook(layer)
    assert layer.weight.is_meta
    assert held(layer, "weight") is weight
    assert held(layer, "bias") is bias
    assert layer.weight.is_meta
    for name, value in whole_state(torch.nn.Sequential(layer)).items():
        assert torch.equal(value, state[name.removeprefix("0.")])


def everything(backbone, images):
    passed, faithful = record_with_faithfulness(backbone, images)
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone)), watch(backbone, 1) as seen:
        wrapped = backbone.embed(images)
    with watch(backbone, 1) as seen:
        bare = backbone.embed(images)
    return (
        passed.norms,
        torch.tensor([trust.cosine for trust in faithful]),
        wrapped,
        bare,
        split(backbone, backbone.layout, 1, seen[1]).total(),
    )


@pytest.mark.parametrize(
    "make", [lambda: tiny_vit(init_values=0.5, global_pool="avg"), lambda: tiny_eva(qkv_fused=False)]
)
def test_an_offloaded_model_gives_what_it_gave(make, images):
    accelerate = pytest.importorskip("accelerate")
    model = scramble(make())
    expected = everything(ttr.adapt(copy.deepcopy(model)), images)
    weights = ttr.adapt(copy.deepcopy(model)).weights_hash
    accelerate.cpu_offload(model, execution_device="cpu")
    backbone = ttr.adapt(model)
    assert next(model.parameters()).is_meta
    assert (backbone.device.type, backbone.dtype) == ("cpu", torch.float32)
    for found, wanted in zip(everything(backbone, images), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert backbone.weights_hash == weights
    assert ttr.detect(backbone, images, threshold=0.5).provenance.images == len(images)
    assert next(model.parameters()).is_meta


@pytest.mark.parametrize("make", [tiny_clip, lambda: tiny_eva(qkv_bias=True)])
def test_a_module_that_reads_its_parts_weights_is_refused_when_they_are_elsewhere(make):
    accelerate = pytest.importorskip("accelerate")
    model = accelerate.cpu_offload(scramble(make()), execution_device="cpu")
    with pytest.raises(ModelError, match="brings those only when a part runs; load the model whole"):
        ttr.adapt(model)
