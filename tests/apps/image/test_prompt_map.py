"""Prompt maps against open_clip's own forward, token by token, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import ttr
from tests.backbones.test_contract import neurons_of
from tests.evaluate.test_zero_shot import whole_clip
from tests.tools.tiny_models import FAMILIES, SIZE, scramble, tiny_clip, tiny_clip_with_timm_tower
from tests.tools.views import views
from ttr.apps.html import prompts as prompts_html
from ttr.apps.image.case import Case
from ttr.apps.image.inspection import inspect
from ttr.apps.image.intake import Picture
from ttr.apps.image.prompt_map import NO_WORDS, RANDOM, can_read, prompt_map, read_texts
from ttr.backbones.phantoms.recipes import Preprocess
from ttr.errors import ModelError, OptionError
from ttr.evaluate.zero_shot import class_embeddings

TEXTS = ("metal implant", "bone", "rings on black")


@pytest.fixture(scope="module")
def clip():
    return ttr.adapt(whole_clip(), preprocess=Preprocess(SIZE))


@pytest.fixture(scope="module")
def phantom_clip():
    return ttr.load("phantom-clip")


@pytest.fixture(scope="module")
def image():
    pixels = np.random.default_rng(5).integers(0, 255, (48, 60, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def words_of(clip, texts=TEXTS):
    tokens = open_clip.SimpleTokenizer(context_length=16)(list(texts))
    with torch.no_grad():
        return F.normalize(clip.model.encode_text(tokens), dim=-1)


def test_each_patch_goes_the_way_of_cls(clip, image):
    """open_clip itself hands out the patches behind its norm; the rest of the way is written out by hand."""
    found = prompt_map(clip, neurons_of(clip, 0), image, TEXTS, num_registers=0)
    assert found.before.shape == (3, 4, 4)
    visual = clip.model.visual
    with torch.no_grad():
        tokens = visual.ln_post(visual.transformer(visual._embeds(clip.preprocess(image)[None])))[0, 1:]
        projection = visual.proj.T.clone()
    for t, word in enumerate(words_of(clip)):
        for i, token in enumerate(tokens):
            z = projection @ token
            expected = float(z @ word / z.norm())
            assert found.before[t, i // 4, i % 4] == pytest.approx(expected, abs=1e-5)


def test_the_image_is_open_clips_own_answer(clip, image):
    neurons = neurons_of(clip, 20)
    found = prompt_map(clip, neurons, image, TEXTS, num_registers=2)
    batch = clip.preprocess(image)[None]
    for ours, wrap in (
        (found.image_before, None),
        (found.image_after, ttr.TestTimeRegisters(clip, neurons, num_registers=2)),
    ):
        if wrap is not None:
            wrap.install()
        with torch.no_grad():
            feature = clip.model.encode_image(batch, normalize=True)
        if wrap is not None:
            wrap.remove()
        np.testing.assert_allclose(ours, (feature @ words_of(clip).T)[0], atol=1e-5)
    assert np.abs(found.image_after - found.image_before).max() > 1e-3
    assert np.abs(found.after - found.before).max() > 1e-3


@pytest.mark.parametrize(
    "model",
    [tiny_clip, lambda: tiny_clip(final_ln_after_pool=True), tiny_clip_with_timm_tower],
    ids=["open-clip", "norm-behind-pool", "timm-tower"],
)
def test_cls_through_the_shared_projection_is_the_image_embedding(model):
    backbone = ttr.adapt(scramble(model()))
    height, width = backbone.image_size
    images = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(2))
    for wrap in (None, ttr.TestTimeRegisters(backbone, neurons_of(backbone, 10))):
        handle = wrap.install() if wrap else None
        embedding, tokens = backbone.embed_with_tokens(images)
        projected = backbone.features.shared(tokens.cls)
        if handle is not None:
            handle.remove()
        torch.testing.assert_close(projected, embedding, rtol=1e-4, atol=1e-5)


def test_a_tower_that_takes_the_mean_shares_it_patch_by_patch():
    backbone = ttr.adapt(scramble(tiny_clip(pool_type="avg")))
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    embedding, tokens = backbone.embed_with_tokens(images)
    torch.testing.assert_close(
        backbone.features.shared(tokens.patches).mean(dim=1), embedding, rtol=1e-4, atol=1e-5
    )


def test_a_tower_that_pools_by_attention_is_refused():
    backbone = ttr.adapt(scramble(tiny_clip(attentional_pool=True, attn_pooler_heads=2)))
    with pytest.raises(ModelError, match="pools its tokens by attention"):
        backbone.features.shared(torch.zeros(1, 16))


def test_nothing_moved_is_the_bare_model_and_a_blank_token_is_not(clip, image):
    same = prompt_map(clip, neurons_of(clip, 0), image, TEXTS, num_registers=0)
    assert np.array_equal(same.before, same.after)
    assert np.array_equal(same.image_before, same.image_after)
    blank = prompt_map(clip, neurons_of(clip, 0), image, TEXTS, num_registers=1)
    assert np.array_equal(blank.before, same.before)
    assert not np.array_equal(blank.after, same.after)


def test_one_text_alone_and_the_difference_to_the_others(clip, image):
    alone = prompt_map(clip, neurons_of(clip, 5), image, TEXTS[:1])
    found = prompt_map(clip, neurons_of(clip, 5), image, TEXTS)
    np.testing.assert_allclose(alone.before[0], found.before[0], atol=1e-6)
    expected = found.after[1] - (found.after[0] + found.after[2]) / 2
    np.testing.assert_allclose(found.difference(1)[1], expected, atol=1e-6)
    np.testing.assert_allclose(sum(found.difference(t)[0] for t in range(3)), 0, atol=1e-5)
    with pytest.raises(OptionError, match="one text has no others"):
        alone.difference(0)


def test_the_sentence_around_the_words_takes_part(clip, image):
    around = prompt_map(clip, neurons_of(clip, 0), image, ["bone"], template="an X-ray of {}")
    typed = prompt_map(clip, neurons_of(clip, 0), image, ["an X-ray of bone"])
    assert np.array_equal(around.before, typed.before)
    with pytest.raises(OptionError, match="each with {}"):
        prompt_map(clip, neurons_of(clip, 0), image, ["bone"], template="an X-ray")


def test_half_precision_tokens_give_float32_cosines(image):
    backbone = ttr.adapt(whole_clip().bfloat16(), preprocess=Preprocess(SIZE))
    found = prompt_map(*_with_none(backbone), image, TEXTS)
    assert found.before.dtype == found.image_after.dtype == np.float32
    embedding, tokens = backbone.embed_with_tokens(backbone.preprocess(image)[None])
    words = class_embeddings(backbone, TEXTS, templates=["{}"]).double()
    with torch.no_grad():
        z = (tokens.patches[0] @ backbone.model.visual.proj).double()
    expected = (z @ words.T) / z.norm(dim=-1, keepdim=True)
    np.testing.assert_allclose(found.before.reshape(3, -1).T, expected, atol=1e-6)
    expected = embedding.double() @ words.T / embedding.double().norm()
    np.testing.assert_allclose(found.image_before, expected[0], atol=1e-6)


def _with_none(backbone):
    return backbone, neurons_of(backbone, 0)


def test_a_phantom_and_random_weights_say_so(clip, image, phantom_clip):
    neurons = ttr.RegisterNeurons.from_pairs(phantom_clip.planted)
    found = prompt_map(phantom_clip, neurons, image, TEXTS)
    assert found.caution == NO_WORDS
    assert found.before.shape == (3, 14, 14)
    assert prompt_map(*_with_none(clip), image, TEXTS).caution == ""
    weights = replace(clip.weights, origin="random")
    assert prompt_map(*_with_none(replace(clip, weights=weights)), image, TEXTS).caution == RANDOM


def test_models_without_words_are_known_and_refused(clip, image, phantom, phantom_clip):
    assert can_read(clip)
    assert can_read(phantom_clip)
    for backbone in (phantom, ttr.adapt(clip.model.visual), ttr.adapt(FAMILIES["timm-vit"]())):
        assert not can_read(backbone)
    with pytest.raises(ModelError, match="no text tower"):
        prompt_map(phantom, neurons_of(phantom, 0), image, TEXTS)


def test_the_hooks_are_gone_afterwards_and_after_a_refusal(clip, image):
    before = clip.embed(clip.preprocess(image)[None])
    prompt_map(clip, neurons_of(clip, 20), image, TEXTS)
    with pytest.raises(OptionError):
        prompt_map(clip, neurons_of(clip, 20), image, TEXTS, num_registers=-1)
    assert torch.equal(clip.embed(clip.preprocess(image)[None]), before)


def test_words_are_read_from_a_field():
    assert read_texts(" bone,  metal   implant\nbone;L ") == ("bone", "metal implant", "L")
    for words, message in (
        ("", "there are no words"),
        (" ,\n;", "there are no words"),
        (None, "there are no words"),
        (",".join("abcdefg"), "got 7 texts; needed 6"),
        ("x" * 121, "more than 120 characters"),
    ):
        with pytest.raises(OptionError, match=message):
            read_texts(words)


def test_what_is_shown_escapes_the_words_and_states_one_scale(image, phantom_clip):
    neurons = ttr.RegisterNeurons.from_pairs(phantom_clip.planted)
    texts = ("<script>alert(1)</script>", "bone")
    found = prompt_map(phantom_clip, neurons, image, texts)
    seen = inspect(phantom_clip, neurons, image)
    case = Case(Picture(image, "PNG", "0" * 64, ("Look.",)), seen, "phantom-clip", "planted", (), None)
    for difference in (False, True):
        shown = prompts_html.maps(case, found, 0, difference=difference)
        assert "<script>" not in shown
        assert "&lt;script&gt;" in shown
        (drawn,) = views(shown)
        values = found.difference(0) if difference else found.pair(0)
        top = max(np.abs(v).max() for v in values) if difference else max(v.max() for v in values)
        low = -top if difference else min(v.min() for v in values)
        assert drawn["scale"]["is_fixed"]
        assert drawn["scale"]["around"] == difference
        assert drawn["scale"]["shared"]["low"] == pytest.approx(float(low))
        assert drawn["scale"]["shared"]["high"] == pytest.approx(float(top))
        for came, sent in zip(drawn["maps"], values, strict=True):
            np.testing.assert_array_equal(came, sent.astype(np.float32))
    table = prompts_html.numbers(case, found)
    assert "<script>" not in table
    assert f"{found.image_after[1]:+.3f}" in table
    assert "knows no words" in table
    assert "Look." in table
