"""Attention flows and divergences against the maps of the unfused model and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import nn

import ttr
from tests.backbones.test_contract import neurons_of, prefix_counts
from tests.tools.tiny_models import FAMILIES, scramble, tiny_eva, tiny_vit
from ttr.analysis.routing import GROUPS, attention_statistics
from ttr.backbones.extra_key import insert_extra_key
from ttr.datasets.phantom import phantom_images
from ttr.errors import ModelError, OptionError
from ttr.forward.attention import Projected, attention_rows
from ttr.hooks import capture, edit

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def attention_inputs(backbone, images):
    """Return (x, kwargs, layout) of every block's attention."""
    kept = []
    with capture(backbone.sites.attention, lambda i, x, kwargs: kept.append((x, dict(kwargs)))):
        backbone.embed(images)
    return [(x, kwargs, backbone.layout_for(images).for_length(x.shape[1])) for x, kwargs in kept]


def unfused_maps(backbone, images):
    """Return the whole attention maps [B, heads, N, N] that the unfused modules multiply values with."""
    model, maps, handles = backbone.model, [], []
    modules = [site.module for site in backbone.sites.attention]
    if isinstance(model, transformers.PreTrainedModel):
        model.set_attn_implementation("eager")
        handles = [m.register_forward_hook(lambda m, args, out: maps.append(out[1])) for m in modules]
    elif isinstance(modules[0], nn.MultiheadAttention):

        def weights(module, args):
            full = module.forward(*[args[0]] * 3, need_weights=True, average_attn_weights=False)
            maps.append(full[1])

        handles = [m.register_forward_pre_hook(weights) for m in modules]
    else:
        for m in modules:
            m.fused_attn = False
            handles.append(m.attn_drop.register_forward_hook(lambda m, args, out: maps.append(args[0])))
    backbone.embed(images)
    for handle in handles:
        handle.remove()
    return [map_.double().numpy() for map_ in maps]


def groups_of(layout):
    """Token indices of the three groups, written out by hand."""
    registers = layout.cls + layout.registers + layout.test_time
    return [range(layout.cls), range(layout.cls, registers), range(registers, layout.length)]


def mean_of(values):
    return values.mean(axis=1) if values.shape[1] else np.full(len(values), np.nan)


def expected_flows(maps, layout):
    flows = np.full((len(maps), 3, 3), np.nan)
    for i, sources in enumerate(groups_of(layout)):
        for j, targets in enumerate(groups_of(layout)):
            if sources and targets:
                flows[:, i, j] = maps[:, :, sources][..., targets].sum(-1).mean((1, 2))
    return flows


@pytest.mark.parametrize("registers", [None, pytest.param(1, marks=pytest.mark.slow), 3])
def test_flows_are_those_of_the_unfused_model_in_every_family(model, images, registers):
    backbone = ttr.adapt(model)
    wrap = ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=registers or 0)
    if registers is not None:
        wrap.install()
    maps, inputs = unfused_maps(backbone, images), attention_inputs(backbone, images)
    assert len(maps) == len(inputs) == backbone.num_layers
    for layer, ((x, kwargs, layout), map_) in enumerate(zip(inputs, maps, strict=True)):
        assert layout.test_time == (registers or 0)
        found = attention_statistics(backbone, layer, x, kwargs, layout, chunk=5)
        np.testing.assert_allclose(found.flows, expected_flows(map_, layout), **TOLERANCE)
        assert found.divergence is None
        shares = [
            [mean_of(map_[:, :, s][..., r].mean(1)) for s in groups_of(layout)] for r in groups_of(layout)[1]
        ]
        assert found.shares.shape == (5, 3, layout.registers + layout.test_time)
        if shares:
            np.testing.assert_allclose(found.shares, np.transpose(shares, (2, 1, 0)), **TOLERANCE)


@pytest.mark.parametrize(
    "both",
    [pytest.param("bare and wrapped", marks=pytest.mark.slow), "wrapped and bare", "edited and full"],
)
def test_divergence_is_scipys_query_by_query_in_every_family(model, images, both):
    backbone, images = ttr.adapt(model), images[:2]
    wrap = ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=2)
    runs = []
    for which in both.split(" and "):
        if which == "wrapped":
            wrap.install()
        double = [(backbone.sites.blocks[0], lambda x: x * 1.5)] if which == "edited" else []
        with edit(double):
            runs.append((unfused_maps(backbone, images), attention_inputs(backbone, images)))
        if which == "wrapped" and both.startswith("wrapped"):
            wrap.remove()
    (maps, inputs), (maps_reference, inputs_reference) = runs
    counts = prefix_counts(model)
    for layer in range(backbone.num_layers):
        found = attention_statistics(
            backbone, layer, *inputs[layer], reference=inputs_reference[layer], chunk=5
        )
        layouts = inputs[layer][2], inputs_reference[layer][2]
        expected = expected_divergence(maps[layer], maps_reference[layer], *layouts)
        np.testing.assert_allclose(found.divergence, expected, rtol=1e-3, atol=1e-6)
        means = (each[layer].mean(axis=1, keepdims=True) for each in (maps, maps_reference))
        expected = expected_divergence(*means, *layouts)
        np.testing.assert_allclose(found.divergence_of_mean, expected, rtol=1e-3, atol=1e-6)
        assert (found.divergence_of_mean <= found.divergence * (1 + 1e-4) + 1e-7)[
            ~torch.isnan(found.divergence)
        ].all()
    assert prefix_counts(model) == counts


def expected_divergence(p, q, layout_p, layout_q):
    """Both maps on the tokens that have a name in either run, a query at a time."""

    def names(layout):
        prefix = [("prefix", i) for i in range(layout.cls + layout.registers)]
        return (
            prefix
            + [("test", i) for i in range(layout.test_time)]
            + [("patch", i) for i in range(layout.patches)]
        )

    mine, theirs = names(layout_p), names(layout_q)
    union = mine + [name for name in theirs if name not in mine]
    found = np.full((len(p), 3), np.nan)
    for group, queries in enumerate(groups_of(layout_p)):
        both = [(i, theirs.index(mine[i])) for i in queries if mine[i] in theirs]
        for image in range(len(p) if both else 0):
            values = []
            for i, j in both:
                full = np.zeros((2, len(p[0]), len(union)))
                full[0][:, [union.index(n) for n in mine]] = p[image, :, i]
                full[1][:, [union.index(n) for n in theirs]] = q[image, :, j]
                values += np.nan_to_num(jensenshannon(*full, axis=1) ** 2).tolist()  # the root of -1e-17
            found[image, group] = np.mean(values)
    return found


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.integers(0, 3), st.integers(1, 30), st.sampled_from([tiny_vit, tiny_eva]))
def test_laws(trained, test_time, chunk, build):
    """A source's flows sum to 1, its its shares to its register flow; a run is 0 from itself."""
    named = {"reg_tokens" if build is tiny_vit else "num_reg_tokens": trained}
    backbone = ttr.adapt(scramble(build(**named)))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(test_time))
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=test_time):
        run = attention_inputs(backbone, images)[1]
        found = attention_statistics(backbone, 1, *run, reference=run, chunk=chunk)
        whole = attention_statistics(backbone, 1, *run, chunk=10**6)
    present = [0, 2] if trained + test_time == 0 else [0, 1, 2]
    flows = found.flows[:, present]
    torch.testing.assert_close(flows.nansum(dim=2), torch.ones(2, len(present)))
    torch.testing.assert_close(found.flows, whole.flows, equal_nan=True)
    if trained + test_time:
        torch.testing.assert_close(found.shares.sum(dim=2), found.flows[:, :, 1])
    assert not found.divergence[:, present].any()
    assert not found.divergence_of_mean[:, present].any()
    absent = [i for i in range(3) if i not in present]
    assert found.flows[:, absent].isnan().all()
    assert found.flows[:, :, absent].isnan().all()
    assert found.divergence[:, absent].isnan().all()


def test_a_batch_equals_its_images_and_statistics_are_float32_under_autocast(images):
    backbone = ttr.adapt(scramble(FAMILIES["eva-dinov3"]()))
    together = attention_statistics(backbone, -1, *attention_inputs(backbone, images)[-1])
    for i, image in enumerate(images):
        alone = attention_statistics(backbone, -1, *attention_inputs(backbone, image[None])[-1])
        torch.testing.assert_close(together.flows[i], alone.flows[0], **TOLERANCE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run = attention_inputs(backbone, images)[-1]
        rough = attention_statistics(backbone, -1, *run, reference=run)
    assert rough.flows.dtype == rough.shares.dtype == rough.divergence.dtype == torch.float32
    torch.testing.assert_close(rough.flows, together.flows, rtol=0.1, atol=0.05)


def test_the_phantoms_register_takes_the_attention_that_was_planted(phantom, phantom_batch):
    bare = attention_inputs(phantom, phantom_batch)
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    with ttr.TestTimeRegisters(phantom, neurons):
        wrapped = attention_inputs(phantom, phantom_batch)
        found = attention_statistics(phantom, -1, *wrapped[-1], reference=bare[-1])
        first = attention_statistics(phantom, 0, *wrapped[0], reference=bare[0])
    cls, registers, patches = range(len(GROUPS))
    assert (found.flows[:, cls, registers] > 0.5).all()
    assert (found.divergence[:, [cls, patches]] > 0.1).all()
    assert (found.divergence[:, [cls, patches]] < math.log(2)).all()
    assert (first.divergence[:, cls] < found.divergence[:, cls]).all()


def test_zeroed_registers_send_attention_far_away_and_their_means_do_not():
    """The published pattern, planted: nothing before the first replacement, then two orders of magnitude."""
    backbone = ttr.load("phantom-reg4")
    images = torch.stack([backbone.preprocess(p.image) for p in phantom_images(4)])
    full = attention_inputs(backbone, images)
    registers = backbone.layout.where("registers")
    means = {}
    with capture(
        backbone.sites.blocks, lambda i, x, kwargs: means.__setitem__(i, x[:, registers].mean(dim=0))
    ):
        backbone.embed(images)

    def divergence(values):
        def put(value):
            return lambda x: torch.cat(
                [x[:, :1], value.expand(len(x), -1, -1), x[:, registers.stop :]], dim=1
            )

        with edit([(site, put(value)) for site, value in zip(backbone.sites.blocks, values, strict=True)]):
            ablated = attention_inputs(backbone, images)
        runs = enumerate(zip(ablated, full, strict=True))
        return torch.stack(
            [attention_statistics(backbone, i, *a, reference=b).divergence for i, (a, b) in runs]
        )

    zero = divergence([0 * mean for mean in means.values()])
    mean = divergence(list(means.values()))
    assert not zero[0].any()
    assert not mean[0].any()
    assert (zero[2:] > 0.1).all()
    assert (mean[2:] < 0.005).all()


def test_no_more_than_a_chunk_of_rows_is_ever_made(images, monkeypatch):
    backbone = ttr.adapt(scramble(tiny_vit(reg_tokens=4)))
    run = attention_inputs(backbone, images)[0]
    made, rows = [], Projected.rows
    monkeypatch.setattr(Projected, "rows", lambda self, part: made.append(rows(self, part)) or made[-1])
    attention_statistics(backbone, 0, *run, reference=run, chunk=5)
    assert max(each.shape[2] for each in made) == 5
    assert sum(each.shape[2] for each in made) == 2 * run[2].length


def test_flows_sum_to_what_an_attention_bias_leaves(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    module = backbone.sites.attention[0].module
    run = attention_inputs(backbone, images)[0]
    key, value = 3 * torch.randn(2, 2, 12, generator=torch.Generator().manual_seed(0))
    insert_extra_key(module, key, value)
    found = attention_statistics(backbone, 0, *run, reference=run)
    left = attention_rows(backbone, module, *run[:2], slice(0, 1)).sum(dim=-1).mean(dim=(1, 2))
    torch.testing.assert_close(found.flows[:, 0].nansum(dim=1), left)
    assert (left < 0.999).all()
    assert not found.divergence[:, [0, 2]].any()


def test_bad_input_is_refused(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    x, kwargs, layout = attention_inputs(backbone, images)[0]
    with pytest.raises(OptionError, match="chunk=0"):
        attention_statistics(backbone, 0, x, kwargs, layout, chunk=0)
    with pytest.raises(ModelError, match="got 17 tokens, but this layout has 18"):
        attention_statistics(backbone, 0, x, kwargs, layout.with_test_time(1))
    with pytest.raises(ModelError, match="layer=3.*3 blocks"):
        attention_statistics(backbone, 3, x, kwargs, layout)
    with pytest.raises(OptionError, match="5 images and 2 of the reference"):
        attention_statistics(backbone, 0, x, kwargs, layout, (x[:2], kwargs, layout))
    other = ttr.adapt(scramble(tiny_vit(reg_tokens=1)))
    with pytest.raises(OptionError, match="runs of one model and size"):
        attention_statistics(backbone, 0, x, kwargs, layout, attention_inputs(other, images)[0])
