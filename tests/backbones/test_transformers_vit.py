"""Models of transformers: what they return while wrapped, and how they come from a directory."""

from __future__ import annotations

import copy
import json
import os
import pickle
import sys

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.utils import output_capturing

import ttr
from tests.backbones.test_contract import TOLERANCE, hook_count, neurons_of, own_output, tokens_by_hand
from tests.tools.tiny_models import DEPTH, SIZE, TRANSFORMERS, WIDTH, scramble, tiny_transformers
from ttr.backbones.transformers_vit import AROUND
from ttr.errors import ImageError, ModelError
from ttr.forward.record import record
from ttr.hooks import capture

YOLOS = {"image_size": [SIZE, SIZE], "patch_size": 8, "hidden_size": WIDTH, "num_hidden_layers": 1}
YOLOS |= {"num_attention_heads": 2, "intermediate_size": WIDTH, "num_detection_tokens": 2}
NO_NEURONS = ttr.RegisterNeurons.from_pairs([])


@pytest.fixture(params=sorted(TRANSFORMERS))
def model(request):
    return scramble(TRANSFORMERS[request.param]())


def call(model, images, **options):
    with torch.no_grad():
        return model(images, output_hidden_states=True, output_attentions=True, **options)


def shapes(value):
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    if isinstance(value, dict):
        return {key: shapes(item) for key, item in value.items()}
    return None if value is None else tuple(shapes(item) for item in value)


@pytest.mark.parametrize("as_tuple", [False, True])
def test_all_that_a_wrapped_model_returns_has_the_bare_shapes(model, images, as_tuple):
    model.set_attn_implementation("eager")
    options = {"return_dict": False} if as_tuple else {}
    backbone = ttr.adapt(model)
    bare, hooks = call(model, images, **options), hook_count(model)
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=3):
        wrapped = call(model, images, **options)
    assert type(wrapped) is type(bare)
    assert shapes(wrapped) == shapes(bare)
    assert hook_count(model) == hooks
    again = call(model, images, **options)
    torch.testing.assert_close(again, bare, rtol=0, atol=0)


def test_hidden_states_and_attentions_hold_the_bare_models_tokens_in_order(model, images):
    model.set_attn_implementation("eager")
    backbone = ttr.adapt(model)
    blocks, maps = {}, {}
    for index, site in enumerate(backbone.sites.attention):
        site.module.register_forward_hook(lambda m, args, out, index=index: maps.__setitem__(index, out[1]))
    with (
        ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=3),
        capture(backbone.sites.blocks, lambda i, x, kwargs: blocks.__setitem__(i, x)),
    ):
        wrapped = call(model, images)
    layout = backbone.layout.with_test_time(3)
    kept = [i for i in range(layout.length) if not layout.prefix <= i < layout.prefix + 3]
    assert len(wrapped.hidden_states) == DEPTH + 1
    assert len(wrapped.attentions) == DEPTH
    for index in range(DEPTH):
        assert torch.equal(wrapped.hidden_states[index + 1], blocks[index][:, kept])
        assert torch.equal(wrapped.attentions[index], maps[index][:, :, kept][..., kept])
        drawn = layout.select(maps[index][:, :, kept], "test_time", dim=3).sum(dim=-1)
        left = wrapped.attentions[index].sum(dim=-1)
        torch.testing.assert_close(left + drawn, torch.ones_like(left))


@pytest.mark.skipif(
    not hasattr(output_capturing, "selected_hidden_states"),
    reason="this release of transformers returns all hidden states or none",
)
def test_chosen_hidden_states_keep_their_places(images):
    model = scramble(tiny_transformers("Dinov2Model"))
    with ttr.TestTimeRegisters(model, NO_NEURONS, num_registers=2), torch.no_grad():
        some = model(images, output_hidden_states=[0, -1]).hidden_states
    assert [None if x is None else x.shape[1] for x in some] == [17, None, None, 17]


def test_a_fused_attention_returns_no_maps_wrapped_or_not(images):
    model = scramble(tiny_transformers("Dinov2Model"))
    with torch.no_grad():
        bare = model(images, output_attentions=True).attentions
        with ttr.TestTimeRegisters(model, NO_NEURONS, num_registers=2):
            assert model(images, output_attentions=True).attentions == bare == ()


@pytest.mark.parametrize("kind", ["DINOv3ViTModel", "Dinov2WithRegistersModel"])
def test_blank_registers_equal_trained_ones_that_are_zero(kind, images):
    """An independent reference: the library's own registers, which its rotary embedding leaves unturned."""
    model = scramble(tiny_transformers(kind, num_register_tokens=4))
    larger = tiny_transformers(kind, num_register_tokens=6).eval()
    state = dict(model.state_dict())
    zeros = torch.zeros(1, 2, WIDTH)
    state["embeddings.register_tokens"] = torch.cat([state["embeddings.register_tokens"], zeros], dim=1)
    larger.load_state_dict(state)
    with torch.no_grad():
        expected = larger(images).last_hidden_state[:, [*range(5), *range(7, 23)]]
        with ttr.TestTimeRegisters(model, NO_NEURONS, num_registers=2):
            torch.testing.assert_close(model(images).last_hidden_state, expected, **TOLERANCE)
        assert not torch.allclose(model(images).last_hidden_state, expected, atol=1e-3)


def test_what_is_known_of_a_model_comes_from_its_configuration():
    backbone = ttr.adapt(tiny_transformers("DINOv3ViTModel", num_register_tokens=4, image_size=[32, 48]))
    assert backbone.name == "transformers DINOv3ViTModel"
    assert (backbone.layout.cls, backbone.layout.registers, backbone.layout.grid) == (1, 4, (4, 6))
    assert (backbone.num_layers, backbone.num_neurons, backbone.num_heads) == (3, 96, 2)
    swiglu = ttr.adapt(tiny_transformers("Dinov2Model", use_swiglu_ffn=True))
    assert swiglu.num_neurons == swiglu.model.encoder.layer[0].mlp.down_proj.in_features == 64


def test_a_whole_clip_or_siglip_model_embeds_as_it_does_itself(images):
    for kind in (transformers.CLIPModel, transformers.SiglipModel):
        vision = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": 2}
        vision |= {"intermediate_size": 48, "image_size": SIZE, "patch_size": 8}
        text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        text |= {"vocab_size": 100, "projection_size": WIDTH}
        model = scramble(kind(kind.config_class(vision_config=vision, text_config=text)))
        backbone = ttr.adapt(model)
        with ttr.TestTimeRegisters(backbone, neurons_of(backbone)), torch.no_grad():
            expected = model.get_image_features(images).pooler_output
            assert torch.equal(backbone.embed(images), expected)
        assert not torch.allclose(backbone.embed(images), expected, atol=1e-4)


def test_the_feature_of_a_classifier_is_what_its_classifier_is_given(images):
    """CLS and the mean of the patches for DINOv2, their mean alone for SigLIP; no register is in it."""
    vision = {"image_size": SIZE, "patch_size": 8, "hidden_size": WIDTH, "num_hidden_layers": DEPTH}
    vision |= {"num_attention_heads": 2, "intermediate_size": 96}
    config = transformers.SiglipConfig(vision_config=vision, num_labels=5)
    for model in (
        tiny_transformers("Dinov2ForImageClassification", num_labels=5),
        transformers.SiglipForImageClassification(config),
    ):
        backbone = ttr.adapt(scramble(model))
        assert backbone.pooling == "classifier"
        for registers in (0, 2):
            wrap = ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=registers)
            with torch.no_grad(), wrap:
                own = model.classifier(backbone.embed(images))
                torch.testing.assert_close(own, model(images).logits, **TOLERANCE)


def test_siglip_has_no_cls_and_says_so(images):
    backbone = ttr.adapt(scramble(tiny_transformers("SiglipVisionModel")))
    assert backbone.tokens(images).cls is None
    with pytest.raises(ModelError, match="has no CLS token"):
        record(backbone, images, attention=True)
    with pytest.raises(ModelError, match="without its pooling head.*vision_use_head=True"):
        ttr.adapt(tiny_transformers("SiglipVisionModel", vision_use_head=False))


def test_mae_keeps_its_patches_in_order_and_refuses_to_hide_any(images, tmp_path):
    hiding = tiny_transformers("ViTMAEForPreTraining", decoder_hidden_size=WIDTH, decoder_num_hidden_layers=1)
    with pytest.raises(
        ModelError, match=r"hides 75 % of the patches at random; set model\.config\.mask_ratio"
    ):
        ttr.adapt(hiding)
    hiding.config.mask_ratio = 0.0
    model = scramble(hiding)
    backbone = ttr.adapt(model)
    sister = transformers.ViTModel(transformers.ViTConfig(**model.config.to_dict()), add_pooling_layer=False)
    sister.eval().load_state_dict(model.vit.state_dict())
    with torch.no_grad():
        expected = sister(images).last_hidden_state
    torch.testing.assert_close(backbone.tokens(images).patches, expected[:, 1:], **TOLERANCE)
    torch.testing.assert_close(backbone.embed(images), expected[:, 0], **TOLERANCE)
    blank = ttr.TestTimeRegisters(backbone, NO_NEURONS, num_registers=2)
    by_hand = tokens_by_hand(sister.layers, lambda: sister(images), 1, 2)
    with blank:
        tokens = backbone.tokens(images)
        assert model(images).logits.shape == (5, 16, 192)  # its own call, shuffled and decoded
    torch.testing.assert_close(tokens.patches, sister.layernorm(by_hand)[:, 3:], **TOLERANCE)
    model.config.mask_ratio = 0.75
    loaded = ttr.load(f"transformers:{save(model, tmp_path)}")
    torch.testing.assert_close(loaded.embed(images), expected[:, 0], **TOLERANCE)


def test_siglip_2_gets_the_patches_that_its_own_processor_cuts(tmp_path):
    """Also of images that are no squares; a processor that cuts to patches is no preprocessing of ours."""
    model = scramble(tiny_transformers("Siglip2VisionModel", num_patches=16))
    processor = transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=24)
    backbone = ttr.adapt(model)
    assert (backbone.image_size, backbone.layout.grid) == ((SIZE, SIZE), (4, 4))
    picture = Image.effect_noise((48, 32), 60).convert("RGB")
    cut = processor(picture, return_tensors="pt")
    assert cut["spatial_shapes"].tolist() == [[4, 6]]
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(32, 48, 3)
    image = (pixels.permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    with torch.no_grad():
        expected = model(**cut).pooler_output
        torch.testing.assert_close(backbone.embed(image), expected, **TOLERANCE)
        by_hand = tokens_by_hand(model.encoder.layers, lambda: backbone.embed(image), 0, 2)
        with ttr.TestTimeRegisters(backbone, NO_NEURONS, num_registers=2):
            wrapped = backbone.embed(image)
            torch.testing.assert_close(model(**cut).pooler_output, wrapped, **TOLERANCE)
            patches = backbone.tokens(image).patches
    torch.testing.assert_close(patches, model.post_layernorm(by_hand)[:, 2:], **TOLERANCE)
    assert not torch.allclose(wrapped, expected, atol=1e-4)
    with pytest.raises(ModelError, match="Siglip2ImageProcessor makes no image of a fixed size"):
        ttr.adapt(model, preprocess=processor)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert ttr.load(f"transformers:{tmp_path}").preprocess_image is None


@pytest.mark.slow
def test_siglip_2_is_not_exported(tmp_path):
    """It resizes its positions image by image, in Python."""
    backbone = ttr.adapt(scramble(tiny_transformers("Siglip2VisionModel", num_patches=16)))
    with pytest.raises(ModelError, match="cannot be traced"):
        ttr.export(backbone, NO_NEURONS, tmp_path / "siglip2.pt2", format="pt2")


@pytest.mark.parametrize("kind", ["Dinov2Backbone", "Dinov2WithRegistersBackbone", "DINOv3ViTBackbone"])
def test_feature_maps_of_a_backbone_hold_no_registers(kind, images):
    options = {} if kind == "Dinov2Backbone" else {"num_register_tokens": 2}
    model = scramble(tiny_transformers(kind, out_features=["stage2", "stage3"], **options))
    backbone = ttr.adapt(model)
    with torch.no_grad():
        bare = model(images).feature_maps
        with ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=2):
            wrapped = model(images).feature_maps
            patches = backbone.tokens(images).patches
    assert [x.shape for x in wrapped] == [x.shape for x in bare]
    torch.testing.assert_close(wrapped[-1], backbone.layout.to_grid(patches).permute(0, 3, 1, 2), **TOLERANCE)
    assert not torch.allclose(wrapped[-1], bare[-1], atol=1e-3)


def around(kind):
    """Build a tiny model of a class that holds a tower, whose configuration may be one of image and text."""
    if not hasattr(getattr(transformers, kind).config_class(), "vision_config"):
        return tiny_transformers(kind, mask_ratio=0.0, encoder_stride=8, decoder_hidden_size=WIDTH)
    vision = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": 2, "num_labels": 3}
    vision |= {"intermediate_size": 48, "image_size": SIZE, "patch_size": 8, "num_patches": 16}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text |= {"vocab_size": 100, "projection_size": WIDTH}
    model = getattr(transformers, kind)
    if issubclass(model.config_class, transformers.CLIPVisionConfig):
        return tiny_transformers(kind)
    return model(model.config_class(vision_config=vision, text_config=text))


@pytest.mark.parametrize("kind", sorted(AROUND))
def test_every_class_around_a_tower_is_known_by_it(kind, images):
    model = scramble(around(kind))
    backbone = ttr.adapt(model)
    assert backbone.sites.tower is getattr(model, AROUND[kind])
    bare = backbone.embed(images)
    assert (bare.shape[0], bare.ndim, bare.isfinite().all()) == (5, 2, True)
    with ttr.TestTimeRegisters(model, neurons_of(backbone)):
        assert not torch.allclose(backbone.embed(images), bare, atol=1e-4)


def test_the_feature_of_a_vit_is_no_poolers_and_deits_second_token(images):
    """A checkpoint without a pooler gets a random one."""
    model = scramble(tiny_transformers("DeiTModel"))
    backbone = ttr.adapt(model)
    assert (backbone.layout.cls, backbone.layout.registers) == (1, 1)
    with torch.no_grad():
        assert torch.equal(backbone.embed(images), model(images).last_hidden_state[:, 0])


def test_a_model_of_another_build_is_refused_by_what_it_lacks():
    model = tiny_transformers("Dinov2Model")
    del model.layernorm
    with pytest.raises(ModelError, match=r"built otherwise.*no attribute 'layernorm'.*\[transformers\]"):
        ttr.adapt(model)


def test_other_image_sizes(images):
    dino = ttr.adapt(scramble(tiny_transformers("Dinov2Model")))
    assert dino.tokens(torch.zeros(1, 3, 48, 32)).grid == (6, 4)
    with pytest.raises(ModelError, match="got images of 36x32 px, .* takes multiples of its 8x8 px patches"):
        dino.embed(torch.zeros(1, 3, 36, 32))
    clip = ttr.adapt(scramble(tiny_transformers("CLIPVisionModel")))
    with pytest.raises(ModelError, match="got images of 48x48 px, but .* takes 32x32 px"):
        clip.embed(torch.zeros(1, 3, 48, 48))


def save(model, directory, **processor):
    model.save_pretrained(directory)
    if processor:
        transformers.BitImageProcessor(**processor).save_pretrained(directory)
    return directory


CROP = {"size": {"shortest_edge": 36}, "crop_size": {"height": SIZE, "width": SIZE}}


def test_a_directory_gives_the_model_its_weights_and_its_preprocessing(model, images, tmp_path, capfd):
    directory = save(model, tmp_path / "saved", **CROP)
    capfd.readouterr()
    state = torch.random.get_rng_state()
    loaded = ttr.load(f"transformers:{directory}")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")
    assert loaded.name == "transformers:saved"  # results carry it, and no path of this machine
    assert str(loaded.weights) == "file (saved)"
    assert type(loaded.model) is type(model)
    assert not loaded.model.training
    assert torch.equal(loaded.embed(images), ttr.adapt(model).embed(images))


def test_the_directory_of_a_repository_keeps_the_repositorys_name(tmp_path):
    directory = save(scramble(tiny_transformers("Dinov2Model")), tmp_path / "mine")
    loaded = ttr.load("transformers:somebody/something", weights=directory)
    assert (loaded.name, str(loaded.weights)) == ("transformers:somebody/something", "file (mine)")
    with pytest.raises(
        ModelError, match=r"file \(mine\) is not transformers:microsoft/rad-dino.*\(8, 0, 24\)"
    ):
        ttr.load("rad-dino", weights=directory)


@pytest.mark.parametrize("backend", ["torchvision", "pil"])
def test_preprocessing_is_the_directorys_own(tmp_path, backend, monkeypatch):
    directory = save(tiny_transformers("Dinov2Model"), tmp_path, **CROP)
    from transformers.models.auto import image_processing_auto

    monkeypatch.setattr(image_processing_auto, "is_torchvision_available", lambda: backend == "torchvision")
    image = Image.effect_noise((90, 60), 60)
    loaded = ttr.load(f"transformers:{directory}")
    assert loaded.preprocess_image.processor.__class__.__name__.endswith("Pil") == (backend == "pil")
    own = transformers.AutoImageProcessor.from_pretrained(directory, backend=backend)
    expected = own(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
    assert torch.equal(loaded.preprocess(image), expected)
    larger = ttr.load(f"transformers:{directory}", image_size=64)
    sizes = {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}
    expected = own(image.convert("RGB"), return_tensors="pt", **sizes)["pixel_values"][0]
    assert torch.equal(larger.preprocess(image), expected)


def test_the_preprocessing_sets_the_image_size_unless_one_is_asked_for(tmp_path, images):
    """As published: dinov2-base has position embeddings for 518 px and is fed 224 px."""
    directory = save(scramble(tiny_transformers("Dinov2Model", image_size=64)), tmp_path, **CROP)
    loaded = ttr.load(f"transformers:{directory}")
    assert (loaded.image_size, loaded.layout.grid) == ((SIZE, SIZE), (4, 4))
    assert loaded.embed(images).shape == (5, WIDTH)
    assert ttr.load(f"transformers:{directory}", image_size=64).layout.grid == (8, 8)
    with pytest.raises(ModelError, match="image_size=7 holds no patch"):
        ttr.load(f"transformers:{directory}", image_size=7)


def test_an_image_size_is_interpolated_by_the_models_own_rule(model, tmp_path):
    name = f"transformers:{save(model, tmp_path)}"
    backbone = ttr.load(name, image_size=48)
    assert (backbone.image_size, backbone.layout.grid) == ((48, 48), (6, 6))
    larger = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    tower = backbone.sites.tower
    takes_a_flag = type(tower).__name__.startswith(("CLIP", "Siglip", "ViT", "IJepa"))
    with torch.no_grad():
        expected = own_output(
            backbone.model, larger, **({"interpolate_pos_encoding": True} if takes_a_flag else {})
        )
        assert torch.equal(backbone.embed(larger), expected)
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=2):
        assert backbone.tokens(larger).grid == (6, 6)


def test_without_preprocessing_only_tensors_are_taken(tmp_path, images):
    loaded = ttr.load(f"transformers:{save(tiny_transformers('Dinov2Model'), tmp_path)}")
    assert loaded.embed(images).shape == (5, WIDTH)
    with pytest.raises(ModelError, match="came without preprocessing"):
        loaded.preprocess(Image.new("RGB", (40, 40)))
    directory = save(tiny_transformers("Dinov2Model"), tmp_path / "free", **CROP, do_center_crop=False)
    assert ttr.load(f"transformers:{directory}").preprocess_image is None
    (directory / "preprocessor_config.json").write_text("{")
    with pytest.raises(ModelError, match="image processor of .* could not be read"):
        ttr.load(f"transformers:{directory}")


@pytest.mark.parametrize(
    "said",
    [
        {"size": {"shortest_edge": 10**6}},
        {"size": {"shortest_edge": -36}},
        {"crop_size": {"height": 0, "width": SIZE}},
        {"image_mean": [0.5] * 4},
        {"image_std": [0.0] * 3},
        {"resample": 99},
    ],
)
def test_preprocessing_that_makes_no_input_is_refused_with_the_model(tmp_path, said):
    directory = save(tiny_transformers("Dinov2Model"), tmp_path, **CROP)
    told = json.loads((directory / "preprocessor_config.json").read_text())
    (directory / "preprocessor_config.json").write_text(json.dumps({**told, **said}))
    with pytest.raises(ModelError, match="the image processor of .*; mend its preprocessor_config.json"):
        ttr.load(f"transformers:{directory}")


def test_a_strip_is_not_resized_without_measure_ahead_of_the_crop(tmp_path):
    directory = save(tiny_transformers("Dinov2Model"), tmp_path, **{**CROP, "size": {"shortest_edge": 4000}})
    backbone = ttr.load(f"transformers:{directory}")
    with pytest.raises(ImageError, match="would be resized to 4,000 × 160,000"):
        backbone.preprocess(Image.new("RGB", (400, 10)))


def test_weights_that_are_a_pipe_are_not_waited_for(tmp_path):
    save(tiny_transformers("Dinov2Model"), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="model.safetensors is no regular file"):
        ttr.load(f"transformers:{tmp_path}")


class Exploit:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_directory_of_pickles_is_refused_and_nothing_is_executed(tmp_path, capsys):
    save(tiny_transformers("Dinov2Model"), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Exploit()))
    with pytest.raises(ModelError, match=r"holds no \.safetensors file, and pickled weights are never"):
        ttr.load(f"transformers:{tmp_path}")
    assert "executed" not in capsys.readouterr().out


def test_code_of_a_repository_is_not_executed(tmp_path, images, capsys):
    """A configuration may point at code beside it; the library's class is used, or the model refused."""
    save(tiny_transformers("Dinov2Model"), tmp_path, **CROP)
    (tmp_path / "evil.py").write_text("print('executed')")
    for file, auto in (
        ("config.json", {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}),
        ("preprocessor_config.json", {"AutoImageProcessor": "evil.Processor"}),
    ):
        told = json.loads((tmp_path / file).read_text())
        (tmp_path / file).write_text(json.dumps({**told, "auto_map": auto}))
    assert ttr.load(f"transformers:{tmp_path}").embed(images).shape == (5, WIDTH)
    told["image_processor_type"] = "EvilProcessor"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**told, "auto_map": auto}))
    with pytest.raises(ModelError, match="image processor of .* could not be read"):
        ttr.load(f"transformers:{tmp_path}")
    assert "executed" not in capsys.readouterr().out


def test_directories_that_do_not_hold_a_model_that_we_know(tmp_path):
    directory = save(transformers.YolosModel(transformers.YolosConfig(**YOLOS)), tmp_path / "yolos")
    with pytest.raises(ModelError, match=r"holds YolosModel \(yolos\); needed one of: Dinov2Model, "):
        ttr.load(f"transformers:{directory}")
    directory = save(tiny_transformers("Dinov2Model"), tmp_path / "dino")
    told = json.loads((directory / "config.json").read_text())
    for change, complaint in (
        ({"architectures": None}, r"holds a model without a class name \(dinov2\)"),
        ({"num_hidden_layers": 4}, "keys .* missing or of another shape .*encoder.layer.3"),
        ({"hidden_size": 48}, "could not be loaded|of another shape"),
    ):
        (directory / "config.json").write_text(json.dumps({**told, **change}))
        with pytest.raises(ModelError, match=complaint):
            ttr.load(f"transformers:{directory}")
    (directory / "config.json").write_text("{")
    with pytest.raises(ModelError, match="could not be loaded .*check its config.json"):
        ttr.load(f"transformers:{directory}")
    (directory / "config.json").unlink()
    with pytest.raises(ModelError, match="no directory with a config.json"):
        ttr.load("transformers:somebody/something", weights=directory)


def test_sources_that_are_none_or_two(tmp_path):
    directory = save(tiny_transformers("Dinov2Model"), tmp_path)
    with pytest.raises(ModelError, match="weights of its own"):
        ttr.load(f"transformers:{directory}", weights=directory)
    with pytest.raises(ModelError, match="weights of its own"):
        ttr.load(f"transformers:{directory}", pretrained=True)
    for name in ("nowhere/at/all", "somebody/something", "/nowhere"):
        with pytest.raises(ModelError, match=f"{name} is no directory here; give one with config.json"):
            ttr.load(f"transformers:{name}")


@pytest.mark.parametrize("with_processor", [True, False])
def test_a_repository_of_the_hub_is_fetched_checked_and_read_from_the_cache(hub, tmp_path, with_processor):
    model = tiny_transformers("Dinov2WithRegistersModel")
    directory = save(model, tmp_path)
    files = {path.name: path.read_bytes() for path in directory.iterdir()}
    if with_processor:
        own = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 32}}
        own |= {"do_resize": True, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
        files["preprocessor_config.json"] = json.dumps(own).encode()
    hub.publish("lab/dino", files)
    for transfers in (2 + with_processor, 0):
        hub.requests.clear()
        backbone = ttr.load("transformers:lab/dino", pretrained=True)
        assert len(hub.transfers()) == transfers
        commit = hub.commit("lab/dino")[:12]
        assert str(backbone.weights) == f"pretrained (lab/dino, commit {commit})"
        assert (backbone.preprocess_image is not None) == with_processor
        state = backbone.model.state_dict()
        assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    hub.close()
    assert ttr.load("transformers:lab/dino", pretrained=True).layout == backbone.layout
    with pytest.raises(ModelError, match=r"out of reach .* microsoft/rad-dino is not in the cache"):
        ttr.load("rad-dino", pretrained=True)


def test_without_the_library_the_extra_is_named(monkeypatch, tmp_path):
    directory = save(tiny_transformers("Dinov2Model"), tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"needs the transformers library; pip install '\.\[t"):
        ttr.load(f"transformers:{directory}")


def test_copies_of_a_wrapped_model_and_a_second_wrap(images):
    model = scramble(tiny_transformers("CLIPVisionModel"))
    with ttr.TestTimeRegisters(model, NO_NEURONS, num_registers=2):
        assert copy.deepcopy(model)(images).last_hidden_state.shape == (5, 17, WIDTH)
        with pytest.raises(ModelError, match="wrapped already"):
            ttr.TestTimeRegisters(model, NO_NEURONS).install()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (torch.Tensor.cfloat, r"layernorm\.weight of .*model\.safetensors is of type C64; needed F16, BF16"),
        (torch.Tensor.int, r"layernorm\.weight of .*model\.safetensors is of type I32"),
        (lambda x: x * torch.nan, r"layernorm\.weight of transformers:.* holds 24 NaN of 24 values"),
    ],
)
def test_a_directory_whose_weights_are_no_finite_floats_is_refused(tmp_path, change, complaint):
    directory = save(scramble(tiny_transformers("Dinov2Model")), tmp_path, **CROP)
    state = load_file(directory / "model.safetensors")
    state["layernorm.weight"] = change(state["layernorm.weight"])
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=complaint):
        ttr.load(f"transformers:{directory}")


def test_what_a_copy_beside_the_model_collects_is_its_own(images):
    model = scramble(tiny_transformers("Dinov2Model"))
    wrap = ttr.TestTimeRegisters(model, neurons_of(ttr.adapt(model)), num_registers=2)
    bare = call(model, images)
    with wrap:
        wrapped = call(model, images)
    beside = wrap.copy().model
    for each, expected in ((beside, wrapped), (model, bare), (beside, wrapped)):
        torch.testing.assert_close(call(each, images).hidden_states, expected.hidden_states, rtol=0, atol=0)


def test_lists_that_transformers_collects_are_bare_whenever_its_hooks_came(images):
    """They are laid at the first call that asks for lists: before the wrap, or while it stands."""
    first = scramble(tiny_transformers("Dinov2Model"))
    found = []
    for model, before in ((copy.deepcopy(first), True), (first, False)):
        if before:
            call(model, images)
        with ttr.TestTimeRegisters(model, ttr.RegisterNeurons.from_pairs([(1, 3)]), num_registers=2):
            found.append(call(model, images).hidden_states)
    assert [each.shape[1] for each in found[0]] == [17] * (DEPTH + 1)
    torch.testing.assert_close(*found, rtol=0, atol=0)
