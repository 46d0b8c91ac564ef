"""What every backbone must keep, whatever its family."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from torch import nn

import ttr
from tests.tools.tiny_models import FAMILIES, TRANSFORMERS, scramble, tiny_clip_with_timm_tower
from ttr.forward.attention import attention_rows
from ttr.forward.record import record
from ttr.hooks import capture, edit
from ttr.registers.move import MoveNeurons, signed_maximum

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def neurons_of(backbone, count=6):
    generator = torch.Generator().manual_seed(3)
    pairs = set()
    while len(pairs) < count:
        layer = torch.randint(backbone.num_layers, (), generator=generator)
        pairs.add((int(layer), int(torch.randint(backbone.num_neurons, (), generator=generator))))
    return ttr.RegisterNeurons.from_pairs(sorted(pairs))


def hook_count(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def prefix_counts(model: nn.Module) -> list[int]:
    return [m.num_prefix_tokens for m in model.modules() if hasattr(m, "num_prefix_tokens")]


def test_identity_edit_is_bit_equal_to_the_bare_model(model, images):
    backbone = ttr.adapt(model)
    bare = backbone.embed(images)
    sites = [backbone.sites.entry, backbone.sites.exit, *backbone.sites.blocks]
    sites += [*backbone.sites.neurons, *backbone.sites.attention]
    with edit([(site, lambda x: x) for site in sites]):
        assert torch.equal(backbone.embed(images), bare)


def test_no_neurons_and_no_registers_is_bit_equal_to_bare(model, images):
    backbone = ttr.adapt(model)
    nothing = ttr.RegisterNeurons.from_pairs([])
    bare = backbone.embed(images)
    with ttr.TestTimeRegisters(backbone, nothing, num_registers=0):
        assert torch.equal(backbone.embed(images), bare)


def own_output(model, images, **options):
    """The global feature by the model's own methods; a Backbone of transformers has its sister's."""
    kind = type(model).__name__
    if hasattr(model, "encode_image"):
        return model.encode_image(images)
    if type(getattr(model, "rope", None)).__name__ == "RotaryEmbeddingDinoV3":
        return model.forward_features(images)[:, 0]
    if hasattr(model, "forward_features"):
        return model.forward_head(model.forward_features(images), pre_logits=True)
    if hasattr(model, "visual_projection"):
        return model(images, **options).image_embeds
    if kind == "ViTForImageClassification":
        return model.vit(images, **options).last_hidden_state[:, 0]
    if kind == "IJepaModel":
        return model(images, **options).last_hidden_state.mean(dim=1)
    if kind == "Dinov2Backbone":
        sister = transformers.Dinov2Model(model.config).eval()
        sister.load_state_dict(model.state_dict())
        return sister(images).pooler_output
    if kind == "Dinov2ForImageClassification":
        tokens = model.dinov2(images, **options).last_hidden_state
        return torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)
    if kind == "ViTModel":
        return model(images, **options).last_hidden_state[:, 0]
    if isinstance(model, transformers.PreTrainedModel):
        return model(images, **options).pooler_output
    if hasattr(model, "heads"):
        headless = copy.deepcopy(model)
        headless.heads = nn.Identity()
        return headless(images)
    return model(images)


def test_embed_is_the_models_own_output(model, images):
    backbone = ttr.adapt(model)
    with torch.no_grad():
        expected = own_output(model, images)
    torch.testing.assert_close(backbone.embed(images), expected, **TOLERANCE)


#: Where the blocks are in models that gained their locators after the others.
BLOCKS = {
    "timm-beit": lambda model: model.blocks,
    "timm-naflex": lambda model: model.blocks,
    "torchvision": lambda model: model.encoder.layers,
    "transformers-vit": lambda model: model.vit.layers,
    "transformers-ijepa": lambda model: model.layers,
    "transformers-dinov2-backbone": lambda model: model.encoder.layer,
}


def tokens_by_hand(blocks, run, prefix, registers):
    """The last block's output: zeros are put behind the prefix by hand, and the blocks run by hand."""
    seen = []
    hook = blocks[0].register_forward_pre_hook(
        lambda m, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    with torch.no_grad():
        run()
        hook.remove()
        (x, *others), kwargs = seen[0]
        x = torch.cat([x[:, :prefix], x.new_zeros(len(x), registers, x.shape[2]), x[:, prefix:]], dim=1)
        for block in blocks:
            x = block(x, *others, **kwargs)
            x = x[0] if isinstance(x, tuple) else x
    return x


@pytest.mark.parametrize("model", sorted(BLOCKS), indirect=True)
def test_blank_registers_equal_zeros_that_are_inserted_by_hand(model, images, request):
    backbone = ttr.adapt(model)
    blocks = BLOCKS[request.node.callspec.params["model"]](model)
    prefix = backbone.layout.prefix
    expected = tokens_by_hand(blocks, lambda: backbone.embed(images), prefix, 2)
    kept = []
    blank = ttr.TestTimeRegisters(backbone, ttr.RegisterNeurons.from_pairs([]), num_registers=2)
    with blank, capture([backbone.sites.blocks[-1]], lambda i, x, kwargs: kept.append(x)):
        backbone.embed(images)
    torch.testing.assert_close(kept[0], expected, **TOLERANCE)
    torch.testing.assert_close(
        backbone.tokens(images).patches,
        backbone.sites.final_norm(tokens_by_hand(blocks, lambda: backbone.embed(images), prefix, 0))[
            :, prefix:
        ],
        **TOLERANCE,
    )


@pytest.mark.parametrize("registers", [0, pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_batch_equals_its_items(model, images, registers):
    backbone = ttr.adapt(model)
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=registers):
        together = backbone.embed(images)
        alone = torch.cat([backbone.embed(image[None]) for image in images])
    torch.testing.assert_close(together, alone, **TOLERANCE)


def test_the_wrap_changes_something_and_keeps_shapes(model, images):
    backbone = ttr.adapt(model)
    bare, bare_tokens = backbone.embed(images), backbone.tokens(images)
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=2):
        wrapped, tokens = backbone.embed(images), backbone.tokens(images)
    assert wrapped.shape == bare.shape
    assert not torch.allclose(wrapped, bare, atol=1e-4)
    assert tokens.test_time.shape == (5, 2, bare_tokens.patches.shape[2])
    assert tokens.patches.shape == bare_tokens.patches.shape
    assert tokens.registers.shape == bare_tokens.registers.shape


def test_registers_are_as_if_zeros_stood_in_the_sequence_from_before_the_pre_norm(model, images):
    """The published way, without blocks that hand anything over: in at the entry, out at the exit."""
    backbone, neurons, count = ttr.adapt(model), ttr.RegisterNeurons.from_pairs([(0, 3), (2, 7)]), 2
    sites, layout = backbone.sites, backbone.layout.with_test_time(count)
    given = (layout, "neuron", "zero", "all", (1.0,) * count)
    moves = [
        (sites.neurons[layer], MoveNeurons(torch.tensor(indices), *given))
        for layer, indices in neurons.by_layer().items()
    ]
    for module in sites.rotary:
        module.num_prefix_tokens += count
    with edit([(sites.entry, layout.insert_test_time), *moves, (sites.exit, layout.drop_test_time)]):
        expected = backbone.embed(images)
    for module in sites.rotary:
        module.num_prefix_tokens -= count
    with ttr.TestTimeRegisters(backbone, neurons, num_registers=count):
        assert torch.equal(backbone.embed(images), expected)


def test_everything_is_as_before_after_success_and_after_an_exception(model, images):
    backbone = ttr.adapt(model)
    has_cls = bool(backbone.layout.cls)
    state = copy.deepcopy(model.state_dict())
    bare, hooks, counts = backbone.embed(images), hook_count(model), prefix_counts(model)
    model.train()
    model.training = False
    flags = [m.training for m in model.modules()]
    wrap = ttr.TestTimeRegisters(backbone, neurons_of(backbone))
    with wrap:
        backbone.embed(images)
        record(backbone, images, attention=has_cls, neurons=lambda layer, x: None)
    with pytest.raises(RuntimeError, match="on purpose"), wrap:
        raise RuntimeError("on purpose")

    def fail(x):
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"), wrap, edit([(backbone.sites.blocks[1], fail)]):
        record(backbone, images, attention=has_cls, neurons=lambda layer, x: None)
    wrap.remove()
    assert hook_count(model) == hooks
    assert prefix_counts(model) == counts
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert torch.equal(backbone.embed(images), bare)


def test_edits_touch_only_the_named_neurons(model, images):
    backbone = ttr.adapt(model)
    neurons = neurons_of(backbone)
    first = next(iter(neurons.by_layer()))
    listed = torch.zeros(backbone.num_neurons, dtype=torch.bool)
    listed[neurons.by_layer()[first]] = True
    runs = []
    for pairs in (ttr.RegisterNeurons.from_pairs([]), neurons):
        kept = {}
        with ttr.TestTimeRegisters(backbone, pairs):
            layout = record(backbone, images, neurons=kept.__setitem__).layout
        runs.append(kept[first])
    before, after = runs
    assert torch.equal(before[:, :, ~listed], after[:, :, ~listed])
    registers = layout.select(after, "test_time")[:, :, listed]
    assert torch.equal(registers, signed_maximum(before[:, :, listed], 1))
    assert not layout.select(after, "patches")[:, :, listed].any()
    assert not layout.select(after, "prefix")[:, :, listed].any()


def test_patches_reshape_to_the_grid_patch_zero_included(model):
    """Paint one patch; the first block's map must light up right there, wrapped or not."""
    backbone = ttr.adapt(model)
    height, width = backbone.patch_size
    rows, columns = backbone.layout.grid
    for registers in (0, 2):
        neurons = ttr.RegisterNeurons.from_pairs([])
        for row, column in ((0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)):
            grey = torch.zeros(1, 3, *backbone.image_size)
            painted = grey.clone()
            painted[:, :, row * height : (row + 1) * height, column * width : (column + 1) * width] = 3.0
            kept = []
            with (
                ttr.TestTimeRegisters(backbone, neurons, num_registers=registers),
                capture(backbone.sites.attention[:1], lambda i, x, kwargs, kept=kept: kept.append(x)),
            ):
                backbone.embed(grey)
                backbone.embed(painted)
            layout = backbone.layout.for_length(kept[0].shape[1])
            change = layout.select((kept[1] - kept[0]).norm(dim=-1), "patches")
            grid = layout.to_grid(change)[0]
            assert divmod(int(grid.argmax()), columns) == (row, column)
            assert (grid > 0).sum() == 1


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("as_maps", [False, True])
@pytest.mark.parametrize(
    "model", sorted(FAMILIES.keys() - TRANSFORMERS.keys() - {"torchvision"}), indirect=True
)
def test_intermediates_keep_the_bare_shapes_and_hold_the_patches(model, images, norm, as_maps):
    """Those of transformers are its hidden states (test_transformers_vit.py); torchvision has none."""
    backbone = ttr.adapt(model)
    tower = backbone.sites.tower
    timm_model = not hasattr(tower, "resblocks") and not hasattr(tower, "transformer")
    names = (
        ("norm", "return_prefix_tokens") if timm_model else ("normalize_intermediates", "output_extra_tokens")
    )
    options = {names[0]: norm, names[1]: True, "output_fmt": "NCHW" if as_maps else "NLC"}

    def flat(result):
        if isinstance(result, dict):
            prefixes = result["image_intermediates_prefix"]
            return list(zip(result["image_intermediates"], prefixes, strict=True))
        return result

    def call():
        with torch.no_grad():
            return flat(
                tower.forward_intermediates(images, indices=[0, 2], intermediates_only=True, **options)
            )

    bare = call()
    outputs = {}
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=3):
        with capture(backbone.sites.blocks, lambda i, x, kwargs: outputs.__setitem__(i, x)):
            wrapped = call()
        if timm_model and hasattr(tower, "get_intermediate_layers"):
            layers = tower.get_intermediate_layers(images, n=2, reshape=as_maps, norm=norm)
            assert layers[-1].shape == bare[-1][0].shape
    for index, (patches, prefix), (bare_patches, bare_prefix) in zip((0, 2), wrapped, bare, strict=True):
        assert (patches.shape, prefix.shape) == (bare_patches.shape, bare_prefix.shape)
        layout = backbone.layout_for(images).for_length(outputs[index].shape[1])
        assert layout.test_time == 3
        final = backbone.sites.final_norm.forward if norm else (lambda x: x)
        expected = layout.split(final(outputs[index])).patches
        if as_maps:
            expected = layout.to_grid(expected).permute(0, 3, 1, 2)
        torch.testing.assert_close(patches, expected, **TOLERANCE)
    assert "forward_intermediates" not in vars(tower)
    for again, was in zip(call(), bare, strict=True):
        assert torch.equal(again[0], was[0])
        assert torch.equal(again[1], was[1])


def test_recomputed_attention_equals_the_unfused_models(model, images):
    """The reference: what the unfused module multiplies its values with, or MultiheadAttention's weights."""
    backbone = ttr.adapt(model)
    wrap = ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=2)
    recomputed, reference = [], []

    def watch(index, x, kwargs):
        module = backbone.sites.attention[index].module
        recomputed.append(attention_rows(backbone, module, x, kwargs, slice(None)))
        if isinstance(module, nn.MultiheadAttention):
            reference.append(module.forward(x, x, x, need_weights=True, average_attn_weights=False)[1])

    if isinstance(model, transformers.PreTrainedModel):
        model.set_attn_implementation("eager")
        for site in backbone.sites.attention:
            site.module.register_forward_hook(lambda m, args, out: reference.append(out[1]))
    with wrap:
        for site in backbone.sites.attention:
            module = site.module
            if hasattr(module, "fused_attn"):
                module.fused_attn = False
                module.attn_drop.register_forward_hook(lambda m, args, out: reference.append(args[0]))
        with capture(backbone.sites.attention, watch):
            backbone.embed(images)
    assert len(recomputed) == len(reference) == backbone.num_layers
    for ours, theirs in zip(recomputed, reference, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)


def test_attention_of_a_pass_is_what_a_second_projection_of_its_inputs_gives(model, images):
    backbone = ttr.adapt(model)
    if not backbone.layout.cls:
        pytest.skip("no CLS, so no rows")
    registers = 0 if backbone.no_place else 2
    projected = []

    def project(index, x, kwargs):
        rows = backbone.layout.for_length(x.shape[1]).where("ahead")
        projected.append(attention_rows(backbone, backbone.sites.attention[index].module, x, kwargs, rows))

    with ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=registers):
        with capture(backbone.sites.attention, project):
            ahead = record(backbone, images, attention="ahead").attention
        cls = record(backbone, images, attention=True).cls_attention
    torch.testing.assert_close(ahead, torch.stack(projected), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(cls, ahead[:, :, :, 0], rtol=1e-4, atol=1e-6)


def test_norms_are_float32_under_bfloat16_autocast(model, images):
    backbone = ttr.adapt(model)
    exact = record(backbone, images).norms
    with torch.autocast("cpu", dtype=torch.bfloat16):
        passed = record(backbone, images, attention=bool(backbone.layout.cls))
    assert passed.norms.dtype == passed.cls_attention.dtype == torch.float32
    torch.testing.assert_close(passed.norms, exact, rtol=0.1, atol=0.1)


#: One of each library and way of mixing; torch traces every family in the same way, so the others are slow.
TRACED = (
    "timm-vit",
    "eva-dinov3",
    "open-clip",
    "transformers-dinov3",
)


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=() if f in TRACED else pytest.mark.slow) for f in sorted(FAMILIES)],
)
def test_the_exported_wrapped_model_equals_eager(family, images):
    model = scramble(FAMILIES[family]())
    backbone = ttr.adapt(model)
    tower = backbone.sites.tower
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=2), torch.no_grad():
        exported = torch.export.export(tower, (images,))
        expected = tower(images)
    torch.testing.assert_close(exported.module()(images), expected, **TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_compiled_wrapped_model_equals_eager(family, images):
    model = scramble(FAMILIES[family]())
    backbone = ttr.adapt(model)
    tower = backbone.sites.tower
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=2), torch.no_grad():
        expected = tower(images)
        torch.testing.assert_close(torch.compile(tower)(images), expected, **TOLERANCE)


def test_an_open_clip_model_with_a_timm_tower_is_located_in_its_trunk():
    model = scramble(tiny_clip_with_timm_tower())
    backbone = ttr.adapt(model)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(backbone.embed(images), model.visual(images))
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone)):
        assert backbone.tokens(images).test_time.shape == (2, 1, 192)
