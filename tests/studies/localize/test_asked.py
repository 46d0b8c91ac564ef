"""What is asked for classes: each map is the attribution of that image's own label, each score the head's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.datasets.phantom_lesions import phantom_lesions
from ttr.errors import ModelError, OptionError
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.zero_shot import zero_shot
from ttr.run import Run
from ttr.studies.localize.asked import OfHead, OfModel, OfTexts, right
from ttr.studies.localize.settings import LocalisationSettings
from ttr.studies.localize.write import _asked

LABELS = [1, 0, 1]


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vit():
    return ttr.adapt(scramble(tiny_vit(num_classes=2)))


@pytest.fixture(scope="module")
def clip():
    return ttr.load("phantom-clip", image_size=64)


def test_a_linear_head_is_asked_for_each_images_label(vit, images):
    features = vit.embed(images)
    draw = torch.Generator().manual_seed(1)
    head = LinearHead(torch.randn(2, features.shape[1], generator=draw), torch.zeros(2))
    asked = OfHead(head)
    for image, label, own in zip(images, LABELS, asked.maps(vit, images, LABELS, "chefer"), strict=True):
        alone = ttr.attribute(vit, image[None], method="chefer", head=head, target=label)[0]
        torch.testing.assert_close(own, alone, rtol=1e-4, atol=1e-7)
    assert torch.equal(asked.logits(features), head.logits(features))


def test_the_models_own_classifier_scores_what_the_model_answers(vit, images):
    asked = OfModel.of(vit)
    torch.testing.assert_close(asked.logits(vit.embed(images)), vit.model(images).detach())
    expected = ttr.attribute(vit, images, method="gradcam", target=LABELS)
    assert torch.equal(asked.maps(vit, images, LABELS, "gradcam"), expected)
    answers = vit.model(images).argmax(dim=1).numpy()
    assert right(asked, vit.embed(images).numpy(), answers, ["a", "b"]) == 1
    with pytest.raises(ModelError, match=r"has 2 classes, and the set 3 \(a, b, c\)"):
        right(asked, vit.embed(images).numpy(), answers, ["a", "b", "c"])


def test_a_text_a_class_is_asked_as_zero_shot_classification_does(clip):
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    asked = OfTexts.of(clip, ["bright", "dark"], "a {} spot")
    assert asked.texts == ("a bright spot", "a dark spot")
    found = asked.logits(clip.embed(images)).softmax(dim=1)
    expected = zero_shot(clip, images, ["bright", "dark"], templates=["a {} spot"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for image, label, own in zip(images, LABELS, asked.maps(clip, images, LABELS, "gradcam"), strict=True):
        alone = ttr.attribute(clip, image[None], method="gradcam", target=asked.texts[label])[0]
        torch.testing.assert_close(own, alone, rtol=1e-4, atol=1e-7)


def test_what_a_model_does_not_have_is_said_with_the_way_out(vit, clip):
    with pytest.raises(ModelError, match="has no classifier of its own; needed one for --head own: choose"):
        OfModel.of(ttr.adapt(scramble(tiny_vit(num_classes=0))))
    with pytest.raises(ModelError, match="has no text tower; needed a whole CLIP model for --head text"):
        OfTexts.of(vit, ["a", "b"], "{}")
    with pytest.raises(OptionError, match=r"prompt 'a spot'; needed \{\} where the name"):
        OfTexts.of(clip, ["a", "b"], "a spot")


def test_a_set_is_asked_with_texts_without_training_and_says_how_often_it_is_right(clip, tmp_path):
    dataset = phantom_lesions(counts={"train": 2, "val": 6, "test": 2})
    asked, said = _asked(
        clip, dataset, LocalisationSettings(head="text", prompt="a {} spot"), Run(cache=tmp_path)
    )
    val = dataset.select("val")
    images = [dataset.open(item) for item in val]
    best = zero_shot(clip, images, dataset.classes, templates=["a {} spot"]).argmax(dim=1).numpy()
    share = np.mean(best == dataset.targets(val))
    assert isinstance(asked, OfTexts)
    right = f"right on {100 * share:.0f} % of 6 validation images"
    assert said == f"the nearest text whose classes are asked for is {right}"
