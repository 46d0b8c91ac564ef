"""The page's maps by every method are ``ttr.attribute``'s own, of one answer before and after."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import ttr
from tests.backbones.test_contract import neurons_of
from tests.evaluate.test_zero_shot import whole_clip
from tests.tools.tiny_models import SIZE, scramble, tiny_vit
from ttr.apps.image.answers import Reader
from ttr.apps.image.attribution import HIGHEST, LOADED, METHODS, OWN, SLOW, TEXT, answers_of, attributed
from ttr.apps.image.case import Case
from ttr.apps.image.inspection import inspect
from ttr.apps.image.intake import Picture
from ttr.attribution.attribute import WITHOUT_TARGET
from ttr.backbones.phantoms.recipes import Preprocess
from ttr.errors import OptionError
from ttr.evaluate.heads import LinearHead

NAMES = ("normal", "effusion", "nodule")


def case_of(backbone):
    pixels = np.random.default_rng(2).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    picture = Picture(Image.fromarray(pixels), "PNG", "a" * 64)
    seen = inspect(backbone, neurons_of(backbone, 5), picture.image)
    return Case(picture, seen, backbone.name, "given", (), None)


@pytest.fixture(scope="module")
def backbone():
    return ttr.adapt(scramble(tiny_vit(num_classes=5)), preprocess=Preprocess(SIZE))


@pytest.fixture(scope="module")
def case(backbone):
    return case_of(backbone)


@pytest.fixture(scope="module")
def reader(case):
    width = len(case.inspection.before.feature)
    weight = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    return Reader(LinearHead(weight, torch.zeros(3), NAMES), "logistic")


def directly(backbone, case, **asked):
    """Return what the library's own function makes of the image, bare and wrapped."""
    images = backbone.preprocess(case.picture.image)[None]
    bare = ttr.attribute(backbone, images, **asked)[0]
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone, 5)):
        return bare.numpy(), ttr.attribute(backbone, images, **asked)[0].numpy()


@pytest.mark.parametrize("method", METHODS)
def test_before_and_after_are_the_librarys_maps(backbone, case, reader, method):
    answers = answers_of(backbone, case, reader)
    answer = None if method in WITHOUT_TARGET else answers.target(LOADED, "nodule", "")
    found = attributed(backbone, neurons_of(backbone, 5), case, method, answer, block=1, attention_head=0)
    asked = {"head": reader.head, "target": 2} if answer else {}
    if method in ("attention", "value-attention"):
        asked = {"block": 1, "attention_head": 0}
    for own, expected in zip(found.maps, directly(backbone, case, method=method, **asked), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-7)
    assert not np.allclose(*found.maps)
    assert ("nodule" in found.said) == (answer is not None)


def test_the_highest_class_is_the_one_before_in_both(backbone, case, reader):
    """Also where the registers change it: two maps of two answers could not be compared."""
    answers = answers_of(backbone, case, reader)
    feature = torch.from_numpy(case.inspection.before.feature)[None]
    first = int(reader.head.logits(feature).argmax())
    target, said = answers.target(LOADED, HIGHEST, "")
    assert target == {"target": first, "head": reader.head}
    assert NAMES[first] in said
    assert sorted(answers.classes[LOADED].values()) == [0, 1, 2]
    own = backbone.model.head(feature)[0]
    assert list(answers.classes[OWN].values()) == own.argsort(descending=True).tolist()
    assert answers.target(OWN, "class 3", "")[0] == {"target": 3}
    assert answers.kinds == [LOADED, OWN]
    assert answers.methods == list(METHODS)


def test_a_text_is_the_answer_of_a_model_that_reads():
    clip = ttr.adapt(whole_clip(), preprocess=Preprocess(SIZE))
    case = case_of(clip)
    answers = answers_of(clip, case, None)
    assert answers.kinds == [TEXT]
    answer = answers.target(TEXT, HIGHEST, "  metal   implant ")
    found = attributed(clip, neurons_of(clip, 5), case, "gradcam", answer, block=0, attention_head=None)
    expected = directly(clip, case, method="gradcam", target="metal implant")
    np.testing.assert_allclose(found.maps, expected, rtol=1e-5, atol=1e-7)
    for typed, says in (("", "there are no words"), ("bone, metal", "got 2 texts; needed one")):
        with pytest.raises(OptionError, match=says):
            answers.target(TEXT, HIGHEST, typed)


def test_a_model_without_answers_has_the_methods_that_need_none():
    bare = ttr.adapt(scramble(tiny_vit()), preprocess=Preprocess(SIZE))
    case = case_of(bare)
    answers = answers_of(bare, case, None)
    assert answers.kinds == []
    assert answers.methods == list(WITHOUT_TARGET)
    with pytest.raises(OptionError, match="it has none"):
        answers.target(LOADED, HIGHEST, "")
    with pytest.raises(OptionError, match="explains an answer, and there is none"):
        attributed(bare, neurons_of(bare, 5), case, "chefer", None, block=0, attention_head=None)


def test_the_original_of_a_planted_model_stands_first(backbone, case):
    other = ttr.adapt(scramble(tiny_vit(), seed=7), preprocess=Preprocess(SIZE))
    neurons, at = neurons_of(backbone, 5), {"block": 0, "attention_head": None}
    two = attributed(backbone, neurons, case, "rollout", None, **at).maps
    three = attributed(backbone, neurons, case, "rollout", None, original=other, **at).maps
    np.testing.assert_array_equal(three[1:], two)
    np.testing.assert_array_equal(three[0], directly(other, case, method="rollout")[0])


def test_what_there_is_not_is_refused(backbone, case, reader):
    answers, neurons = answers_of(backbone, case, reader), neurons_of(backbone, 5)
    with pytest.raises(OptionError, match="is no class to choose here"):
        answers.target(LOADED, "fracture", "")
    for method, block, head, says in (
        (SLOW, 0, None, "needed one of attention"),
        ("../x", 0, None, "needed one of attention"),
        ("attention", 99, None, "needed a block"),
        ("attention", 0, 99, "needed a block"),
    ):
        with pytest.raises(OptionError, match=says):
            attributed(backbone, neurons, case, method, None, block=block, attention_head=head)
