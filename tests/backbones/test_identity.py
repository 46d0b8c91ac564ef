"""One digest a model, whatever its weights are kept as, and none that could be taken for another model's."""

from __future__ import annotations

import copy
import hashlib

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.backbones.identity import hash_of_weights
from ttr.errors import ModelError
from ttr.features.shelf import cache_key
from ttr.forward.preprocessing import Preprocessing
from ttr.registers.arms import PLAIN


def digest(model):
    return hash_of_weights(model, "a model")


def two_alike_and_another():
    model = scramble(tiny_vit())
    return [model, copy.deepcopy(model), scramble(tiny_vit(), seed=1)]


def test_of_plain_tensors_it_is_names_shapes_types_and_bytes():
    model = scramble(tiny_vit())
    whole = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        whole.update(f"{key}|{tuple(value.shape)}|{value.dtype}|".encode() + value.numpy().tobytes())
    assert ttr.adapt(model).weights_hash == digest(model) == whole.hexdigest()[:16]


def test_it_follows_weights_that_change_and_modules_that_are_replaced():
    model = scramble(tiny_vit())
    backbone = ttr.adapt(model)
    seen = [(backbone.weights_hash, backbone.fingerprint)]
    with torch.no_grad():
        model.norm.weight.mul_(2)
    seen.append((backbone.weights_hash, backbone.fingerprint))
    model.norm = nn.LayerNorm(24)
    seen.append((backbone.weights_hash, backbone.fingerprint))
    assert len({each[0] for each in seen}) == len({each[1] for each in seen}) == 3
    assert backbone.weights_hash == digest(model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per")
def test_models_that_torch_quantised_are_told_apart_and_detected_on(images):
    first, again, other = (
        torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
        for model in two_alike_and_another()
    )
    assert digest(first) == digest(again) != digest(other)
    assert not digest(first).startswith("unhashed")
    with torch.no_grad():
        bare = first(images)
        with ttr.TestTimeRegisters(first, ttr.RegisterNeurons.from_pairs([(1, 5)]), num_registers=2):
            assert first(images).shape == bare.shape
    assert len(ttr.detect(first, images).ranking) == 3 * 96


def test_quantised_tensors_scales_count():
    def of(scale, axis=None):
        model = nn.Module()
        x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        scales, zeros = torch.full((2,), scale), torch.zeros(2, dtype=torch.long)
        quantise = torch.quantize_per_tensor if axis is None else torch.quantize_per_channel
        given = (scale, 0) if axis is None else (scales, zeros, axis)
        model.register_buffer("x", quantise(x / 0.5 * scale, *given, dtype=torch.qint8))
        return digest(model)

    assert len({of(0.5), of(0.25), of(0.5, 0), of(0.25, 0), of(0.5, 1)}) == 5


def to_tensor(image):
    return torch.zeros(3, 32, 32)


class Extra(nn.Module):
    def __init__(self, state):
        super().__init__()
        self.weight, self.state = nn.Parameter(torch.zeros(2)), state

    def get_extra_state(self):
        return self.state


def test_extra_state_counts_for_what_it_holds():
    states = [
        {"version": 1},
        {"version": 2},
        [torch.ones(2)],
        [torch.zeros(2)],
        {"a": None, "b": (1.5, "c")},
        b"x",
    ]
    assert len({digest(Extra(state)) for state in states}) == len(states)
    assert digest(Extra({"a": 1, "b": 2})) == digest(Extra({"b": 2, "a": 1}))


def test_what_cannot_be_read_is_unhashed_and_never_found_again():
    models = two_alike_and_another()[:2]
    for model in models:
        model.extra = Extra(object())
    backbones = [ttr.adapt(model, preprocess=to_tensor) for model in models]
    assert all(each.weights_hash.startswith("unhashed-") for each in backbones)
    assert backbones[0].weights_hash == backbones[0].weights_hash != backbones[1].weights_hash
    keys = [cache_key(each, PLAIN, Preprocessing(each)) for each in backbones]
    assert keys[0]["fingerprint"] != keys[1]["fingerprint"]


def test_tensors_of_other_classes_count_for_what_they_are_made_of():
    def of(a, b):
        model = nn.Module()
        model.register_buffer("x", TwoTensor(torch.full((2,), a), torch.full((2,), b)))
        return digest(model)

    assert of(1.0, 2.0) == of(1.0, 2.0)
    assert len({of(1.0, 2.0), of(1.0, 3.0), of(2.0, 2.0)}) == 3


def test_weights_on_the_meta_device_are_refused():
    model = nn.Linear(2, 2, device="meta")
    with pytest.raises(ModelError, match="a model lies on the meta device and has no values"):
        digest(model)


def test_what_accelerate_offloads_has_the_digest_of_before():
    accelerate = pytest.importorskip("accelerate")
    model = scramble(tiny_vit())
    before = digest(model)
    accelerate.cpu_offload(model, execution_device="cpu")
    assert all(parameter.is_meta for parameter in model.parameters())
    assert digest(model) == before


def test_weights_that_torchao_quantised_are_adapted_and_told_apart(images):
    quantization = pytest.importorskip("torchao.quantization")
    models = two_alike_and_another()
    for model in models:
        quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    found = [ttr.adapt(model).weights_hash for model in models]
    assert found[0] == found[1] != found[2]
    assert len(ttr.detect(models[0], images).ranking) == 3 * 96
    neurons = ttr.RegisterNeurons.from_pairs([(1, 3)])
    assert len(list(ttr.compare(models[0], neurons, images))) == len(images)


@pytest.fixture
def a_process_group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.slow
def test_a_sharded_model_is_wrapped_and_has_the_digest_of_the_whole(a_process_group, images):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    whole = scramble(tiny_vit(pre_norm=True))
    model = copy.deepcopy(whole)
    mesh, neurons = init_device_mesh("cpu", (1,)), ttr.RegisterNeurons.from_pairs([(1, 5)])
    for part in (*model.blocks, model):
        fully_shard(part, mesh=mesh)
    backbone = ttr.adapt(model)
    assert backbone.weights_hash == ttr.adapt(whole).weights_hash
    with ttr.TestTimeRegisters(model, neurons), ttr.TestTimeRegisters(whole, neurons):
        torch.testing.assert_close(model(images), whole(images))
        model(images).sum().backward()
    with pytest.raises(ModelError, match="sharded by FSDP, .*register_fsdp_forward_method"):
        backbone.embed(images)
    register_fsdp_forward_method(model, "forward_features")
    torch.testing.assert_close(backbone.embed(images), ttr.adapt(whole).embed(images))
