"""Images that are not finite are refused: on the CPU ahead of a pass, elsewhere when it was launched."""

from __future__ import annotations

import pytest

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.backbones import finite
from ttr.errors import ImageError
from ttr.forward.record import record

BAD = [float("nan"), float("inf"), float("-inf")]


@pytest.fixture
def backbone():
    return ttr.adapt(scramble(tiny_vit()))


@pytest.fixture
def passes(backbone):
    """Whatever the first block was given."""
    seen = []
    backbone.model.blocks[0].register_forward_pre_hook(lambda block, args: seen.append(args[0]))
    return seen


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "run",
    [
        lambda backbone, images: backbone.embed(images),
        lambda backbone, images: backbone.tokens(images),
    ],
    ids=["embed", "tokens"],
)
def test_one_bad_pixel_is_refused_and_no_pass_waits_for_the_answer(
    backbone, passes, images, value, late, run, monkeypatch
):
    monkeypatch.setattr(finite, "_is_late", lambda images: late)
    run(backbone, images)
    passes.clear()
    bad = images.clone()
    bad[3, 1, 4, 5] = value
    with pytest.raises(ImageError, match="images hold NaN or infinite values; needed finite pixels"):
        run(backbone, bad)
    assert len(passes) == late
    with pytest.raises(ImageError, match="NaN or infinite"):
        backbone.prepare(bad)


@pytest.mark.parametrize("value", BAD)
def test_a_recorded_pass_asks_once_when_it_was_launched(backbone, images, value):
    images[3, 1, 4, 5] = value
    with pytest.raises(ImageError, match="images hold NaN or infinite values; needed finite pixels"):
        record(backbone, images, attention=True)


def test_what_the_models_type_cannot_hold_is_not_finite(images):
    backbone = ttr.adapt(scramble(tiny_vit()).half())
    with pytest.raises(ImageError, match="NaN or infinite"):
        backbone.embed(1e6 * images)


def test_a_captured_graph_and_a_model_without_values_are_asked_nothing(backbone, passes, images, monkeypatch):
    assert ttr.adapt(tiny_vit().to("meta")).embed(images).is_meta
    monkeypatch.setattr(finite, "_answers", lambda images: False)
    images[0] = float("nan")
    assert backbone.embed(images).isnan().any()


def test_no_images_are_finite(backbone, images):
    assert backbone.embed(images[:0]).shape == (0, 24)
