"""What was copied while it was wrapped can be made bare, and wrapped again."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

import ttr
from tests.registers.test_wrapping import hooks
from tests.tools.tiny_models import scramble, tiny_clip, tiny_eva, tiny_vit
from ttr.errors import ModelError

SOME = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 5), (1, 9)])


def saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "torch.save": saved_and_loaded,
    "average": lambda model: AveragedModel(model).module,
    "itself": lambda model: model,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize(
    "make",
    [tiny_vit, lambda: tiny_eva(num_reg_tokens=2), lambda: tiny_clip().visual],
    ids=["vit", "eva", "clip"],
)
def test_a_copy_is_made_bare_and_can_be_wrapped_again(make, how, images):
    model = scramble(make())
    attributes = [sorted(vars(module)) for module in model.modules()]
    with torch.no_grad():
        bare = model(images)
        with ttr.TestTimeRegisters(model, SOME, num_registers=2):
            wrapped = model(images)
            copied = COPIES[how](model)
            assert torch.equal(copied(images), wrapped)
            for refused in (
                lambda: ttr.TestTimeRegisters(copied, SOME).install(),
                lambda: ttr.detect(copied, images),
            ):
                with pytest.raises(ModelError, match=r"ttr\.unwrap\(model\)"):
                    refused()
            assert ttr.unwrap(copied) is copied
            assert torch.equal(copied(images), bare)
            assert sum(hooks(copied)) == 0
            assert torch.equal(model(images), bare if how == "itself" else wrapped)
        assert torch.equal(model(images), bare)
        assert [sorted(vars(module)) for module in copied.modules()] == attributes
        with ttr.TestTimeRegisters(copied, SOME, num_registers=2):
            assert torch.equal(copied(images), wrapped)
        assert torch.equal(copied(images), bare)


def test_a_copy_with_an_attention_bias_is_made_bare(images):
    backbone = ttr.adapt(scramble(tiny_clip()))
    bare = backbone.embed(images)
    with ttr.AttentionBias(backbone, SOME, ttr.calibrate_bias(backbone, SOME, images)):
        copied = ttr.unwrap(copy.deepcopy(backbone.model))
    assert torch.equal(ttr.adapt(copied).embed(images), bare)


def test_a_wrap_that_was_dropped_can_still_be_taken_out(images):
    model = scramble(tiny_eva())
    bare = model(images)
    with pytest.warns(ResourceWarning):
        ttr.TestTimeRegisters(model, SOME).install()
    assert torch.equal(ttr.unwrap(model)(images), bare)


def test_a_bare_model_keeps_the_hooks_of_others(images):
    model, seen = scramble(tiny_vit()), []
    model.blocks[1].register_forward_hook(lambda *_: seen.append(1), always_call=True)
    model.blocks[1].mlp.fc2.register_forward_pre_hook(lambda *_: seen.append(2))
    ttr.unwrap(model)(images)
    assert sorted(seen) == [1, 2]


def test_what_is_no_model_is_refused():
    with pytest.raises(ModelError, match=r"got Backbone; needed a model \(of a Backbone its .model\)"):
        ttr.unwrap(ttr.adapt(tiny_vit()))
