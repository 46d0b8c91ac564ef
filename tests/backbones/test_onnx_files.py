"""Weights of ONNX exports: each where it belongs, whatever their order and names; and files that lie."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import ttr
from tests.tools.tiny_models import DINOV3, scramble, tiny_eva, tiny_transformers, tiny_vit
from ttr.backbones.checkpoint_files import load_weights
from ttr.backbones.onnx_files import read_onnx
from ttr.errors import ModelError

IMAGES = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
SOURCES: dict[str, Callable[[], nn.Module]] = {
    "timm": lambda: tiny_vit(init_values=0.5, num_classes=5),
    "timm-no-bias": lambda: tiny_vit(qkv_bias=False),
    "timm-reg4": lambda: tiny_vit(reg_tokens=4, no_embed_class=True),
    "dinov2": lambda: tiny_transformers("Dinov2Model", layerscale_value=0.5),
    "vit": lambda: tiny_transformers("ViTModel"),
    "dinov3": lambda: tiny_transformers("DINOv3ViTModel", num_register_tokens=4),
}


def export(model: nn.Module, path: Path, **options: object) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (IMAGES,), str(path), verbose=False, **options)
    return path


def shuffled(path: Path) -> Path:
    """Put the initialisers into another order, and take the names off those that are anonymous."""
    model = onnx.load(str(path))
    kept = list(model.graph.initializer)
    random.Random(1).shuffle(kept)
    names = {
        tensor.name: f"t{i}"
        for i, tensor in enumerate(kept)
        if "." not in tensor.name and "::" in tensor.name
    }
    for tensor in kept:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.save(model, str(path))
    return path


def assert_holds(path: Path, source: nn.Module) -> None:
    read, expected = read_onnx(path), source.state_dict()
    missing = {key for key in expected if key not in read and "mask_token" not in key}
    assert missing == set()
    assert {key for key in read if key not in expected and "rope" not in key} == set()
    assert all(torch.equal(value, expected[key]) for key, value in read.items() if key in expected)


@pytest.mark.parametrize("kind", SOURCES)
def test_every_weight_of_an_export_is_found_by_what_the_graph_does_with_it(kind, tmp_path):
    source = scramble(SOURCES[kind](), seed=5)
    assert_holds(shuffled(export(source, tmp_path / "m.onnx", dynamo=False)), source)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*SOURCES, "eva"])
@pytest.mark.parametrize("apart", [True, False])
def test_every_weight_of_the_newer_exporter_is_found(kind, apart, tmp_path):
    source = scramble({**SOURCES, "eva": lambda: tiny_eva(**DINOV3)}[kind](), seed=5)
    assert_holds(export(source, tmp_path / "m.onnx", dynamo=True, external_data=apart), source)


@pytest.mark.parametrize("kind", ["timm", "dinov2"])
def test_an_export_fills_an_architecture(kind, tmp_path):
    source = scramble(SOURCES[kind](), seed=5)
    path = export(source, tmp_path / "m.onnx", dynamo=False)
    model = tiny_vit(init_values=1.0).eval()
    said = load_weights(model, path, "ours")
    assert str(said) == ("file (m.onnx; left out: head)" if kind == "timm" else "file (m.onnx)")
    with torch.no_grad():
        theirs = source.forward_features(IMAGES) if kind == "timm" else source(IMAGES).last_hidden_state
        torch.testing.assert_close(model.forward_features(IMAGES), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("type_", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("raw", [True, False])
def test_types_are_read_as_they_were_saved(type_, raw, tmp_path):
    values = torch.tensor([[0.5, -2.0, 3.0]], dtype=getattr(torch, type_))
    kind = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16, "float64": TensorProto.DOUBLE}[
        type_
    ]
    saved = helper.make_tensor("a.weight", kind, [1, 3], values.float().tolist())
    if raw:
        content = values.view(torch.uint8).numpy().tobytes()
        saved = helper.make_tensor("a.weight", kind, [1, 3], content, raw=True)
    read = read_onnx(write(tmp_path / "m.onnx", saved))["a.weight"]
    assert torch.equal(read.double(), values.double())


def write(path: Path, *tensors: TensorProto) -> Path:
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], list(tensors))), str(path))
    return path


def outside(location: str, shape: tuple[int, ...] = (3,), **more: str) -> TensorProto:
    saved = TensorProto(name="a.weight", dims=shape, data_type=TensorProto.FLOAT)
    saved.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        saved.external_data.add(key=key, value=value)
    return saved


def test_weights_beside_the_file_are_read_from_where_they_lie(tmp_path):
    (tmp_path / "m.data").write_bytes(np.arange(5, dtype=np.float32).tobytes())
    path = write(tmp_path / "m.onnx", outside("m.data", offset="8", length="12"))
    assert read_onnx(path)["a.weight"].tolist() == [2, 3, 4]


@pytest.mark.parametrize("way", ["up", "absolute", "link", "none", "folder"])
def test_weights_outside_the_folder_are_not_read(way, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(12))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(secret)
    location = {"up": "../secret", "absolute": str(secret), "link": "link", "none": "gone", "folder": ""}[way]
    with pytest.raises(ModelError, match="no file of the same folder; put both files into one folder"):
        read_onnx(write(folder / "m.onnx", outside(location)))


@pytest.mark.parametrize(
    "saved",
    [
        lambda: outside("m.data", (10**6,)),
        lambda: outside("m.data", (3,), offset="8"),
        lambda: TensorProto(name="a.weight", dims=(10**12,), data_type=TensorProto.FLOAT, raw_data=bytes(12)),
        lambda: TensorProto(name="a.weight", dims=(10**12,), data_type=TensorProto.FLOAT, float_data=[1.0]),
    ],
)
def test_sizes_are_not_believed(saved, tmp_path):
    (tmp_path / "m.data").write_bytes(bytes(12))
    with pytest.raises(ModelError, match=r"bytes and claims .*take an undamaged copy"):
        read_onnx(write(tmp_path / "m.onnx", saved()))


@pytest.mark.parametrize(
    ("saved", "cause"),
    [
        (lambda: outside("m.data", (3,), offset="-4"), "begins at byte '-4' of m.data, which has 12"),
        (lambda: outside("m.data", (3,), offset="much"), "begins at byte 'much' of m.data, which has 12"),
        (lambda: outside("m.data", (3,), offset="9" * 5000), "begins at byte '9+"),
        (lambda: outside("m.data", (-3, -1)), r"claims the shape \(-3, -1\), below zero"),
        (
            lambda: TensorProto(
                name="a.weight", dims=(-1, -3), data_type=TensorProto.FLOAT, raw_data=b"1" * 12
            ),
            r"claims the shape \(-1, -3\), below zero",
        ),
    ],
)
def test_a_place_or_a_shape_that_cannot_be_is_called_so(saved, cause, tmp_path):
    (tmp_path / "m.data").write_bytes(bytes(12))
    with pytest.raises(ModelError, match=cause):
        read_onnx(write(tmp_path / "m.onnx", saved()))


def cached(tmp_path: Path, place: str) -> Path:
    """Lay out the hub's cache: a model in ``place`` of a snapshot, and its data, linked to their blobs."""
    repository = tmp_path / "models--someone--vit"
    blobs, snapshot = repository / "blobs", repository / "snapshots" / "0a1b" / place
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    write(blobs / "aaaa", outside("model.onnx_data"))
    (blobs / "bbbb").write_bytes(np.arange(3, dtype=np.float32).tobytes())
    for name, blob in (("model.onnx", "aaaa"), ("model.onnx_data", "bbbb")):
        up = Path("../" * (2 + bool(place))) / "blobs" / blob
        (snapshot / name).symlink_to(up)
    return snapshot


@pytest.mark.parametrize("place", ["", "onnx"])
def test_the_hubs_cache_links_a_model_and_its_data_to_blobs(place, tmp_path):
    model = cached(tmp_path, place) / "model.onnx"
    assert read_onnx(model)["a.weight"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("way", ["another repository", "no cache", "blobs elsewhere"])
def test_no_other_link_out_of_a_snapshot_is_followed(way, tmp_path):
    snapshot, secret = cached(tmp_path, ""), tmp_path / "models--other" / "blobs" / "secret"
    secret.parent.mkdir(parents=True)
    secret.write_bytes(bytes(12))
    repository = snapshot.parent.parent
    if way == "no cache":
        repository = repository.rename(tmp_path / "vit")
    elif way == "blobs elsewhere":
        (repository / "blobs").rename(tmp_path / "blobs")
        (repository / "blobs").symlink_to(tmp_path / "blobs")
    else:
        (snapshot / "model.onnx_data").unlink()
        (snapshot / "model.onnx_data").symlink_to(secret)
    with pytest.raises(ModelError, match="no file of the same folder"):
        read_onnx(repository / "snapshots" / "0a1b" / "model.onnx")


def test_the_same_bytes_do_not_count_twice(tmp_path):
    """Thousands of tensors may point to one small file."""
    (tmp_path / "m.data").write_bytes(bytes(12))
    first, second = outside("m.data"), outside("m.data")
    second.name = "b.weight"
    with pytest.raises(ModelError, match="b.weight .* holds 0 bytes and claims 12"):
        read_onnx(write(tmp_path / "m.onnx", first, second))


def test_a_graph_in_a_circle_ends(tmp_path):
    nodes = [
        helper.make_node("Identity", ["a.bias"], ["b.bias"]),
        helper.make_node("Identity", ["b.bias"], ["a.bias"]),
        helper.make_node("Transpose", ["t"], ["t"]),
        helper.make_node("Conv", ["image", "patch_embed.proj.weight"], ["c"]),
        helper.make_node("Reshape", ["c"], ["c"]),
        helper.make_node("Concat", ["t", "c"], ["t"]),
    ]
    kernel = numpy_helper.from_array(np.zeros((2, 3, 1, 1), np.float32), "patch_embed.proj.weight")
    graph = helper.make_graph(nodes, "g", [], [], [kernel])
    onnx.save(helper.make_model(graph), str(tmp_path / "m.onnx"))
    assert set(read_onnx(tmp_path / "m.onnx")) == {"patch_embed.proj.weight"}


def test_what_is_no_onnx_and_what_is_quantised_is_refused_by_name(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"\x08\xff\xff")
    with pytest.raises(
        ModelError, match=r"m.onnx is no readable ONNX model \(DecodeError\); take an undamag"
    ):
        ttr.load("timm:vit_tiny_patch16_224", weights=tmp_path / "m.onnx")
    with pytest.raises(
        ModelError, match="m.onnx is an ONNX file without named weights; export the model anew"
    ):
        read_onnx(write(tmp_path / "m.onnx"))
    path = export(tiny_vit(), tmp_path / "q.onnx", dynamo=False)
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        if tensor.name.startswith("onnx::MatMul"):
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(tensor.dims, np.int8), tensor.name))
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=r"keys 12 missing \(such as blocks.0.attn.proj.weight\)"):
        load_weights(tiny_vit(), path, "ours")


def test_a_file_larger_than_the_format_allows_is_refused_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("ttr.backbones.onnx_files._MOST_BYTES", 10)
    with pytest.raises(ModelError, match=r"m.onnx cannot be read \(it has .* MiB, and at most 0 are read\)"):
        read_onnx(write(tmp_path / "m.onnx", outside("m.data")))


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ModelError, match=r"m.onnx needs the onnx package; pip install '\.\[real\]' in ttr's checkout"
    ):
        ttr.load("timm:vit_tiny_patch16_224", weights=path)
