"""The edit itself, against plain Python, and the options of the wrap."""

from __future__ import annotations

import copy
import pickle
import statistics
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ttr
from tests.tools.tiny_models import scramble, tiny_clip, tiny_eva, tiny_vit
from ttr.errors import ModelError, NeuronsError, OptionError
from ttr.forward.record import record
from ttr.registers.move import MoveNeurons, signed_maximum
from ttr.tokens import TokenLayout

SOME = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 5), (1, 9)])


def reference(x, indices, layout, register_value, others, scope, scale):
    """Jiang et al.'s Algorithm 2 and the predecessor's variants, one number at a time."""
    out = x.tolist()
    registers = range(layout.prefix, layout.prefix + layout.test_time)
    patches = range(layout.prefix + layout.test_time, x.shape[1])
    for b in range(x.shape[0]):
        column = {i: [x[b, t, i].item() for t in range(x.shape[1])] for i in indices}
        everything = [value for values in column.values() for value in values]
        for i in indices:
            source = everything if register_value == "layer" else column[i]
            peak = max(source) if register_value == "maximum" else max(source, key=abs)
            over_patches = [column[i][t] for t in patches]
            mean = statistics.fmean(over_patches)
            limit = mean + statistics.stdev(over_patches)
            for t in range(x.shape[1]):
                if t in registers:
                    out[b][t][i] = scale[t - layout.prefix] * peak
                elif (scope == "patches" and t < layout.prefix) or (scope == "all-but-cls" and t == 0):
                    continue
                elif others == "zero":
                    out[b][t][i] = 0.0
                elif others == "mean" or (others == "clip" and column[i][t] > limit):
                    out[b][t][i] = mean
    return torch.tensor(out)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99),
    registers=st.integers(0, 3),
    trained=st.integers(0, 2),
    register_value=st.sampled_from(["neuron", "maximum", "layer"]),
    others=st.sampled_from(["zero", "mean", "clip", "keep"]),
    scope=st.sampled_from(["all", "all-but-cls", "patches"]),
)
def test_the_edit_equals_the_algorithm_number_by_number(
    seed, registers, trained, register_value, others, scope
):
    layout = TokenLayout(1, trained, registers, (2, 3))
    x = torch.randn(3, layout.length, 7, generator=torch.Generator().manual_seed(seed))
    scale = tuple(0.5 + i for i in range(registers))
    move = MoveNeurons(torch.tensor([4, 1]), layout, register_value, others, scope, scale)
    untouched = x.clone()
    expected = reference(x, [4, 1], layout, register_value, others, scope, scale)
    torch.testing.assert_close(move(x), expected)
    assert torch.equal(x, untouched), "an edit is a pure function"


def test_signed_maximum_keeps_the_sign():
    x = torch.tensor([[[1.0, -3.0], [-2.0, 2.0]]])
    assert signed_maximum(x, 1).tolist() == [[[-2.0, -3.0]]]
    assert signed_maximum(x, (1, 2)).tolist() == [[[-3.0]]]


def test_gradients_pass_through_the_wrap(images):
    model = scramble(tiny_vit())
    with ttr.TestTimeRegisters(model, SOME):
        model(images).sum().backward()
    assert model.patch_embed.proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_stay_what_they_are(dtype, images):
    backbone = ttr.adapt(scramble(tiny_vit()).to(dtype))
    with ttr.TestTimeRegisters(backbone, SOME, num_registers=2, others="clip"):
        assert backbone.embed(images).dtype == dtype
        assert record(backbone, images).norms.dtype == torch.float32


@pytest.mark.parametrize("count", [0, 1, 2, 5, 20])
def test_tokens_show_every_register_and_embed_keeps_its_shape(count, images):
    backbone = ttr.adapt(scramble(tiny_clip()))
    bare = backbone.tokens(images)
    with ttr.TestTimeRegisters(backbone, SOME, num_registers=count):
        tokens = backbone.tokens(images)
        assert tokens.test_time.shape == (5, count, 24)
        assert tokens.patches.shape == bare.patches.shape
        assert backbone.embed(images).shape == (5, 16)
    assert backbone.tokens(images).test_time.shape == (5, 0, 24)


def test_install_stays_until_remove_and_serves_the_callers_own_calls(images):
    model = scramble(tiny_vit())
    bare = model(images)
    wrap = ttr.TestTimeRegisters(model, SOME, num_registers=2).install()
    assert wrap.installed
    wrapped = model(images)
    assert wrapped.shape == bare.shape
    assert not torch.allclose(wrapped, bare)
    with ttr.hooks.evaluation_mode(model), torch.no_grad():
        assert torch.equal(model(images), wrapped)
    wrap.remove()
    wrap.remove()
    assert not wrap.installed
    assert torch.equal(model(images), bare)


def test_state_dict_is_untouched_and_a_wrapped_model_can_be_copied(images):
    model = scramble(tiny_eva())
    keys = list(model.state_dict())
    wrap = ttr.TestTimeRegisters(model, SOME).install()
    assert list(model.state_dict()) == keys
    wrapped = model(images)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(copied(images), wrapped)
        maps = copied.forward_intermediates(images, indices=1, intermediates_only=True)
        assert maps[0].shape == (5, 24, 4, 4)
        with pytest.raises(ModelError, match="wrapped already"):
            ttr.TestTimeRegisters(copied, SOME).install()
    wrap.remove()


def test_wrapping_twice_is_refused_by_name_and_the_first_wrap_still_stands(images):
    model = scramble(tiny_vit())
    with ttr.TestTimeRegisters(model, SOME) as first:
        wrapped = model(images)
        with pytest.raises(ModelError, match="wrapped already"):
            first.install()
        with pytest.raises(ModelError, match="already"), ttr.TestTimeRegisters(model, SOME, num_registers=0):
            pass
        assert torch.equal(model(images), wrapped)


def test_a_compiled_model_is_refused_rather_than_left_inert():
    model = scramble(tiny_vit())
    model.compile()
    with pytest.raises(ModelError, match="install the wrap first, then compile"):
        ttr.TestTimeRegisters(model, SOME).install()
    with pytest.raises(ModelError, match="OptimizedModule is compiled, .*; give the model that was compiled"):
        ttr.TestTimeRegisters(torch.compile(scramble(tiny_vit())), SOME)


def test_two_threads_agree_with_one(images):
    backbone = ttr.adapt(scramble(tiny_eva(num_reg_tokens=2)))
    with ttr.TestTimeRegisters(backbone, SOME, num_registers=2):
        alone = backbone.model(images)
        results: list[torch.Tensor] = []

        def work() -> None:
            results.extend(backbone.model(images) for _ in range(10))

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 20
    assert all(torch.equal(result, alone) for result in results)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_registers": -1}, "num_registers=-1"),
        ({"num_registers": 1025}, "num_registers=1025; needed an integer from 0 to 1024"),
        ({"num_registers": 1.5}, "num_registers=1.5"),
        ({"num_registers": True}, "num_registers=True"),
        ({"register_value": "max"}, "register_value='max'; needed one of 'neuron', 'maximum', 'layer'"),
        ({"others": "drop"}, "others='drop'"),
        ({"scope": "cls"}, "scope='cls'"),
        ({"num_registers": 2, "scale": [1.0]}, "needed one finite number, or 2 of them"),
        ({"scale": "a"}, "scale='a'; needed one number"),
        ({"scale": None}, "scale=None"),
        ({"scale": True}, "scale=True"),
        ({"scale": float("nan")}, "scale=nan"),
    ],
)
def test_options_outside_their_range_are_refused(options, complaint):
    with pytest.raises(OptionError, match=complaint):
        ttr.TestTimeRegisters(scramble(tiny_vit()), SOME, **options)


@pytest.mark.parametrize("pair", [(3, 0), (0, 96)])
def test_neurons_that_do_not_exist_are_refused(pair):
    neurons = ttr.RegisterNeurons.from_pairs([(0, 0), pair])
    with pytest.raises(NeuronsError, match=rf"neuron \({pair[0]}, {pair[1]}\) does not exist"):
        ttr.TestTimeRegisters(scramble(tiny_vit()), neurons)


def pruned(*widths):
    model = scramble(tiny_vit())
    for block, width in zip(model.blocks, widths, strict=True):
        block.mlp.fc1, block.mlp.fc2 = torch.nn.Linear(24, width), torch.nn.Linear(width, 24)
    return model


def test_a_pruned_block_has_neurons_of_its_own_number(images):
    with pytest.raises(NeuronsError, match="3 blocks of 96 neurons, 40 in block 1"):
        ttr.TestTimeRegisters(pruned(96, 40, 96), ttr.RegisterNeurons.from_pairs([(1, 40)]))
    model = pruned(40, 96, 96)
    with torch.no_grad(), ttr.TestTimeRegisters(model, ttr.RegisterNeurons.from_pairs([(0, 39), (2, 95)])):
        assert model(images).isfinite().all()
    with pytest.raises(ModelError, match="blocks of 40 and 96 neurons; needed the same number"):
        ttr.detect(model, images)


def test_neurons_of_another_backbone_or_resolution_are_refused(phantom, phantom_batch):
    neurons = ttr.detect(phantom, phantom_batch)
    with pytest.raises(NeuronsError, match="found for backbone phantom, but this is phantom-clip"):
        ttr.TestTimeRegisters(ttr.load("phantom-clip"), neurons)
    with pytest.raises(NeuronsError, match="resolution 224x224, but phantom has 160x160"):
        ttr.TestTimeRegisters(ttr.load("phantom", image_size=160), neurons)
    ttr.TestTimeRegisters(ttr.load("phantom", image_size=160), ttr.RegisterNeurons.from_pairs(neurons.pairs))


def test_a_scale_may_be_a_tensor(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    with ttr.TestTimeRegisters(backbone, SOME, num_registers=2, scale=[0.5, 2.0]):
        expected = backbone.embed(images)
    with ttr.TestTimeRegisters(backbone, SOME, num_registers=2, scale=torch.tensor([0.5, 2.0])):
        assert torch.equal(backbone.embed(images), expected)


def test_the_number_of_registers_may_be_any_kind_of_integer(images):
    wrap = ttr.TestTimeRegisters(ttr.adapt(scramble(tiny_vit())), SOME, num_registers=np.int64(2))
    assert type(wrap.num_registers) is int
    with wrap:
        assert wrap.backbone.tokens(images).test_time.shape[1] == 2


def test_plain_pairs_are_refused_with_the_way_to_make_neurons():
    with pytest.raises(NeuronsError, match="got list as neurons; .* RegisterNeurons.from_pairs"):
        ttr.TestTimeRegisters(scramble(tiny_vit()), [(0, 1)])


def test_a_callers_own_intermediates_come_back(images):
    model = scramble(tiny_vit())
    calls = []

    def own(x, indices=None, output_fmt="NCHW", **rest):
        calls.append(output_fmt)
        return type(model).forward_intermediates(model, x, indices, output_fmt=output_fmt, **rest)

    model.forward_intermediates = own
    with ttr.TestTimeRegisters(model, SOME, num_registers=2):
        shape = model.forward_intermediates(images, [1], intermediates_only=True)[0].shape
    assert shape == (5, 24, 4, 4)
    assert calls == ["NCHW"], "as it was called"
    assert model.forward_intermediates is own


@pytest.mark.parametrize("part", ["whole", "block"])
def test_what_torch_compile_returned_is_noticed_too(images, part):
    """torch.compile(model) leaves no mark on the model, and would ignore a wrap that comes later."""
    model = scramble(tiny_vit(depth=2))
    if part == "whole":
        compiled = torch.compile(model, backend="eager")
        compiled(images)
    else:
        model.blocks[1] = torch.compile(model.blocks[1], backend="eager")
    with pytest.raises(ModelError, match="is compiled already, and the compiled form would ignore the wrap"):
        ttr.TestTimeRegisters(model, SOME).install()
    if part == "whole":
        del compiled
        with ttr.TestTimeRegisters(model, SOME) as wrap:
            assert wrap.installed
            again = torch.compile(model, backend="eager")
            torch.testing.assert_close(again(images), model(images))


def test_a_copied_backbone_runs_its_own_model(model, images):
    backbone = ttr.adapt(model)
    expected = backbone.embed(images)
    copies = [copy.deepcopy(backbone)]
    if not type(model).__name__.endswith("Backbone"):  # transformers' own hooks in these cannot be pickled
        copies.append(pickle.loads(pickle.dumps(backbone)))
    for copied in copies:
        assert torch.equal(copied.embed(images), expected)
        with torch.no_grad():
            for parameter in copied.model.parameters():
                parameter.zero_()
        assert not torch.equal(copied.embed(images), expected)
        assert copied.tokens(images).patches.shape == backbone.tokens(images).patches.shape
        with ttr.TestTimeRegisters(copied, SOME, num_registers=2):
            assert copied.tokens(images).test_time.shape[1] == 2
    assert torch.equal(backbone.embed(images), expected)
