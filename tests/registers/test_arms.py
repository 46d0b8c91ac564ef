import pytest
import torch

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.errors import NeuronsError, OptionError
from ttr.registers.arm_names import DEFAULT, NAMES
from ttr.registers.arms import arms, random_neurons
from ttr.registers.variants import VARIANTS

SOME = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 5), (1, 90)])


@pytest.fixture
def backbone():
    return ttr.adapt(scramble(tiny_vit()))


def test_each_arm_does_what_its_name_says(backbone, images):
    bias = ttr.calibrate_bias(backbone, SOME, images)
    made = {arm.name: arm for arm in arms(NAMES, backbone, SOME, num_registers=2, draws=2, bias=bias)}
    assert list(made) == [
        *("plain", "token", "neurons", "ttr", "random:0", "random:1", "random-neurons:0", "random-neurons:1"),
        "attention-bias",
    ]
    with ttr.AttentionBias(backbone, SOME, bias):
        biased = backbone.embed(images)
    with made["attention-bias"].applied(backbone):
        assert torch.equal(backbone.embed(images), biased)
    assert len({arm.fingerprint for arm in made.values()}) == len(made)
    bare = backbone.embed(images)
    with made["plain"].applied(backbone):
        assert torch.equal(backbone.embed(images), bare)
    expected = {"token": ([], 2), "neurons": (SOME.pairs, 0), "ttr": (SOME.pairs, 2)}
    for name, (pairs, registers) in expected.items():
        wrap = ttr.TestTimeRegisters(backbone, ttr.RegisterNeurons.from_pairs(pairs), num_registers=registers)
        with wrap:
            reference = backbone.embed(images)
        with made[name].applied(backbone):
            assert torch.equal(backbone.embed(images), reference)
        assert not torch.equal(reference, bare)
    assert (made["random:0"].num_registers, made["random-neurons:0"].num_registers) == (2, 0)
    assert made["random:1"].kind == "random"
    assert set(DEFAULT) < set(NAMES)


def test_random_neurons_are_of_the_same_blocks_and_others(backbone):
    drawn = random_neurons(SOME, backbone, seed=1)
    assert {layer: len(found) for layer, found in drawn.by_layer().items()} == {0: 1, 1: 2}
    assert not set(drawn.pairs) & set(SOME.pairs)
    assert random_neurons(SOME, backbone, seed=1) == drawn
    assert random_neurons(SOME, backbone, seed=2) != drawn
    most = ttr.RegisterNeurons.from_pairs([(0, n) for n in range(60)])
    with pytest.raises(OptionError, match="block 0 has 36 other neurons; 60 are needed"):
        random_neurons(most, backbone, seed=0)


def test_equal_treatments_have_equal_fingerprints(backbone):
    plain, token, zeroed, ttr_ = arms(("plain", "token", "neurons", "ttr"), backbone, SOME)
    assert len({arm.fingerprint for arm in (plain, token, zeroed, ttr_)}) == 4
    turned = arms(("ttr",), backbone, ttr.RegisterNeurons.from_pairs(SOME.pairs[::-1]))[0]
    assert turned.fingerprint == ttr_.fingerprint
    empty = arms(("ttr",), backbone, ttr.RegisterNeurons.from_pairs([]))[0]
    assert empty.fingerprint == token.fingerprint


def test_two_variants_are_two_treatments_of_neurons_and_one_of_none(backbone, images):
    bias = ttr.calibrate_bias(backbone, SOME, images)
    given = {"draws": 1, "bias": bias}
    one, other = (arms(NAMES, backbone, SOME, variant=v, **given) for v in VARIANTS)
    same = {a.name for a, b in zip(one, other, strict=True) if a.fingerprint == b.fingerprint}
    assert same == {"plain", "token", "attention-bias"}
    assert {a.name for a in other if a.to_json()["variant"] == "released-code"} == {
        *("neurons", "ttr", "random:0", "random-neurons:0")
    }
    released = next(a for a in other if a.name == "ttr")
    with ttr.TestTimeRegisters(backbone, SOME, variant="released-code"):
        expected = backbone.embed(images)
    with released.applied(backbone):
        assert torch.equal(backbone.embed(images), expected)


@pytest.mark.parametrize(
    ("names", "options", "complaint"),
    [
        (("plain", "baseline"), {}, "arms plain, baseline; needed one or more of plain, token"),
        (("ttr", "ttr"), {}, "each once"),
        ((), {}, "arms none"),
        (("ttr",), {"num_registers": 0}, "num_registers=0"),
        (("random",), {"draws": 0}, "draws=0"),
        (("ttr",), {"variant": "max"}, "variant='max'; needed one of 'algorithm', 'released-code'"),
        (("attention-bias",), {}, "needs bias=; make it with ttr.calibrate_bias"),
    ],
)
def test_other_arms_are_refused(backbone, names, options, complaint):
    with pytest.raises(OptionError, match=complaint):
        arms(names, backbone, SOME, **options)


def test_neurons_of_another_model_are_refused(backbone):
    with pytest.raises(NeuronsError, match="does not exist"):
        arms(("plain",), backbone, ttr.RegisterNeurons.from_pairs([(9, 0)]))
