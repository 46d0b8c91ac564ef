"""Which patches CLS takes from: lengths against the split, deletion against the model with zeroed weights."""

from __future__ import annotations

import pytest
import torch

import ttr
from tests.tools.tiny_models import scramble, tiny_clip, tiny_eva, tiny_vit
from ttr.analysis.integration import cls_attention, full_output, remade, split
from ttr.analysis.which_patches import agreement, contribution_lengths, deletion
from ttr.forward.blocks import watch
from ttr.forward.record import record

FAMILIES = {
    "vit": lambda: tiny_vit(init_values=0.5, reg_tokens=2),
    "clip": tiny_clip,
    "eva": lambda: tiny_eva(num_reg_tokens=2),
}


@pytest.fixture(params=FAMILIES)
def last(request, images):
    """(backbone, layout, last block, what was seen of it, attention of CLS) of a tiny model."""
    backbone = ttr.adapt(scramble(FAMILIES[request.param]()))
    block = backbone.num_layers - 1
    with watch(backbone, block) as seen:
        layout = record(backbone, images).layout
    return backbone, layout, block, seen, cls_attention(backbone, block, seen[block])


def test_a_patch_alone_is_as_long_as_what_it_gives(last):
    """Of all weights but one patch's set to zero, the split's contribution of the patches is that patch's."""
    backbone, layout, block, seen, weights = last
    lengths = contribution_lengths(backbone, layout, block, seen[block], weights)
    assert lengths.shape == (len(weights), layout.patches)
    values = backbone.mixing.value(backbone.sites.attention[block].module, seen[block].normed, {})
    output = backbone.mixing.output(backbone.sites.attention[block].module)
    scale = backbone.mixing.scale(backbone.sites.blocks[block].module)
    place = layout.where("patches").start + 5
    mix = (weights[:, :, place, None] * values[:, :, place]).flatten(1)
    given = output.projection(mix) - output.projection(torch.zeros_like(mix))
    given = given if scale is None else given * scale
    torch.testing.assert_close(lengths[:, 5], given.norm(dim=1), rtol=1e-4, atol=1e-6)


def test_all_weights_as_they_were_make_the_model_itself(last):
    backbone, layout, block, seen, weights = last
    make, full = remade(backbone, layout, block, seen), full_output(backbone, layout, seen)
    torch.testing.assert_close(make(weights), full, rtol=1e-4, atol=1e-4)
    none = weights.clone()
    layout.select(none, "patches", dim=2).zero_()
    assert not torch.allclose(make(none), full, atol=1e-3)
    made_of = split(backbone, layout, block, seen[block])
    assert (made_of.contributions["patches"].norm(dim=1) > 0).all()


def test_deletion_asks_the_model_itself(last):
    """Where one patch gives nearly all, taking the brightest out beats every draw that leaves it in."""
    backbone, layout, block, seen, weights = last
    bright = weights.clone()
    layout.select(bright, "patches", dim=2)[:, :, 3] = 30
    share = deletion(backbone, layout, block, seen, bright)
    assert (share >= 0.5).all()
    assert (deletion(backbone, layout, block, seen, weights) <= 1).all()
    # Of equal patches in equal light none is before the others, and taking out any moves as little.
    nothing = weights.clone()
    layout.select(nothing, "patches", dim=2).zero_()
    assert (deletion(backbone, layout, block, seen, nothing) == 0).all()


def test_attention_whose_result_is_given_does_not_run_again(last, monkeypatch):
    backbone, layout, block, seen, weights = last
    ran: list[str] = []
    for part in ("attention", "mlps"):
        module = getattr(backbone.sites, part)[block].module
        run = module.forward
        monkeypatch.setattr(
            module,
            "forward",
            lambda *args, part=part, run=run, **named: ran.append(part) or run(*args, **named),
        )
    deletion(backbone, layout, block, seen, weights)
    assert set(ran) == {"mlps"}


@pytest.mark.parametrize(("block", "tokens"), [(1, 3), (2, 19)])
def test_where_a_wrap_moves_nothing_no_patch_runs_again(images, block, tokens):
    """CLS and two registers run where no neuron is listed, all 19 tokens where one is."""
    backbone = ttr.adapt(scramble(tiny_vit()))
    neurons, ran = ttr.RegisterNeurons.from_pairs([(2, 5)]), []
    with ttr.TestTimeRegisters(backbone, neurons, num_registers=2):
        with watch(backbone, block) as seen:
            layout = record(backbone, images).layout
        backbone.sites.mlps[block].module.register_forward_hook(
            lambda module, args, y: ran.append(y.shape[1])
        )
        make = remade(backbone, layout, block, seen)
        found = make(cls_attention(backbone, block, seen[block]))
    assert set(ran) == {tokens}
    torch.testing.assert_close(found, full_output(backbone, layout, seen), rtol=1e-4, atol=1e-4)


def test_agreement_by_hand():
    attention = torch.tensor([[0.9, 0.05, 0.05], [0.2, 0.1, 0.1], [0.0, 0.0, 0.0]])
    lengths = torch.tensor([[0.0, 1.0, 1.0], [2.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    torch.testing.assert_close(agreement(attention, lengths), torch.tensor([0.1, 1.0, 0.0]))
