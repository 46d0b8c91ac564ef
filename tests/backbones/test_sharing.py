"""What a copy that shares the weights takes along, and what it refuses to."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.backbones.sharing import copy_around_weights
from ttr.errors import ModelError


class Counter:
    """Counts how often its hook runs; a lock keeps it from being copied, as a connection would."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.lock = threading.Lock()

    def see(self, *_: object) -> None:
        self.calls.append("method")

    def __call__(self, *_: object) -> None:
        self.calls.append("object")


def note(counter: Counter, *_: object) -> None:
    counter.calls.append("partial")


def test_hooks_of_others_run_once_in_either_model_and_belong_to_the_same_object(images):
    model, counter = scramble(tiny_vit()), Counter()
    model.blocks[0].register_forward_hook(counter.see)
    model.blocks[1].register_forward_pre_hook(counter)
    model.blocks[2].register_forward_hook(partial(note, counter))
    copied = copy_around_weights(model, model)
    for each in (model, copied):
        counter.calls.clear()
        each(images)
        assert counter.calls == ["method", "object", "partial"]


def test_a_hook_of_a_module_in_the_model_goes_along_to_the_copys_own(images):
    model = scramble(tiny_vit())
    model.blocks[1].seen = []
    block = type(model.blocks[1])
    model.blocks[0].register_forward_hook(partial(_tell, model.blocks[1]))
    copied = copy_around_weights(model, model)
    copied(images)
    assert (len(model.blocks[1].seen), len(copied.blocks[1].seen)) == (0, 1)
    assert type(copied.blocks[1]) is block


def _tell(listener, module, args, output) -> None:
    listener.seen.append(output.shape)


def test_methods_and_references_to_the_model_lead_to_the_copy(images):
    model = scramble(tiny_vit())
    vars(model)["myself"] = model
    model.shortcut = model.forward_features
    model.frozen_table = torch.arange(3.0)
    copied = copy_around_weights(model, model)
    assert copied.myself is copied
    assert copied.shortcut.__self__ is copied
    assert copied.frozen_table is model.frozen_table
    with torch.no_grad():
        copied.norm = torch.nn.Identity()
        assert not torch.equal(copied.shortcut(images), model.shortcut(images))


def test_a_function_that_holds_modules_is_refused_by_name():
    model = scramble(tiny_vit())
    mlp = model.blocks[1].mlp
    mlp.forward = lambda x: mlp.fc2(mlp.act(mlp.fc1(x)))
    with pytest.raises(
        ModelError, match=r"blocks\.1\.mlp\.forward of VisionTransformer is a function that holds"
    ):
        ttr.TestTimeRegisters(model, ttr.RegisterNeurons.from_pairs([(1, 3)])).copy()


def test_what_cannot_be_copied_is_refused_by_name():
    model = scramble(tiny_vit())
    model.lock = threading.Lock()
    with pytest.raises(ModelError, match=r"VisionTransformer cannot be copied \(TypeError: .*lock"):
        copy_around_weights(model, model)
