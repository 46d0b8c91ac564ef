"""Whoever runs the blocks, and however: the registers were in this very pass, or the call is refused."""

from __future__ import annotations

import copy
import threading
from functools import partial

import pytest
import torch
from timm.models import checkpoint_seq
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.feature_extraction import create_feature_extractor

import ttr
from tests.tools.tiny_models import scramble, tiny_eva, tiny_vit
from ttr.errors import ModelError
from ttr.hooks import Site, edit
from ttr.registers.move import MoveNeurons
from ttr.registers.passage import _RUNNING

SOME = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 5), (1, 9), (2, 20)])
COUNT = 2


def begin(model, x):
    """Return what a forward of one's own gives to the first block: position embeddings, and no norm_pre."""
    x = model.patch_embed(x)
    return torch.cat((model.cls_token.expand(len(x), -1, -1), x), dim=1) + model.pos_embed


def loop(model, x, order=range(3)):
    x = begin(model, x)
    for index in order:
        x = model.blocks[index](x)
    return x


def intermediates(model, x, norm=lambda x: x):
    """DINO's get_intermediate_layers."""
    x, found = begin(model, x), []
    for block in model.blocks:
        x = block(x)
        found.append(norm(x))
    return torch.stack(found)


def chunks(model, x):
    """DINOv2's blocks for FSDP: lists of blocks in a list."""
    x = begin(model, x)
    for chunk in nn.ModuleList([nn.Sequential(*model.blocks[:2]), nn.ModuleList([model.blocks[2]])]):
        for block in chunk:
            x = block(x)
    return model.norm(x)


def twice(model, x):
    x = begin(model, x)
    for _ in range(2):
        x = model.blocks(x)
    return x


def parallel(model, x):
    """Two branches from one block on, the one not disturbed by the other."""
    x = model.blocks[0](begin(model, x))
    return torch.cat([model.blocks[1](x), model.blocks[2](model.blocks[2](x))])


def each_checkpointed(model, x):
    x = begin(model, x)
    for block in model.blocks:
        x = checkpoint(block, x, use_reentrant=False)
    return x


def by_keyword(model, x):
    x = begin(model, x)
    for block in model.blocks:
        x = block(x=x)
    return x


def two_passes_interleaved(model, x):
    first, second = begin(model, x), begin(model, x.flip(0))
    for block in model.blocks:
        first, second = block(first), block(second)
    return torch.cat([first, second])


def broken_off_before(model, x):
    """A pass that stops in the middle of a block leaves nothing to the next one."""

    def fail(*_):
        raise KeyError("stop")

    handle = model.blocks[1].mlp.act.register_forward_hook(fail)
    with pytest.raises(KeyError, match="stop"):
        loop(model, x.flip(0))
    handle.remove()
    return loop(model, x)


def inside_another_pass(model, x):
    """The model is called by a hook in the middle of a block of its own."""
    found = []

    def again(*_):
        handle.remove()
        found.append(loop(model, x.flip(0)))

    handle = model.blocks[1].attn.register_forward_hook(again)
    return torch.cat([loop(model, x), *found])


OWN = {
    "loop": loop,
    "loop and norm": lambda m, x: m.norm(loop(m, x)),
    "whole sequence": lambda m, x: m.blocks(begin(m, x)),
    "timm's own": lambda m, x: m.forward_features(x),
    "intermediates": intermediates,
    "normed intermediates": lambda m, x: intermediates(m, x, m.norm),
    "timm's intermediates": lambda m, x: m.forward_intermediates(x, output_fmt="NLC", norm=False)[1][1],
    "chunks": chunks,
    "checkpoint_seq": lambda m, x: checkpoint_seq(m.blocks, begin(m, x), every=2),
    "each checkpointed": each_checkpointed,
    "by keyword": by_keyword,
    "early exit": partial(loop, order=[0, 1]),
    "early exit and norm": lambda m, x: m.norm(loop(m, x, [0])),
    "subset": partial(loop, order=[0, 2]),
    "out of order": partial(loop, order=[0, 2, 1]),
    "one block twice": partial(loop, order=[0, 1, 1, 2]),
    "twice": twice,
    "parallel": parallel,
    "interleaved": two_passes_interleaved,
    "copy": lambda m, x: copy.deepcopy(m).blocks(begin(m, x)),
    "inference": torch.inference_mode()(loop),
    "half a batch at a time": lambda m, x: torch.cat([loop(m, x[:2]), loop(m, x[2:])]),
    "broken off before": broken_off_before,
    "inside another pass": inside_another_pass,
}


def in_sequence(model, run, x):
    """The independent reference: the registers stand in the sequence from the first block to the end."""
    layout = ttr.adapt(model).layout.with_test_time(COUNT)
    bare = layout.length - COUNT
    given = (layout, "neuron", "zero", "all", (1.0,) * COUNT)
    edits = [
        (Site(model.blocks[layer].mlp.fc2, "input"), MoveNeurons(torch.tensor(indices), *given))
        for layer, indices in SOME.by_layer().items()
    ]

    def insert(t):
        return layout.insert_test_time(t) if t.shape[1] == bare else t

    with edit([(Site(model.blocks[0], "input"), insert), *edits]):
        found = run(model, x)
    patches = model.num_prefix_tokens
    if found.shape[-2] == layout.patches + COUNT:  # timm cut CLS off
        return found[..., COUNT:, :]
    return torch.cat([found[..., :patches, :], found[..., patches + COUNT :, :]], dim=-2)


@pytest.mark.parametrize("name", OWN)
def test_forwards_of_ones_own_have_the_registers_and_the_bare_models_shapes(name, images):
    model, run = scramble(tiny_vit()), OWN[name]
    with torch.set_grad_enabled("checkpoint" in name):
        bare, expected = run(model, images), in_sequence(model, run, images)
        with ttr.TestTimeRegisters(model, SOME, num_registers=COUNT):
            found = run(model, images)
            again = run(model, images)
    assert found.shape == bare.shape
    assert torch.equal(found, expected)
    assert torch.equal(again, found)
    assert not torch.allclose(found, bare, atol=1e-3)
    assert _RUNNING.calls == []


class RETFound(VisionTransformer):
    """The shape of RETFound's and MAE's models: no norm_pre, and without ``norm`` where they pool."""

    def __init__(self, pools: bool) -> None:
        super().__init__(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=5)
        self.pools = pools
        if pools:
            self.fc_norm = nn.LayerNorm(24)
            del self.norm

    def forward_features(self, x, attn_mask=None):
        x = loop(self, x)
        return self.fc_norm(x[:, 1:].mean(dim=1)) if self.pools else self.norm(x)[:, 0]

    def forward(self, x):
        return self.head(self.forward_features(x))


@pytest.mark.parametrize("pools", [True, False])
def test_no_register_reaches_what_a_forward_pools(pools, images):
    model = scramble(RETFound(pools))
    tokens = in_sequence(model, loop, images)
    pooled = model.fc_norm(tokens[:, 1:].mean(dim=1)) if pools else model.norm(tokens)[:, 0]
    with torch.no_grad(), ttr.TestTimeRegisters(model, SOME, num_registers=COUNT):
        assert torch.equal(model(images), model.head(pooled))


def test_gradients_through_checkpoints_are_those_without(images):
    model = scramble(tiny_vit())
    gradients = []
    with ttr.TestTimeRegisters(model, SOME, num_registers=COUNT):
        for run in (loop, each_checkpointed):
            model.zero_grad()
            run(model, images).square().sum().backward()
            gradients.append(model.patch_embed.proj.weight.grad)
    torch.testing.assert_close(*gradients)


def test_a_checkpoint_inside_a_block_is_done_again_in_the_backward_pass(images):
    """transformers lays its checkpoints inside the call of a block, around its forward alone."""
    model = scramble(tiny_vit())
    gradients = []
    with ttr.TestTimeRegisters(model, SOME, num_registers=COUNT):
        for inside in (False, True):
            model.zero_grad()
            for block in model.blocks if inside else ():
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
            model(images).square().sum().backward()
            gradients.append(model.patch_embed.proj.weight.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per")
def test_a_model_that_is_quantised_while_it_is_wrapped_stays_wrapped(images):
    """torch moves the hooks along to the modules that it puts in."""
    model = scramble(tiny_vit())
    quantise = partial(torch.ao.quantization.quantize_dynamic, qconfig_spec={nn.Linear}, dtype=torch.qint8)
    with torch.no_grad(), ttr.TestTimeRegisters(model, SOME, num_registers=COUNT):
        found = quantise(model)(images)
        with ttr.TestTimeRegisters(
            quantise(ttr.unwrap(copy.deepcopy(model))), SOME, num_registers=COUNT
        ) as wrap:
            assert torch.equal(wrap.model(images), found)


def test_threads_run_blocks_by_hand_at_the_same_time(images):
    model = scramble(tiny_vit())
    with torch.no_grad(), ttr.TestTimeRegisters(model, SOME, num_registers=COUNT):
        expected = [loop(model, images), loop(model, images[:3])]
        found = {}

        def work(which, given):
            with torch.no_grad():
                found[which] = [loop(model, given) for _ in range(5)]

        threads = [
            threading.Thread(target=work, args=(i, given)) for i, given in enumerate((images, images[:3]))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(torch.equal(each, expected[which]) for which, runs in found.items() for each in runs)


def a_replica(module):
    """What DataParallel makes of a module on another device, here on the same one."""
    made = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        setattr(made, name, a_replica(child))
    for name, parameter in module._parameters.items():
        setattr(made, name, parameter)
    return made


@pytest.mark.parametrize("make", [partial(tiny_vit, pre_norm=True), partial(tiny_eva, num_reg_tokens=2)])
def test_a_replica_is_wrapped_as_its_model_is(make, images):
    model = scramble(make())
    with torch.no_grad(), ttr.TestTimeRegisters(model, SOME, num_registers=COUNT):
        assert torch.equal(a_replica(model)(images), model(images))


def test_a_register_begins_as_what_the_pre_norm_makes_of_zeros_where_the_forward_skips_it_too(images):
    model, seen = scramble(tiny_vit(pre_norm=True)), []
    with torch.no_grad(), ttr.TestTimeRegisters(model, SOME, num_registers=COUNT):
        model.blocks[0].register_forward_pre_hook(lambda m, args: seen.append(args[0][:, 1 : 1 + COUNT]))
        loop(model, images)
        model(images)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], model.norm_pre.bias.expand(5, COUNT, -1))


class Changed:
    """Runs the blocks and does something to the tokens between two of them."""

    def __init__(self, change):
        self.change = change

    def __call__(self, model, x):
        return model.blocks[2](self.change(model.blocks[1](model.blocks[0](begin(model, x)))))


def backward_through_a_reentrant_checkpoint(model, x):
    def last(t):
        return model.blocks[2](t)

    checkpoint(last, loop(model, x, [0, 1]), use_reentrant=True).sum().backward()


def drop_in(model, x):
    """LoRA, quantisation and pruning put another module where the wrap's hook was."""
    model.blocks[1].mlp.fc2 = nn.Linear(96, 24)
    return model(x)


def wrapped_up(model, x):
    """As peft does: the module of before is in the new one, and its hook still runs."""

    class Beside(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.more = base, nn.Linear(96, 24)

        def forward(self, x):
            return self.base(x) + self.more(x)

    model.blocks[1].mlp.fc2 = Beside(model.blocks[1].mlp.fc2)
    return model(x)


def mlp_alone(model, x):
    """As long as a sequence with registers, and none in it."""
    return model.blocks[1].mlp(torch.zeros(2, 19, 24))


def dropping(model, x):
    """A block that drops tokens behind its MLP: the shape would be the bare model's again."""

    class Dropping(type(model.blocks[1])):
        def forward(self, x, **others):
            x = super().forward(x, **others)
            return torch.cat([x[:, :1], x[:, 3:]], dim=1)

    kind = type(model.blocks[1])
    model.blocks[1].__class__ = Dropping
    try:
        return model(x)
    finally:
        model.blocks[1].__class__ = kind


def around_the_module(model, x):
    mlp = model.blocks[1].mlp

    def forward(x):
        return nn.functional.linear(mlp.act(mlp.fc1(x)), mlp.fc2.weight, mlp.fc2.bias)

    mlp.forward = forward
    try:
        return model(x)
    finally:
        del mlp.forward


def several_reentrant(model, x):
    t = begin(model, x)
    t = checkpoint(nn.Sequential(*model.blocks[:2]), t, use_reentrant=True)
    return model.blocks[2](t)


REFUSED = {
    "one block": (
        lambda m, x: m.blocks[1](begin(m, x)),
        "block 1 of VisionTransformer was given tokens without",
    ),
    "later blocks": (partial(loop, order=[1, 2]), "run the blocks from block 0 on"),
    "tokens scaled": (Changed(lambda t: 2 * t), "block 2 of VisionTransformer was given tokens without"),
    "tokens that a block drops": (dropping, "block 1 of .* was given 19 tokens and returned 17"),
    "weights without their module": (around_the_module, "was run without a call of its mlp.fc2"),
    "reentrant, of several blocks": (several_reentrant, "with use_reentrant=False"),
    "tokens merged": (Changed(lambda t: t[:, :-4]), "the very tensor that the one before returned"),
    "half of a batch": (Changed(lambda t: t[:2]), "given tokens without the test-time registers"),
    "cloned tokens": (Changed(torch.clone), "given tokens without the test-time registers"),
    "reentrant checkpoint": (backward_through_a_reentrant_checkpoint, "given tokens without"),
    "mask": (
        lambda m, x: m.forward_features(x, attn_mask=torch.zeros(17, 17)),
        "was given an attention mask",
    ),
    "causal": (lambda m, x: m.forward_features(x, is_causal=True), "call without one, or wrap with num_reg"),
    "mlp": (
        mlp_alone,
        "the neurons of block 1 of VisionTransformer were reached outside of a call of that block",
    ),
    "extractor": (lambda m, x: create_feature_extractor(m, ["norm"]), "was traced by torch.fx"),
    "script": (lambda m, x: torch.jit.script(m), "torch.jit.script was given a wrapped model"),
    "replaced": (drop_in, "mlp.fc2 of block 1 of VisionTransformer was replaced while a wrap stands in it"),
    "wrapped up": (
        wrapped_up,
        "mlp.fc2 of block 1 of VisionTransformer was replaced while a wrap stands in it",
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_where_no_register_can_be_the_call_is_refused_and_the_next_is_right(name, images):
    model, (run, complaint) = scramble(tiny_vit()), REFUSED[name]
    with ttr.TestTimeRegisters(model, SOME, num_registers=COUNT):
        expected = model(images)
        with pytest.raises(ModelError, match=complaint) as refusal:
            run(model, images)
        assert "\n" not in str(refusal.value)
        assert _RUNNING.calls == []
        if name not in {"replaced", "wrapped up"}:
            assert torch.equal(model(images), expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_is_changed_in_place_between_blocks_is_changed(mode, images):
    """The tokens are the caller's own, and the registers beside them are not."""

    def own(model, x):
        t = begin(model, x)
        for index, block in enumerate(model.blocks):
            t = block(t)
            if index == 1:
                t[:, :1].mul_(2)
                t[:, 1 + (t.shape[1] - 17) :].mul_(2)
        return t

    model = scramble(tiny_vit())
    with mode(), ttr.TestTimeRegisters(model, SOME, num_registers=COUNT):
        found = own(model, images)
    assert torch.equal(found, in_sequence(model, own, images))


def test_registers_of_another_wrap_are_none_of_ours(images):
    """One tower's tokens go on in another tower, with registers of its own."""
    first, second = scramble(tiny_vit()), scramble(tiny_vit(), seed=1)
    with torch.no_grad():
        with ttr.TestTimeRegisters(first, SOME, num_registers=1):
            kept = first.blocks[0](begin(first, images))
            with ttr.TestTimeRegisters(second, SOME, num_registers=1):
                found = second.blocks[0](kept)
                with pytest.raises(ModelError, match="given tokens without the test-time registers"):
                    second.blocks[1](kept)
        with ttr.TestTimeRegisters(second, SOME, num_registers=1):
            assert torch.equal(found, second.blocks[0](kept.clone()))


def test_hooks_that_quantisation_moved_in_place_go_out_with_the_wrap(images):
    model = scramble(tiny_vit())
    for registers in (0, 1):
        fresh = copy.deepcopy(model)
        wrap = ttr.TestTimeRegisters(fresh, SOME, num_registers=registers).install()
        torch.ao.quantization.quantize_dynamic(fresh, {nn.Linear}, dtype=torch.qint8, inplace=True)
        wrap.remove()
        bare = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
        with torch.no_grad():
            assert torch.equal(fresh(images), bare(images))


@pytest.mark.parametrize("neurons", [SOME, ttr.RegisterNeurons.from_pairs([])])
def test_a_graph_that_was_traced_before_is_refused_at_its_first_block(neurons, images):
    """It runs the modules inside of the blocks, and never a block."""
    model = scramble(tiny_vit())
    extractor = create_feature_extractor(model, ["blocks.0", "norm"]).eval()
    bare = extractor(images)
    with (
        ttr.TestTimeRegisters(model, neurons, num_registers=COUNT),
        pytest.raises(ModelError, match="block 0 .* or a graph that torch.fx traced, passes the wrap by"),
    ):
        extractor(images)
    assert torch.equal(extractor(images)["norm"], bare["norm"])


def test_without_registers_neurons_are_zeroed_on_every_way(images):
    """There is nothing to insert then, so a graph, a block and an MLP alone are right as they are."""
    model = scramble(tiny_vit())
    extractor = create_feature_extractor(model, ["norm"]).eval()
    with torch.no_grad(), ttr.TestTimeRegisters(model, SOME, num_registers=0):
        expected = model.forward_features(images)
        assert torch.equal(extractor(images)["norm"], expected)
        assert torch.equal(model.norm(loop(model, images)), expected)
        masked = model.forward_features(images, attn_mask=torch.zeros(17, 17))
    torch.testing.assert_close(masked, expected)


def test_a_hook_that_stands_before_the_wrap_may_change_tokens_between_blocks(images):
    model = scramble(tiny_vit())
    model.blocks[1].register_forward_hook(lambda m, args, out: 2 * out)
    with torch.no_grad():
        expected = in_sequence(model, loop, images)
        with ttr.TestTimeRegisters(model, SOME, num_registers=COUNT):
            assert torch.equal(loop(model, images), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_wrapped_model_that_was_traced_by_torch_jit_keeps_the_registers(images):
    model = scramble(tiny_vit())
    with torch.no_grad(), ttr.TestTimeRegisters(model, SOME, num_registers=COUNT):
        traced = torch.jit.trace(model, images)
        torch.testing.assert_close(traced(images[:2]), model(images[:2]))
