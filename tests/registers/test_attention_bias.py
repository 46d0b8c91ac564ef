"""The attention bias against the register it stands for, on every family."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import timm.layers
import torch
from safetensors.torch import load, save_file
from torch import nn

import ttr
from tests.backbones.test_contract import TOLERANCE, hook_count, neurons_of, prefix_counts
from tests.tools.tiny_models import (
    FAMILIES,
    scramble,
    tiny_clip,
    tiny_clip_with_timm_tower,
    tiny_eva,
    tiny_vit,
)
from ttr.errors import ImageError, ModelError, NeuronsError
from ttr.forward.attention import attention_rows
from ttr.forward.record import record
from ttr.hooks import capture, edit
from ttr.registers.attention_bias import AttentionBias, BiasCalibration, calibrate_bias

SHARP = {"rtol": 1e-4, "atol": 1e-4}
NONE = ttr.RegisterNeurons.from_pairs([])


def biased(backbone, images, neurons=None):
    neurons = neurons_of(backbone) if neurons is None else neurons
    return AttentionBias(backbone, neurons, calibrate_bias(backbone, neurons, images))


def unfuse(backbone):
    for site in backbone.sites.attention:
        if hasattr(site.module, "fused_attn"):
            site.module.fused_attn = False


WITHOUT = sorted(name for name in FAMILIES if name.startswith("transformers") or name == "timm-beit")


@pytest.fixture(params=sorted(FAMILIES.keys() - WITHOUT))
def model(request):
    return scramble(FAMILIES[request.param]())


@pytest.mark.parametrize("family", WITHOUT)
def test_attention_that_takes_no_bias_is_refused_by_name(family, images):
    backbone = ttr.adapt(scramble(FAMILIES[family]()))
    with pytest.raises(ModelError, match=r"attention \w+ takes no attention bias; needed nn.MultiheadAtt"):
        calibrate_bias(backbone, neurons_of(backbone), images)


@pytest.mark.parametrize("fused", [True, False])
def test_calibrated_on_one_image_it_is_that_images_register(model, images, fused):
    """The sharp test: all tokens but the register see the same keys and values, so all of them agree."""
    backbone = ttr.adapt(model)
    if not fused:
        unfuse(backbone)
    one, neurons = images[:1], neurons_of(backbone)
    bare = backbone.tokens(one)
    with ttr.TestTimeRegisters(backbone, neurons):
        embedding, tokens, passed = backbone.embed(one), backbone.tokens(one), record(backbone, one)
    with ttr.TestTimeRegisters(backbone, neurons, num_registers=0):
        zeroed = backbone.tokens(one)
    with biased(backbone, one, neurons):
        torch.testing.assert_close(backbone.embed(one), embedding, **SHARP)
        found, norms = backbone.tokens(one), record(backbone, one).norms
    torch.testing.assert_close(found.patches, tokens.patches, **SHARP)
    torch.testing.assert_close(found.cls, tokens.cls, **SHARP)
    torch.testing.assert_close(found.registers, tokens.registers, **SHARP)
    without = torch.cat([passed.layout.select(passed.norms, g, dim=2) for g in ("prefix", "patches")], dim=2)
    torch.testing.assert_close(norms, without, **SHARP)
    assert found.test_time.shape[1] == 0
    assert found.patches.shape == bare.patches.shape
    assert not torch.allclose(found.patches, zeroed.patches, atol=1e-3), "the bias must do something"


def test_a_batch_equals_its_items_and_keeps_bare_shapes(model, images):
    backbone = ttr.adapt(model)
    of_blocks = getattr(backbone.sites.tower, "forward_intermediates", lambda images, **options: [])
    bare = backbone.embed(images)
    bare_maps = of_blocks(images, indices=[0, 2], intermediates_only=True)
    with biased(backbone, images[:3]):
        together = backbone.embed(images)
        alone = torch.cat([backbone.embed(image[None]) for image in images])
        maps = of_blocks(images, indices=[0, 2], intermediates_only=True)
    torch.testing.assert_close(together, alone, **TOLERANCE)
    assert together.shape == bare.shape
    assert not torch.allclose(together, bare, atol=1e-4)
    key = "image_intermediates"
    for found, was in zip(*(m[key] if isinstance(m, dict) else m for m in (maps, bare_maps)), strict=True):
        assert found.shape == was.shape


def test_everything_is_as_before_after_success_and_after_an_exception(model, images):
    backbone = ttr.adapt(model)
    state, bare = copy.deepcopy(model.state_dict()), backbone.embed(images)
    hooks, counts = hook_count(model), prefix_counts(model)
    attributes = [sorted(vars(m)) for m in model.modules()]
    wrap = biased(backbone, images)

    def fail(x):
        raise RuntimeError("in the middle")

    with wrap:
        assert list(model.state_dict()) == list(state)
    with pytest.raises(RuntimeError, match="in the middle"), wrap, edit([(backbone.sites.blocks[1], fail)]):
        backbone.embed(images)
    wrap.remove()
    assert not wrap.installed
    with pytest.raises(RuntimeError, match="on purpose"):
        calibrate_bias(backbone, neurons_of(backbone), (_raise() for _ in range(1)))
    assert (hook_count(model), prefix_counts(model)) == (hooks, counts)
    assert [sorted(vars(m)) for m in model.modules()] == attributes
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert torch.equal(backbone.embed(images), bare)


def _raise():
    raise RuntimeError("on purpose")


def test_attention_rows_know_the_bias(model, images):
    """The reference: the rows of the model with one register, its column left out."""
    backbone = ttr.adapt(model)
    neurons, one = neurons_of(backbone), images[:1]
    rows = {}

    def watch(index, x, kwargs):
        module = backbone.sites.attention[index].module
        rows.setdefault(index, []).append(attention_rows(backbone, module, x, kwargs, slice(0, 1)))

    wrap = biased(backbone, one, neurons)
    for each in (ttr.TestTimeRegisters(backbone, neurons), wrap):
        with each, capture(backbone.sites.attention, watch):
            backbone.embed(one)
    layout = backbone.layout.with_test_time(1)
    for with_register, with_bias in rows.values():
        parts = [layout.select(with_register, group, dim=3) for group in ("prefix", "patches")]
        torch.testing.assert_close(with_bias, torch.cat(parts, dim=3), **SHARP)
        assert (with_bias.sum(dim=3) < 1).all()


@pytest.mark.parametrize(
    "family",
    [
        "eva-dinov3",
        pytest.param("open-clip", marks=pytest.mark.slow),
        pytest.param("timm-reg4", marks=pytest.mark.slow),
        pytest.param("eva-02", marks=pytest.mark.slow),
    ],
)
def test_the_exported_model_equals_eager(family, images):
    model = scramble(FAMILIES[family]())
    backbone = ttr.adapt(model)
    tower = getattr(model, "visual", model)
    with biased(backbone, images), torch.no_grad():
        exported = torch.export.export(tower, (images,))
        expected = tower(images)
    torch.testing.assert_close(exported.module()(images), expected, **TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["timm-reg4", "eva-dinov3", "open-clip"])
def test_the_compiled_model_equals_eager(family, images):
    model = scramble(FAMILIES[family]())
    tower = getattr(model, "visual", model)
    with biased(ttr.adapt(model), images), torch.no_grad():
        expected = tower(images)
        torch.testing.assert_close(torch.compile(tower)(images), expected, **TOLERANCE)


@pytest.mark.parametrize(
    "options",
    [
        {"qk_norm": True, "scale_attn_norm": True},
        {"attn_layer": timm.layers.AttentionRope},
    ],
)
def test_inner_norms_and_other_attention_layers_are_kept(options, images):
    backbone = ttr.adapt(scramble(tiny_vit(**options)))
    neurons = neurons_of(backbone)
    with ttr.TestTimeRegisters(backbone, neurons):
        expected = backbone.embed(images[:1])
    with biased(backbone, images[:1], neurons):
        torch.testing.assert_close(backbone.embed(images[:1]), expected, **SHARP)


def test_an_open_clip_model_with_a_timm_tower_and_a_gated_grouped_attention():
    backbone = ttr.adapt(scramble(tiny_clip_with_timm_tower()))
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    neurons = neurons_of(backbone)
    with ttr.TestTimeRegisters(backbone, neurons):
        expected = backbone.embed(image)
    with biased(backbone, image, neurons):
        torch.testing.assert_close(backbone.embed(image), expected, **SHARP)
    grouped = timm.layers.AttentionRope(24, 4, qkv_fused=False, num_kv_heads=2, gated=True).eval()
    x = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0))
    key, value = ttr.backbones.extra_key.key_and_value(grouped, x, {})
    assert key.shape == value.shape == (2, 4, 5, 6)
    ttr.backbones.extra_key.insert_extra_key(grouped, key[0, :, 4], value[0, :, 4])
    four = grouped(x[:1, :4])
    ttr.backbones.extra_key.remove_extra_key(grouped)
    torch.testing.assert_close(four, grouped(x[:1])[:, :4], **TOLERANCE)


@pytest.mark.parametrize("make", [tiny_vit, tiny_clip])
def test_a_biased_model_can_be_copied(make, images):
    model = scramble(make())
    backbone = ttr.adapt(model)
    with biased(backbone, images):
        expected = backbone.embed(images)
        copied = ttr.adapt(copy.deepcopy(model))
        assert torch.equal(copied.embed(images), expected)
    assert torch.equal(copied.embed(images), expected)
    assert not torch.equal(backbone.embed(images), expected)


def test_the_mean_is_the_mean_of_the_images_whatever_the_batches(images):
    backbone = ttr.adapt(scramble(tiny_eva(num_reg_tokens=2)))
    neurons = neurons_of(backbone)
    together = calibrate_bias(backbone, neurons, images, batch_size=2)
    singles = [calibrate_bias(backbone, neurons, image[None]) for image in images]
    for part in ("keys", "values"):
        mean = torch.stack([getattr(one, part).double() for one in singles]).mean(dim=0).float()
        torch.testing.assert_close(getattr(together, part), mean, **TOLERANCE)
        assert getattr(together, part).shape == (3, 2, 12)
    assert together.provenance.images == 5


@pytest.mark.parametrize("make", [tiny_vit, tiny_clip, tiny_eva])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_and_autocast_stay_what_they_are(make, dtype, images):
    backbone = ttr.adapt(scramble(make()).to(dtype))
    with biased(backbone, images):
        assert backbone.embed(images).dtype == dtype
    backbone = ttr.adapt(scramble(make()))
    with biased(backbone, images):
        exact = backbone.embed(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(backbone.embed(images).float(), exact, rtol=0.2, atol=0.2)


def test_saved_and_loaded_it_is_the_same(images, tmp_path):
    backbone = ttr.adapt(scramble(tiny_vit()))
    neurons = neurons_of(backbone)
    made = ttr.calibrate_bias(backbone, neurons, images)
    made.save(tmp_path / "bias.safetensors")
    loaded = ttr.BiasCalibration.load(tmp_path / "bias.safetensors")
    assert loaded.provenance == made.provenance
    assert loaded.provenance.neurons == neurons.kept
    assert torch.equal(loaded.keys, made.keys)
    assert torch.equal(loaded.values, made.values)
    with ttr.AttentionBias(backbone, neurons, loaded):
        assert backbone.embed(images).shape == (5, 24)


def test_files_that_are_no_calibration_are_refused(tmp_path):
    (tmp_path / "text.safetensors").write_text("hello")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    header = {"schema": "ttr.attention-bias/1", "provenance": json.dumps({"backbone": "x"})}
    save_file({"keys": torch.zeros(1)}, tmp_path / "half.safetensors", metadata=header)
    for name in ("none", "text.safetensors", "other.safetensors", "half.safetensors"):
        with pytest.raises(ModelError, match=r"no attention bias of schema ttr.attention-bias/1"):
            BiasCalibration.load(tmp_path / name)


def changed(calibration, **parts):
    return dataclasses.replace(calibration, **parts)


def test_values_and_shapes_that_are_none_are_refused(images, tmp_path):
    backbone = ttr.adapt(scramble(tiny_vit()))
    neurons = neurons_of(backbone)
    made = calibrate_bias(backbone, neurons, images)
    for parts, complaint in (
        ({"keys": made.keys * torch.nan}, "keys of this attention bias holds 72 NaN of 72 values"),
        ({"values": made.values.log()}, r"values of this attention bias holds \d+ NaN of 72 values"),
        ({"keys": made.keys.cfloat()}, "keys of this attention bias is of type complex64"),
        ({"values": made.values.to("meta")}, "values of this attention bias lies on the meta device"),
        ({"keys": made.keys[0]}, r"shapes \(2, 12\) and \(3, 2, 12\); needed \[blocks, heads, d\]"),
    ):
        with pytest.raises(ModelError, match=complaint):
            changed(made, **parts)
    for cut in (slice(2), slice(1)):
        less = changed(made, keys=made.keys[cut], values=made.values[cut])
        with pytest.raises(ModelError, match=r"keys of shape .* needs \(3, 2, 12\); calibrate it again"):
            AttentionBias(backbone, neurons, less)
    half = changed(made, keys=made.keys[..., :6], values=made.values[..., :6])
    with pytest.raises(ModelError, match=r"keys of shape \(3, 2, 6\)"):
        AttentionBias(backbone, neurons, half)
    made.save(tmp_path / "bias.safetensors")
    raw = (tmp_path / "bias.safetensors").read_bytes()
    place = raw.index(made.keys.numpy().tobytes()[:8])
    (tmp_path / "bias.safetensors").write_bytes(raw[:place] + b"\xff" * 8 + raw[place + 8 :])
    with pytest.raises(ModelError, match=r"bias\.safetensors is no attention bias .*not what was written"):
        BiasCalibration.load(tmp_path / "bias.safetensors")
    tensors, header = load_tensors_of(raw)
    tensors["keys"].view(-1)[:2] = torch.nan
    header.pop("seal")  # as earlier versions wrote it
    save_file(tensors, tmp_path / "bias.safetensors", {"bias": json.dumps(header)})
    with pytest.raises(
        ModelError, match=r"bias\.safetensors is no attention bias .*keys .* holds 2 NaN of 72"
    ):
        BiasCalibration.load(tmp_path / "bias.safetensors")


def load_tensors_of(raw):
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])["__metadata__"]["bias"]
    return {name: value.clone() for name, value in load(raw).items()}, json.loads(header)


@pytest.mark.parametrize("images", ["true", '"5"', "5.0"])
def test_what_is_no_number_is_none_in_its_header_either(images, tmp_path):
    provenance = (
        '{"backbone": "b", "weights": "w", "weights_hash": "h", "image_size": [32, 32], '
        f'"neurons": [[0, 1]], "images": {images}, "ttr_version": "0"}}'
    )
    header = {"bias": f'{{"schema": "ttr.attention-bias/1", "provenance": {provenance}}}'}
    tensors = {"keys": torch.zeros(1, 1, 2), "values": torch.zeros(1, 1, 2)}
    save_file(tensors, tmp_path / "bias.safetensors", metadata=header)
    with pytest.raises(ModelError, match=r"no attention bias of schema"):
        BiasCalibration.load(tmp_path / "bias.safetensors")


def test_what_does_not_belong_is_refused(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    neurons = neurons_of(backbone)
    calibration = calibrate_bias(backbone, neurons, images)
    with pytest.raises(NeuronsError, match="calibrated with other neurons"):
        AttentionBias(backbone, neurons_of(backbone, 5), calibration)
    with pytest.raises(ModelError, match="calibrated on VisionTransformer with weights"):
        AttentionBias(scramble(tiny_vit(), seed=1), neurons, calibration)
    with pytest.raises(ImageError, match="no images"):
        calibrate_bias(backbone, neurons, images[:0])


@pytest.mark.parametrize("neurons", [None, NONE], ids=["neurons", "blank"])
def test_wraps_do_not_stand_on_one_another(neurons, images):
    model = scramble(tiny_vit())
    backbone = ttr.adapt(model)
    neurons = neurons_of(backbone) if neurons is None else neurons
    first = biased(backbone, images, neurons)
    others = [first, AttentionBias(model, neurons, first.calibration)]
    others += [ttr.TestTimeRegisters(model, neurons, num_registers=count) for count in (0, 1)]
    with first:
        expected = backbone.embed(images)
        for other in others:
            with pytest.raises(ModelError, match="already"):
                other.install()
        with pytest.raises(ModelError, match="already"):
            calibrate_bias(backbone, neurons, images)
        assert first.installed
        assert torch.equal(backbone.embed(images), expected)
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone)), pytest.raises(ModelError, match="already"):
        first.install()
    model.compile()
    with pytest.raises(ModelError, match="install the wrap first, then compile"):
        first.install()


def test_attention_of_another_kind_and_masks_are_refused(images):
    with pytest.raises(ModelError, match="attention Linear takes no attention bias"):
        ttr.backbones.extra_key.insert_extra_key(nn.Linear(2, 2), torch.zeros(1, 2), torch.zeros(1, 2))
    backbone = ttr.adapt(scramble(tiny_vit()))
    x = torch.randn(1, 17, 24)
    with biased(backbone, images), pytest.raises(ModelError, match="masked attention"):
        backbone.sites.attention[0].module(x, attn_mask=torch.zeros(17, 17))


def test_on_the_phantom_the_bias_keeps_what_zeroing_loses(phantom, phantom_batch):
    """The phantom's sink is the same for all images, so four of them stand for the other four."""
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    images = phantom_batch[4:]
    wraps = {
        "register": ttr.TestTimeRegisters(phantom, neurons),
        "zeroed": ttr.TestTimeRegisters(phantom, neurons, num_registers=0),
        "bias": biased(phantom, phantom_batch[:4], neurons),
    }
    embeddings, norms = {}, {}
    for name, wrap in wraps.items():
        with wrap:
            embeddings[name] = phantom.embed(images)
            norms[name] = record(phantom, images).norms[-1]
    cosine = nn.functional.cosine_similarity
    assert cosine(embeddings["bias"], embeddings["register"]).min() > 0.995
    assert cosine(embeddings["zeroed"], embeddings["register"]).max() < 0.95
    assert norms["bias"].max() < 60
