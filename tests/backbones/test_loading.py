"""Loading by name and from files, adapting from memory, and every refusal."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import ttr
from tests.tools.tiny_models import scramble, tiny_clip, tiny_eva, tiny_vit
from ttr.backbones import families
from ttr.errors import ImageError, ModelError, OptionError

NAME = "timm:vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def tiny():
    return ttr.load(NAME)


def test_random_weights_are_seeded_and_said(tiny):
    assert str(tiny.weights) == "random (seed 0)"
    assert tiny.name == NAME
    assert (tiny.num_layers, tiny.num_neurons, tiny.num_heads) == (12, 768, 3)
    assert not tiny.model.training
    torch.manual_seed(123)
    assert ttr.load(NAME).weights_hash == tiny.weights_hash


def test_loading_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    ttr.load(NAME)
    ttr.load("open_clip:ViT-S-32")
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.parametrize(
    ("suffix", "wrapped"),
    [
        *((".safetensors", False), (".pth", True), (".pt", False)),
        pytest.param(".pth", False, marks=pytest.mark.slow),
        pytest.param(".pt", True, marks=pytest.mark.slow),
    ],
)
def test_weights_come_from_a_file_whatever_its_container(tiny, tmp_path, suffix, wrapped):
    model = scramble(ttr.load(NAME).model, seed=4)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}} if wrapped else state, path)
    loaded = ttr.load(NAME, weights=path)
    assert str(loaded.weights) == f"file (weights{suffix})"
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.embed(images), ttr.adapt(model).embed(images))
    assert loaded.weights_hash != tiny.weights_hash


def test_a_file_of_another_architecture_is_refused(tmp_path):
    path = tmp_path / "small.safetensors"
    save_file(
        {k: v.contiguous() for k, v in ttr.load("timm:vit_small_patch16_224").model.state_dict().items()},
        path,
    )
    with pytest.raises(ModelError, match="does not hold weights of timm:vit_tiny.*of another shape"):
        ttr.load(NAME, weights=path)
    save_file({"something": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="missing.*unknown"):
        ttr.load(NAME, weights=path)


class Exploit:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_is_never_executed(tmp_path, capsys):
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Exploit()))
    with pytest.raises(ModelError, match="no checkpoint that can be read safely"):
        ttr.load(NAME, weights=path)
    torch.save({"state_dict": Exploit()}, path)
    with pytest.raises(ModelError, match="no checkpoint that can be read safely"):
        ttr.load(NAME, weights=path)
    assert "executed" not in capsys.readouterr().out


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    torch.save([1, 2, 3], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="no state dict of tensors"):
        ttr.load(NAME, weights=tmp_path / "list.pt")
    with pytest.raises(ModelError, match="does not exist"):
        ttr.load(NAME, weights=tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("resnet50", "backbone 'resnet50' is not known; needed one of: phantom"),
        ("timm:", "backbone 'timm:' is not known"),
        ("timm:vit_bas_patch16_224", "did you mean vit_base_patch16_224"),
        ("timm:resnet18", "model family timm.models.resnet.ResNet is not known"),
        ("timm:swin_tiny_patch4_window7_224", "model family .*SwinTransformer is not known"),
        ("open_clip:ViT-B-15", "did you mean ViT-B-16"),
        ("open_clip:RN50", "image tower ModifiedResNet of open_clip:RN50 is no Vision Transformer"),
        pytest.param(
            *("open_clip:convnext_base", "image tower ConvNeXt of open_clip:convnext_base is no Vision"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_names_and_families_that_we_do_not_know(name, complaint):
    with pytest.raises(ModelError, match=complaint):
        ttr.load(name)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"image_size": "224"}, "image_size='224'; needed a positive whole number of pixels"),
        ({"image_size": 2.5}, "image_size=2.5; needed"),
        ({"image_size": 0}, "image_size=0; needed"),
        ({"image_size": -1}, "image_size=-1; needed"),
        ({"image_size": True}, "image_size=True; needed"),
        ({"dtype": "float16"}, "dtype='float16'; needed a floating-point type such as torch.float32"),
        ({"dtype": torch.int64}, "dtype=torch.int64; needed a floating-point type"),
        ({"dtype": None}, "dtype=None; needed"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used on this machine; choose cpu"),
        ({"device": "tpu9"}, "device 'tpu9' cannot be used"),
        ({"device": "meta"}, "device 'meta' cannot be used"),
        ({"device": 2.5}, "device '2.5' cannot be used"),
        ({"weights": nn.Linear(1, 1)}, r"weights is a Linear; needed a file, or .*model.state_dict\(\)"),
        ({"weights": b"w.pt"}, "weights is a bytes; needed a file"),
    ],
)
@pytest.mark.parametrize("name", [NAME, "phantom"])
def test_arguments_out_of_range_are_refused_before_anything_is_built(name, arguments, complaint, monkeypatch):
    monkeypatch.setattr("timm.create_model", None)
    with pytest.raises(OptionError, match=complaint):
        ttr.load(name, **arguments)


def test_an_image_smaller_than_a_patch_is_refused():
    with pytest.raises(ModelError, match="image_size=7 holds no patch of .*; needed 16 px or more"):
        ttr.load(NAME, image_size=7)


def test_two_sources_of_weights_are_one_too_many(tmp_path):
    with pytest.raises(ModelError, match="both given"):
        ttr.load(NAME, weights=tmp_path / "w.pt", pretrained=True)
    with pytest.raises(ModelError, match="builds its own weights"):
        ttr.load("phantom", pretrained=True)


@pytest.mark.parametrize(
    ("name", "registers", "size", "grid"),
    [
        ("timm:vit_small_patch14_dinov2", 0, 224, (16, 16)),
        ("timm:vit_small_patch14_reg4_dinov2", 4, 224, (16, 16)),
        ("timm:vit_small_patch16_dinov3", 4, 224, (14, 14)),
        ("open_clip:ViT-S-32", 0, 224, (7, 7)),
    ],
)
def test_layouts_of_real_architectures(name, registers, size, grid):
    backbone = ttr.load(name, image_size=size)
    assert (backbone.layout.cls, backbone.layout.registers, backbone.layout.grid) == (1, registers, grid)
    assert backbone.image_size == (size, size)
    from PIL import Image

    assert backbone.preprocess(Image.new("L", (300, 400))).shape == (3, size, size)


def test_adapting_changes_nothing(images):
    for model in (tiny_vit(), tiny_eva(), tiny_clip()):
        model.train()
        state = {key: value.clone() for key, value in model.state_dict().items()}
        backbone = ttr.adapt(model)
        assert backbone.weights.origin == "in memory"
        assert backbone.model is model
        assert model.training
        assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


def test_dropout_is_off_while_embedding_and_on_again_after(images):
    model = scramble(tiny_vit(proj_drop_rate=0.5, drop_path_rate=0.5)).train()
    backbone = ttr.adapt(model)
    assert torch.equal(backbone.embed(images), backbone.embed(images))
    assert model.training


def test_a_model_without_cls_embeds_as_it_pools(images):
    model = scramble(tiny_vit(class_token=False, global_pool="avg"))
    backbone = ttr.adapt(model)
    assert backbone.layout.prefix == 0
    tokens = backbone.tokens(images)
    assert tokens.cls is None
    with torch.no_grad():
        assert torch.equal(
            backbone.embed(images), model.forward_head(model.forward_features(images), pre_logits=True)
        )
    neurons = ttr.RegisterNeurons.from_pairs([(0, 1)])
    with ttr.TestTimeRegisters(backbone, neurons, num_registers=2):
        assert backbone.embed(images).shape == (5, 24)
        assert backbone.tokens(images).patches.shape == (5, 16, 24)
    with pytest.raises(ModelError, match="has no CLS token"):
        next(ttr.compare(backbone, neurons, images))


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear is not known"),
        (nn.DataParallel(nn.Linear(2, 2)), "DataParallel is not known: it has no module"),
    ],
)
def test_other_modules_are_refused(model, complaint):
    with pytest.raises(ModelError, match=complaint):
        ttr.adapt(model)


def test_blocks_that_we_cannot_read_are_refused_by_name():
    from timm.models.vision_transformer import DiffAttention, ParallelScalingBlock

    with pytest.raises(ModelError, match="block ParallelScalingBlock of .* has no MLP of its own"):
        ttr.adapt(tiny_vit(block_fn=ParallelScalingBlock))
    with pytest.raises(ModelError, match="attention DiffAttention of VisionTransformer is not known"):
        ttr.adapt(tiny_vit(attn_layer=DiffAttention))
    with pytest.raises(ModelError, match="custom attention"):
        ttr.adapt(tiny_clip(qk_norm=True))


def test_batches_that_are_none_are_refused(tiny):
    with pytest.raises(ModelError, match=r"needed \[B, 3, H, W\]"):
        tiny.embed(torch.zeros(3, 224, 224))
    with pytest.raises(ModelError, match="got images of 32x224 px"):
        tiny.embed(torch.zeros(1, 3, 32, 224))


@pytest.mark.parametrize("given", [np.zeros((1, 3, 224, 224)), Image.new("RGB", (9, 9)), [1], None, "a.png"])
def test_what_is_no_tensor_is_refused_with_the_way_to_make_one(tiny, given):
    for call in (tiny.embed, tiny.tokens):
        with pytest.raises(ImageError, match=r"needed a tensor \[B, 3, H, W\]: .*backbone.preprocess"):
            call(given)


@pytest.mark.parametrize("given", [np.zeros((9, 9, 3), np.uint8), torch.zeros(3, 9, 9), None, "a.png"])
def test_what_is_no_picture_is_not_preprocessed(tiny, given):
    with pytest.raises(ImageError, match="needed a PIL image"):
        tiny.preprocess(given)


def test_a_preprocessing_that_cannot_be_called_is_refused():
    with pytest.raises(OptionError, match="preprocess=5; needed a function"):
        ttr.adapt(tiny_vit(), preprocess=5)


def test_a_block_may_be_any_kind_of_integer(tiny):
    assert tiny.layer(np.int64(-1)) == tiny.num_layers - 1
    assert type(tiny.layer(np.int64(-1))) is int


def test_an_image_beyond_the_memory_is_refused(monkeypatch):
    def no_memory(size, registers):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("ttr.backbones.phantoms.recipes._vit", no_memory)
    with pytest.raises(ModelError, match="phantom could not be built .*memory.*; check the image size"):
        ttr.load("phantom", image_size=1_000_000)


@pytest.mark.parametrize(
    "name", ["timm:vit_tiny_patch16_224", pytest.param("open_clip:ViT-S-32", marks=pytest.mark.slow)]
)
def test_a_file_of_another_resolution_is_resampled(tmp_path, name):
    torch.save(ttr.load(name).model.state_dict(), tmp_path / "w.pt")
    backbone = ttr.load(name, weights=tmp_path / "w.pt", image_size=160)
    assert backbone.image_size == (160, 160)
    assert backbone.embed(torch.zeros(1, 3, 160, 160)).isfinite().all()


def test_a_model_taken_out_of_its_backbone_keeps_its_neurons(phantom, phantom_batch, tmp_path):
    neurons = ttr.detect(phantom, phantom_batch)
    neurons.save(tmp_path / "n.json")
    assert ttr.RegisterNeurons.load(tmp_path / "n.json") == neurons
    with ttr.TestTimeRegisters(phantom.model, neurons):
        pass


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda x: x.fill_(torch.nan), r"blocks\.1\.norm1\.weight of VisionTransformer holds 24 NaN of 24"),
        (lambda x: x.cfloat(), r"blocks\.1\.norm1\.weight of VisionTransformer is of type complex64"),
        (lambda x: x.to("meta"), r"blocks\.1\.norm1\.weight of VisionTransformer lies on the meta device"),
        (lambda x: x.to_sparse(), r"blocks\.1\.norm1\.weight of VisionTransformer is not dense"),
        (lambda x: x.char(), r"blocks\.1\.norm1\.weight of VisionTransformer is of type int8"),
    ],
)
def test_a_model_in_memory_whose_weights_are_no_finite_floats_is_refused(change, complaint):
    model = scramble(tiny_vit())
    changed = change(model.blocks[1].norm1.weight.detach().clone())
    model.blocks[1].norm1.weight = torch.nn.Parameter(changed, requires_grad=False)
    for use in (ttr.adapt, lambda model: ttr.TestTimeRegisters(model, ttr.RegisterNeurons.from_pairs([]))):
        with pytest.raises(ModelError, match=complaint):
            use(model)


def test_a_model_without_values_is_described_and_never_gives_a_number(images):
    with torch.device("meta"):
        backbone = ttr.adapt(tiny_vit())
    assert (backbone.layout.patches, backbone.embed(images).shape) == (16, (5, 24))
    neurons = ttr.RegisterNeurons.from_pairs([(0, 1)])
    for use in (
        lambda: ttr.detect(backbone, images),
        lambda: next(ttr.compare(backbone, neurons, images)),
        lambda: ttr.calibrate_bias(backbone, neurons, images),
        lambda: backbone.weights_hash,
    ):
        with pytest.raises(ModelError, match="VisionTransformer lies on the meta device and has no values"):
            use()


def test_a_buffer_with_nan_is_refused_and_a_mask_is_not():
    model = scramble(tiny_vit())
    model.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
    ttr.adapt(model)
    model.mask[0, 0] = torch.nan
    with pytest.raises(ModelError, match="mask of VisionTransformer holds 1 NaN of 9 values"):
        ttr.adapt(model)


def test_weights_that_the_type_asked_for_cannot_hold_are_refused(tiny):
    state = {key: value.clone() for key, value in tiny.model.state_dict().items()}
    state["blocks.0.norm1.weight"][:3] = 1e5
    with pytest.raises(
        ModelError, match=rf"blocks\.0\.norm1\.weight of {NAME} holds 3 infinite of .*float32"
    ):
        ttr.load(NAME, weights=state, dtype=torch.float16)


def test_weights_are_looked_at_once_and_again_after_a_change(monkeypatch):
    looked = []
    monkeypatch.setattr(families.checks, "finite", lambda *given, **options: looked.append(given))
    model = scramble(tiny_vit())
    for _ in range(3):
        ttr.adapt(model)
    assert len(looked) == 2, "parameters and buffers"
    model.load_state_dict(tiny_vit().state_dict())
    ttr.adapt(model)
    assert len(looked) == 4
    monkeypatch.undo()
    with torch.no_grad():
        model.blocks[2].mlp.fc1.bias[0] = torch.nan
    with pytest.raises(ModelError, match=r"blocks\.2\.mlp\.fc1\.bias of VisionTransformer holds 1 NaN of 96"):
        ttr.adapt(model)
