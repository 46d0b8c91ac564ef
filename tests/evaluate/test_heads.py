import json

import pytest
import torch
from safetensors.torch import save_file

from ttr.errors import ModelError
from ttr.evaluate.heads import LinearHead


def head(classes=("a", "b", "c")) -> LinearHead:
    generator = torch.Generator().manual_seed(0)
    return LinearHead(torch.randn(3, 8, generator=generator), torch.randn(3, generator=generator), classes)


def test_a_head_is_the_linear_layer_it_stands_for(tmp_path):
    features = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    layer = torch.nn.Linear(8, 3)
    with torch.no_grad():
        layer.weight.copy_(head().weight)
        layer.bias.copy_(head().bias)
        torch.testing.assert_close(head().logits(features), layer(features))
    assert head().logits(features.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("classes", [("hip", "knee", "ünïcode, with comma"), None])
def test_save_and_load_give_the_same_head(tmp_path, classes):
    head(classes).save(tmp_path / "head.safetensors")
    loaded = LinearHead.load(tmp_path / "head.safetensors")
    assert torch.equal(loaded.weight, head().weight)
    assert torch.equal(loaded.bias, head().bias)
    assert loaded.classes == classes


def test_a_head_that_was_damaged_is_refused_by_name(tmp_path):
    """Ours is sealed; one bit of a weight would be another head. A head of others has no seal."""
    path = tmp_path / "head.safetensors"
    head().save(path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 0x40]))
    for classes in (None, ("x", "y", "z")):
        with pytest.raises(ModelError, match=r"head.safetensors is damaged .*not what was written.*train"):
            LinearHead.load(path, classes)
    save_file({"weight": head().weight, "bias": head().bias}, path)
    assert LinearHead.load(path, ("x", "y", "z")).classes == ("x", "y", "z")
    for names in (5, ["a", 1, "c"], "abc"):
        said = {"head": json.dumps({"schema": "ttr.linear-head/1", "classes": names})}
        save_file({"weight": head().weight, "bias": head().bias}, path, said)
        with pytest.raises(ModelError, match="names its classes otherwise than as a list of words"):
            LinearHead.load(path)


def test_a_predecessors_head_loads_whatever_device_saved_it(tmp_path):
    """A file that names a CUDA device, as the published heads do, loads on a machine without one."""
    path = tmp_path / "best_model_ttr.pth"
    torch.save({"fc.weight": head().weight, "fc.bias": head().bias}, path)
    raw = path.read_bytes()
    assert b"cpu" in raw
    swapped = tmp_path / "best_model_cuda.pth"
    rewrite_location(path, swapped)
    for file in (path, swapped):
        loaded = LinearHead.load(file, classes=["x", "y", "z"])
        assert torch.equal(loaded.weight, head().weight)
        assert loaded.classes == ("x", "y", "z")
    assert LinearHead.load(swapped).classes is None
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(swapped, weights_only=True)


def rewrite_location(source, target):
    """Copy a torch archive with every storage's location changed from cpu to cuda:0."""
    import zipfile

    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("data.pkl"):
                data = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            new.writestr(item, data)


@pytest.mark.parametrize("state", [{"weight": torch.zeros(2, 3)}, {"a": torch.zeros(1), "b": torch.zeros(1)}])
def test_other_files_are_refused(tmp_path, state):
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="holds no linear head"):
        LinearHead.load(tmp_path / "x.safetensors")
    torch.save([1, 2], tmp_path / "x.pth")
    with pytest.raises(ModelError, match="holds no linear head"):
        LinearHead.load(tmp_path / "x.pth")
    with pytest.raises(ModelError, match="does not exist"):
        LinearHead.load(tmp_path / "none.pth")


def test_shapes_and_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="needed \\[classes, features\\]"):
        LinearHead(torch.zeros(3, 8), torch.zeros(2))
    with pytest.raises(ModelError, match="2 class names for a head of 3"):
        head(("a", "b"))
    with pytest.raises(ModelError, match="features of size 7, but this head takes 8"):
        head().logits(torch.zeros(1, 7))


NO_VALUES = {
    "holds 1 NaN of 24 values": lambda w: w.where(w != w[1, 1], torch.nan),
    "holds 24 infinite of 24 values": lambda w: w * torch.inf,
    "is of type complex64": torch.Tensor.cfloat,
    "is of type int64": torch.Tensor.long,
    "is not dense": torch.Tensor.to_sparse,
    "lies on the meta device": lambda w: w.to("meta"),
}


@pytest.mark.parametrize("complaint", NO_VALUES)
def test_weights_that_are_no_finite_floats_are_refused_in_memory_and_from_a_file(tmp_path, complaint):
    weight, bias = NO_VALUES[complaint](head().weight), head().bias
    with pytest.raises(ModelError, match=f"weight of this head {complaint}"):
        LinearHead(weight, bias)
    torch.save({"fc.weight": weight, "fc.bias": bias}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=rf"weight of .*x\.pth {complaint}"):
        LinearHead.load(tmp_path / "x.pth")
    if weight.is_sparse or weight.is_meta:
        return
    save_file({"weight": weight.contiguous(), "bias": bias}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=rf"weight of .*x\.safetensors {complaint}"):
        LinearHead.load(tmp_path / "x.safetensors")


def test_biases_arrays_and_single_numbers_are_looked_at_too():
    with pytest.raises(ModelError, match="bias of this head holds 3 NaN of 3 values"):
        LinearHead(head().weight, head().bias * torch.nan)
    with pytest.raises(ModelError, match="weight of this head is of type ndarray; needed a dense tensor"):
        LinearHead(head().weight.numpy(), head().bias)
    with pytest.raises(ModelError, match="one number"):
        LinearHead(torch.tensor(1.0), torch.zeros(1))


@pytest.mark.parametrize("names", ["[1, 2, 3]", '{"a": 1}', '"abc"', "7"])
def test_class_names_that_are_no_list_of_words_are_refused(tmp_path, names):
    header = {"head": '{"schema": "ttr.linear-head/1", "classes": ' + names + "}"}
    save_file({"weight": head().weight, "bias": head().bias}, tmp_path / "x.safetensors", metadata=header)
    with pytest.raises(
        ModelError, match=r"x\.safetensors names its classes otherwise than as a list of words"
    ):
        LinearHead.load(tmp_path / "x.safetensors")
    assert LinearHead.load(tmp_path / "x.safetensors", ("a", "b", "c")).classes == ("a", "b", "c")


@pytest.mark.parametrize("header", ["[", "[]", "3"])
def test_a_header_that_is_none_is_refused(tmp_path, header):
    save_file(
        {"weight": head().weight, "bias": head().bias}, tmp_path / "x.safetensors", metadata={"head": header}
    )
    with pytest.raises(ModelError, match=r"x\.safetensors is damaged"):
        LinearHead.load(tmp_path / "x.safetensors")
