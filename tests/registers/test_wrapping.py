"""Wraps go in whole, come out once, and have copies that share the weights beside the bare model."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import time
import warnings

import pytest
import torch
from torch import nn

import ttr
from tests.tools.tiny_models import scramble, tiny_clip, tiny_eva, tiny_vit
from ttr.errors import ModelError
from ttr.registers import wrap as wrap_module
from ttr.registers.wrapping import Wrap

SOME = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 5), (1, 9), (2, 20)])


class Marks(Wrap):
    """Leaves three marks on the model, and may stumble before the last."""

    stumbles = False

    def _put_in(self, undo):
        for mark in range(3):
            if mark == 2 and self.stumbles:
                raise RuntimeError("stumbled")
            self.backbone.model.marks.append(mark)
            undo.append(lambda mark=mark: self.backbone.model.marks.remove(mark))


@pytest.fixture
def wrap():
    model = scramble(tiny_vit())
    model.marks = []
    return Marks(model, ttr.RegisterNeurons.from_pairs([]))


def test_a_wrap_goes_in_whole_or_not_at_all_and_comes_out_once(wrap):
    model = wrap.backbone.model
    assert wrap.install() is wrap
    assert (wrap.installed, model.marks) == (True, [0, 1, 2])
    wrap.remove()
    wrap.remove()
    assert (wrap.installed, model.marks) == (False, [])
    wrap.stumbles = True
    with pytest.raises(RuntimeError, match="stumbled"):
        wrap.install()
    assert (wrap.installed, model.marks) == (False, [])


def test_an_install_that_is_refused_leaves_the_one_that_stands(wrap):
    with wrap as entered:
        assert entered is wrap
        wrap.stumbles = True
        with pytest.raises(RuntimeError, match="stumbled"):
            wrap.install()
        assert (wrap.installed, sorted(wrap.backbone.model.marks)) == (True, [0, 1, 2])
    assert (wrap.installed, wrap.backbone.model.marks) == (False, [])


def hooks(model: nn.Module) -> list[int]:
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


def at_the_same_time(*work) -> None:
    """Let each function run in a thread of its own, none before all are there."""
    start = threading.Barrier(len(work))

    def run(each) -> None:
        start.wait()
        each()

    threads = [threading.Thread(target=run, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_copy_stands_beside_the_bare_model_and_shares_its_weights(model, images):
    images = images[:2]
    backbone = ttr.adapt(model)
    wrap = ttr.TestTimeRegisters(backbone, SOME, num_registers=2)
    bare, before = backbone.embed(images), hooks(model)
    with wrap:
        wrapped = backbone.embed(images)
    beside = wrap.copy()
    assert (wrap.installed, beside.installed, hooks(model)) == (False, True, before)
    assert beside.model is not model
    assert type(beside.model) is type(model)
    for kind in ("named_parameters", "named_buffers"):
        first, second = dict(getattr(model, kind)()), dict(getattr(beside.model, kind)())
        assert list(first) == list(second)
        assert all(second[name] is tensor for name, tensor in first.items())
    assert list(beside.model.state_dict()) == list(model.state_dict())

    in_the_middle = []
    backbone.sites.blocks[1].module.register_forward_hook(
        lambda *_: in_the_middle.append(beside.backbone.embed(images))
    )
    beside.backbone.sites.blocks[1].module.register_forward_hook(lambda *_: None)
    assert torch.equal(backbone.embed(images), bare)
    assert len(in_the_middle) == 1
    assert torch.equal(in_the_middle[0], wrapped)

    answers = {"bare": [], "wrapped": []}
    at_the_same_time(
        lambda: answers["bare"].extend(backbone.embed(images) for _ in range(2)),
        lambda: answers["wrapped"].extend(beside.backbone.embed(images) for _ in range(2)),
    )
    assert [torch.equal(x, bare) for x in answers["bare"]] == [True] * 2
    assert [torch.equal(x, wrapped) for x in answers["wrapped"]] == [True] * 2

    beside.remove()
    assert torch.equal(beside.backbone.embed(images), bare)


def test_a_wrap_that_stands_can_be_copied_and_both_come_out_by_themselves(images):
    model = scramble(tiny_eva(num_reg_tokens=2))
    bare = model(images)
    with ttr.TestTimeRegisters(model, SOME, num_registers=2) as wrap:
        wrapped = model(images)
        twins = [wrap.copy(), wrap.copy().copy(), copy.deepcopy(wrap), pickle.loads(pickle.dumps(wrap))]
        for twin in twins:
            assert torch.equal(twin.model(images), wrapped)
            twin.remove()
            assert torch.equal(twin.model(images), bare)
            assert sum(hooks(twin.model)) == 0
            assert torch.equal(model(images), wrapped)
    assert torch.equal(model(images), bare)


@pytest.mark.parametrize("make", [tiny_vit, tiny_clip, tiny_eva])
def test_a_copy_with_an_attention_bias_stands_beside_the_bare_model(make, images):
    backbone = ttr.adapt(scramble(make()))
    wrap = ttr.AttentionBias(backbone, SOME, ttr.calibrate_bias(backbone, SOME, images))
    bare = backbone.embed(images)
    with wrap:
        biased = backbone.embed(images)
    beside = wrap.copy()
    assert torch.equal(backbone.embed(images), bare)
    assert torch.equal(beside.backbone.embed(images), biased)
    assert beside.calibration is wrap.calibration


def of_wraps(said):
    """Return the warnings of wraps: the collector may find what other tests have left behind, too."""
    return [str(each.message) for each in said if "a wrap of" in str(each.message)]


def test_a_copy_stays_wrapped_without_being_held(images):
    model = scramble(tiny_vit())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        wrapped = ttr.TestTimeRegisters(model, SOME).copy().model
        gc.collect()
    assert of_wraps(said) == []
    with ttr.TestTimeRegisters(model, SOME):
        assert torch.equal(wrapped(images), model(images))


def test_weights_that_are_loaded_or_turned_are_those_of_both(images):
    model = scramble(tiny_vit())
    beside = ttr.TestTimeRegisters(model, SOME).copy()
    model.load_state_dict(scramble(tiny_vit(), seed=5).state_dict())
    beside.model.double()
    with ttr.TestTimeRegisters(model, SOME):
        expected = model(images.double())
    assert torch.equal(beside.model(images.double()), expected)


def test_a_wrap_that_is_dropped_stays_and_is_warned_of(images):
    model = scramble(tiny_vit())
    bare = model(images)
    with ttr.TestTimeRegisters(model, SOME):
        wrapped = model(images)
    with pytest.warns(ResourceWarning, match=r"a wrap of VisionTransformer was dropped .* call remove\(\)"):
        ttr.TestTimeRegisters(model, SOME).install()
    assert torch.equal(model(images), wrapped)
    assert not torch.equal(wrapped, bare)
    with pytest.raises(ModelError, match="wrapped already"):
        ttr.TestTimeRegisters(model, SOME).install()


def test_nobody_is_warned_of_a_wrap_that_was_removed_or_never_stood():
    model = scramble(tiny_vit())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ttr.TestTimeRegisters(model, SOME)
        ttr.TestTimeRegisters(model, SOME).install().remove()
        with ttr.TestTimeRegisters(model, SOME), pytest.raises(ModelError):
            ttr.TestTimeRegisters(model, SOME).install()
        gc.collect()
    assert of_wraps(said) == []


def test_of_two_threads_that_wrap_one_model_one_is_refused(images, monkeypatch):
    def slowly(edits):
        time.sleep(0.05)
        return attach(edits)

    attach = wrap_module.attach
    monkeypatch.setattr(wrap_module, "attach", slowly)
    model = scramble(tiny_eva())
    bare = model(images)
    wraps = [ttr.TestTimeRegisters(model, SOME) for _ in range(2)]
    refused = []

    def install(wrap: Wrap) -> None:
        try:
            wrap.install()
        except ModelError as error:
            refused.append(str(error))

    at_the_same_time(*(lambda wrap=wrap: install(wrap) for wrap in wraps))
    assert len(refused) == 1
    assert sorted(wrap.installed for wrap in wraps) == [False, True]
    for wrap in wraps:
        wrap.remove()
    assert torch.equal(model(images), bare)


def wrapped_again_and_again(times: int, images: torch.Tensor) -> None:
    """Wrap and copy ``times`` times; return hooks, modules alive and answers of before and after."""
    model = scramble(tiny_eva(num_reg_tokens=2))
    backbone = ttr.adapt(model)
    wrap = ttr.TestTimeRegisters(backbone, SOME, num_registers=2)

    def seen() -> tuple:
        gc.collect()
        alive = sum(isinstance(x, nn.Module | Wrap) for x in gc.get_objects())
        named = [sorted(vars(module)) for module in model.modules()]
        return hooks(model), named, alive, backbone.embed(images)

    seen()  # what is made at the first pass stays
    before = seen()
    for _ in range(times):
        wrap.install().remove()
        with ttr.TestTimeRegisters(backbone, SOME, num_registers=1):
            pass
        wrap.copy()
    return before, seen()


@pytest.mark.parametrize("times", [4, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_wraps_leave_nothing(times, images):
    before, after = wrapped_again_and_again(times, images)
    assert after[:2] == before[:2]
    assert after[2] <= before[2], "an earlier test's may have gone meanwhile"
    assert torch.equal(after[3], before[3])


class Beside(nn.Module):
    """A down-projection with a second branch beside it, as LoRA makes one."""

    def __init__(self, base):
        super().__init__()
        self.base, self.in_features = base, base.in_features
        self.branch = nn.Linear(base.in_features, base.out_features, bias=False)
        self.seen = {}

    def forward(self, x):
        self.seen["base"] = self.seen["branch"] = x
        return self.base(x) + self.branch(x)


def test_a_backbone_that_was_adapted_before_its_model_changed_is_wrapped_as_it_stands(images):
    """Its sites were those of before: the branch beside the projection would see the neurons unmoved."""
    model = scramble(tiny_vit())
    backbone, merged = ttr.adapt(model), copy.deepcopy(model)
    beside = model.blocks[1].mlp.fc2 = Beside(model.blocks[1].mlp.fc2)
    with torch.no_grad():
        merged.blocks[1].mlp.fc2.weight += beside.branch.weight
        wrap = ttr.TestTimeRegisters(backbone, SOME, num_registers=2)
        with wrap, ttr.TestTimeRegisters(merged, SOME, num_registers=2):
            torch.testing.assert_close(model(images), merged(images))
        beside = model.blocks[2].mlp.fc2 = Beside(model.blocks[2].mlp.fc2)
        merged.blocks[2].mlp.fc2.weight += beside.branch.weight
        with wrap, ttr.TestTimeRegisters(merged, SOME, num_registers=2):
            torch.testing.assert_close(model(images), merged(images))
    assert not any(hooks(model))


@pytest.mark.parametrize("adapted", ["before", "after"])
@pytest.mark.parametrize("target", ["fc1", "fc2", "qkv", "attn.proj"])
def test_low_rank_adapters_are_wrapped_as_the_merged_model_is(target, adapted, images):
    peft = pytest.importorskip("peft")
    model = scramble(tiny_vit())
    backbone = ttr.adapt(model)
    config = peft.LoraConfig(r=4, lora_alpha=16, target_modules=[target], init_lora_weights=False)
    outside = peft.get_peft_model(model, config).eval()
    if adapted == "after":
        backbone = ttr.adapt(outside.base_model.model)
    merged = copy.deepcopy(outside).merge_and_unload()
    with torch.no_grad(), ttr.TestTimeRegisters(merged, SOME, num_registers=2):
        expected, within = merged(images), ttr.adapt(merged)
        with ttr.TestTimeRegisters(backbone, SOME, num_registers=2):
            torch.testing.assert_close(outside(images), expected, rtol=1e-4, atol=1e-4)
    mixes = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(0))
    found, reference = (
        each.mixing.output(each.sites.attention[1].module).contributions(mixes, mixes[0])
        for each in (backbone, within)
    )
    torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("part", ["block", pytest.param("whole", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_bare_and_copy_are_compiled_each_for_itself(part, images):
    """torch.compile keeps code by the class that it is of, and would answer the one with the other's."""
    model = scramble(tiny_vit())
    beside = ttr.TestTimeRegisters(model, SOME, num_registers=2).copy().model
    pair = [each if part == "whole" else each.blocks[0] for each in (model, beside)]
    given = images if part == "whole" else torch.randn(2, 17, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = [each(given) for each in pair]
        compiled = [torch.compile(each, backend="eager") for each in pair]
        for _ in range(2):
            for each, answer in zip(compiled, expected, strict=True):
                torch.testing.assert_close(each(given), answer)
    assert not torch.allclose(*expected, atol=1e-3)
