"""Where the edit writes into the tensor that it was given, and where it must not."""

from __future__ import annotations

import copy
import pickle
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.hooks import Site, capture, keep
from ttr.registers.move import MoveNeurons
from ttr.tokens import TokenLayout

SOME = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 5), (1, 9)])


@pytest.fixture
def written(monkeypatch):
    """Whether each edit wrote into what it was given, in the order in which they ran."""
    seen: list[bool] = []
    own = MoveNeurons.__call__

    def watched(self, x):
        result = own(self, x)
        seen.append(result is x)
        return result

    monkeypatch.setattr(MoveNeurons, "__call__", watched)
    return seen


@pytest.fixture
def vit():
    return scramble(tiny_vit()).eval()


@contextmanager
def wrapped(model, registers=2):
    with ttr.TestTimeRegisters(model, SOME, num_registers=registers) as wrap:
        yield wrap


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_writes_in_place_where_nobody_can_tell(vit, images, written, registers, mode):
    with wrapped(vit, registers):
        with mode():
            found = vit(images)
        assert written == [True, True]
        expected = vit(images)
        assert written[2:] == [False, False], "a gradient is wanted"
    assert torch.equal(found, expected)


def test_frozen_weights_need_no_copy_in_training_of_a_head(vit, images, written):
    vit.requires_grad_(False)
    head = nn.Linear(24, 2)
    with wrapped(vit):
        head(vit(images)).sum().backward()
    assert head.weight.grad.abs().sum() > 0
    assert written == [True, True]


@pytest.mark.parametrize("place", ["mlp.act", "mlp.drop1", "mlp.fc1", "mlp.norm"])
def test_what_a_hook_was_shown_before_stays_as_it_was(vit, images, written, place):
    """Of the second edited block, too: its activations are those of a model that was edited before."""
    module, shown, copies = vit.blocks[1].get_submodule(place), [], []

    def look(_, args, output):
        shown.append(output)
        copies.append(output.clone())

    with torch.no_grad(), wrapped(vit):
        expected = vit(images)
        module.register_forward_hook(look)
        assert torch.equal(vit(images), expected)
    assert torch.equal(shown[0], copies[0])
    assert written[2:] == [True, False]


@torch.no_grad()
def test_two_observers_see_the_tensor_before_and_behind_the_edit(vit, images, written):
    site = Site(vit.blocks[1].mlp.fc2, "input")
    with keep([site]) as before, wrapped(vit, 0), keep([site]) as behind:
        vit(images)
        assert written == [True, False]
        listed = SOME.by_layer()[1]
        assert before[0][:, :, listed].any(dim=1).all()
        assert not behind[0][:, :, listed].any()


@torch.no_grad()
def test_a_hook_on_every_module_is_a_hook_inside(vit, images, written):
    shown = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, out: shown.append(module))
    try:
        with wrapped(vit):
            vit(images)
    finally:
        handle.remove()
    assert vit.blocks[1].mlp.act in shown
    assert written == [False, False]


class Keeps(nn.Module):
    """An MLP that its owner wrote, to look at the activations afterwards."""

    def __init__(self, mlp):
        super().__init__()
        self.fc1, self.act, self.fc2 = mlp.fc1, mlp.act, mlp.fc2

    def forward(self, x):
        self.kept = self.act(self.fc1(x))
        return self.fc2(self.kept)


@torch.no_grad()
def test_code_of_no_library_may_hold_what_it_made(vit, images, written):
    vit.blocks[1].mlp = Keeps(vit.blocks[1].mlp)
    with wrapped(vit, 0):
        vit(images)
    assert vit.blocks[1].mlp.kept[:, :, SOME.by_layer()[1]].any()
    assert written == [True, False]


@torch.no_grad()
def test_a_forward_that_was_put_in_is_code_of_no_library(vit, images, written):
    act = vit.blocks[1].mlp.act
    act.forward = type(act).forward.__get__(act)
    with wrapped(vit):
        vit(images)
    assert written == [True, False]


@torch.no_grad()
@pytest.mark.parametrize("act", [nn.Identity(), nn.ReLU(inplace=True), nn.ReLU()])
def test_activations_that_are_the_up_projections_own_output_may_be_written(vit, images, written, act):
    for block in vit.blocks:
        block.mlp.act = act
    given, copies = [], []

    def look(index, x, kwargs):
        given.append(x)
        copies.append(x.clone())

    with wrapped(vit), capture([Site(block.mlp, "input") for block in vit.blocks], look):
        found = vit(images)
        assert written == [True, True]
        torch.testing.assert_close(found, torch.enable_grad()(vit)(images).detach())
    assert all(torch.equal(x, was) for x, was in zip(given, copies, strict=True))


def test_directional_derivatives_and_batched_calls_pass_the_edit(vit, images, written):
    vit.requires_grad_(False)
    for block in vit.blocks:
        block.attn.fused_attn = False  # which knows no such derivative
    tangent = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    asked = images.clone().requires_grad_()
    with wrapped(vit):
        (vit(asked)[:, 0].sum()).backward()
        expected = (asked.grad * tangent).sum()
        value, slope = torch.func.jvp(vit, (images,), (tangent,))
        with torch.autograd.forward_ad.dual_level():
            dual = vit(torch.autograd.forward_ad.make_dual(images, tangent))
            other = torch.autograd.forward_ad.unpack_dual(dual).tangent
        batched = torch.func.vmap(lambda image: vit(image[None])[0])(images)
    torch.testing.assert_close(slope[:, 0].sum(), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(other, slope, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(batched, value, rtol=1e-4, atol=1e-5)
    assert not any(written)


def test_a_wrap_made_in_inference_mode_can_be_trained_through(images):
    model = scramble(tiny_vit())
    with torch.inference_mode():
        wrap = ttr.TestTimeRegisters(model, SOME, scale=0.5).install()
        model(images)
    model(images).sum().backward()
    assert model.patch_embed.proj.weight.grad.abs().sum() > 0
    wrap.remove()


@torch.no_grad()
def test_activations_of_inference_mode_are_copied_outside_of_it(vit, written):
    edit = next(e for _, e in ttr.TestTimeRegisters(vit, SOME, num_registers=0).edits() if hasattr(e, "mlp"))
    with torch.inference_mode():
        x = torch.ones(1, 17, 96)
    assert not edit(x)[:, :, 3].any()
    assert x.all()


def made_by_a_pass(model, images):
    with torch.profiler.profile() as profile:
        model(images)
    return {event.key for event in profile.key_averages()}


@torch.no_grad()
@pytest.mark.parametrize(("others", "scope"), [("zero", "all"), ("keep", "patches")])
def test_a_pass_asks_the_device_nothing_and_brings_no_constants(vit, images, others, scope):
    """A CUDA graph can hold neither; what a wrap puts on the device is there from the first pass on."""
    bare = made_by_a_pass(vit, images)
    with ttr.TestTimeRegisters(vit, SOME, num_registers=2, scale=[1.0, 0.5], others=others, scope=scope):
        vit(images)
        more = made_by_a_pass(vit, images) - bare
    assert "aten::index_copy_" in more
    assert not more & {"aten::item", "aten::_local_scalar_dense", "aten::lift_fresh", "aten::_to_copy"}
    assert not more & {"aten::nonzero", "aten::masked_select", "aten::is_nonzero", "aten::detach"}


@torch.no_grad()
def test_constants_go_where_the_activations_are_once_for_each_device():
    layout = TokenLayout(1, 0, 2, (4, 4))
    edit = MoveNeurons(torch.tensor([3, 5]), layout, "neuron", "zero", "all", (1.0, 2.0))
    here, there = torch.ones(1, 19, 96), torch.ones(1, 19, 96, device="meta")
    for x in (here, there):
        assert edit(x).device == x.device
    held = dict(edit._constants)
    assert sorted({device.type for device, _ in held}) == ["cpu", "meta"]
    for x in (here, there):
        edit(x)
    assert all(edit._constants[key] is value for key, value in held.items())
    for copied in (copy.deepcopy(edit), pickle.loads(pickle.dumps(edit))):
        assert copied._constants == {}
        assert torch.equal(copied(here), edit(here))


@torch.no_grad()
def test_a_copy_of_a_wrapped_model_writes_into_its_own_activations(vit, images, written):
    with wrapped(vit):
        expected = vit(images)
        for copied in (copy.deepcopy(vit), pickle.loads(pickle.dumps(vit))):
            written.clear()
            vit.blocks[1].mlp.act.register_forward_hook(lambda *_: None)
            assert torch.equal(copied(images), expected)
            assert written == [True, True], "hooks of the first model are none of its own"
            copied.blocks[1].mlp.act.register_forward_hook(lambda *_: None)
            copied(images)
            assert written[2:] == [True, False]
