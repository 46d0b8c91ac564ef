"""The number beside the map, held to phantoms whose truth is known and opposite."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import ttr
from tests.tools.tiny_models import scramble, tiny_clip, tiny_eva, tiny_vit
from ttr.analysis.faithfulness import (
    FAITHFUL,
    PARTLY,
    SOUND,
    Trust,
    grade,
    levels,
    meaning,
    record_with_faithfulness,
    sentence,
)
from ttr.analysis.integration import full_output, restricted, split
from ttr.analysis.reference import refer
from ttr.analysis.similarity import linear_cka
from ttr.backbones.phantoms import integration
from ttr.backbones.phantoms.recipes import Preprocess
from ttr.datasets.phantom import phantom_images
from ttr.datasets.registry import in_memory
from ttr.forward.blocks import watch
from ttr.forward.record import record
from ttr.run import Run
from ttr.studies.compare.files import _reference
from ttr.studies.compare.write import write_comparison

NAMES = ("phantom-patches", "phantom-registers", "phantom-skip")
FOOLS = ("phantom-constant", "phantom-sink", "phantom-offset")


@pytest.fixture(scope="module")
def drawn():
    return [p.image for p in phantom_images(12, seed=5, classes=6)]


@pytest.fixture(scope="module")
def seen(drawn):
    """{phantom: (trust in each map, {part: CLS of it alone}, CLS, the split, CLS attention on patches)}."""
    found, images = {}, torch.stack([Preprocess(112)(image) for image in drawn])
    for name in (*NAMES, *FOOLS):
        backbone = ttr.load(name, image_size=112)
        with watch(backbone, 5) as blocks:
            passed = record(backbone, images, attention=True)
        parts = restricted(backbone, passed.layout, 5, blocks)
        full = full_output(backbone, passed.layout, blocks)
        trust = record_with_faithfulness(backbone, images, reference=refer(backbone))[1]
        maps = passed.layout.select(passed.cls_attention[-1], "patches", dim=2)
        found[name] = (trust, parts, full, split(backbone, passed.layout, 5, blocks[5]), maps)
    return found


def cka(seen, name, part):
    _, parts, full, _, _ = seen[name]
    return linear_cka(parts[part], full)


def every(seen, name, what):
    return np.array([getattr(trust, what) for trust in seen[name][0]])


def test_every_phantom_is_graded_rightly_image_by_image(seen):
    assert every(seen, "phantom-patches", "amount").min() >= 0.9
    assert every(seen, "phantom-registers", "amount").max() <= 0.3
    assert every(seen, "phantom-skip", "amount").max() <= 0.3
    words = {name: {grade(trust) for trust in seen[name][0]} for name in (*NAMES, *FOOLS)}
    true = {"phantom-patches", "phantom-offset"}
    assert words == {name: {"faithful" if name in true else "not faithful"} for name in words}


def test_a_constant_that_no_image_made_fools_the_plain_cosine_alone(seen):
    assert every(seen, "phantom-constant", "cosine").min() > 0.9
    assert every(seen, "phantom-constant", "null").min() > 0.9
    assert every(seen, "phantom-constant", "amount").max() < 0.3
    assert meaning(seen["phantom-constant"][0][0]).startswith(
        "most of what is this image's own in the feature"
    )


def test_a_constant_that_the_patches_do_not_hold_fools_it_the_other_way(seen):
    assert every(seen, "phantom-offset", "cosine").max() < 0.2
    assert every(seen, "phantom-offset", "amount").min() >= 0.9
    assert cka(seen, "phantom-offset", "patches") > 0.95
    assert meaning(seen["phantom-offset"][0][0]) == SOUND


def test_a_sink_that_gives_nothing_fools_all_but_what_asks_which_patches(seen):
    trusts, maps = seen["phantom-sink"][0], seen["phantom-sink"][4]
    sink = maps.mean(dim=1)[:, 0] / maps.mean(dim=1).sum(dim=1)
    assert sink.min() > 0.8
    assert every(seen, "phantom-sink", "cosine").min() > 0.9
    assert every(seen, "phantom-sink", "amount").min() > 0.85
    # The sink gives nothing, so its share of the light lies elsewhere; the rest lies where it should.
    np.testing.assert_allclose(every(seen, "phantom-sink", "agreement"), 1 - sink, atol=0.06)
    (said,) = {levels(trust)["agreement"] for trust in trusts}
    assert said == 0
    assert "of the map's light lies where the patches do not give it" in meaning(trusts[0])


def test_the_parts_alone_arrange_the_images_as_the_truth_says(seen):
    assert cka(seen, "phantom-patches", "patches") >= 0.9
    assert cka(seen, "phantom-registers", "patches") <= 0.5
    assert cka(seen, "phantom-registers", "registers") >= 0.9
    assert cka(seen, "phantom-skip", "skip") >= 0.9


def test_the_largest_contribution_is_the_one_that_was_built_in(seen):
    for name, part in zip(NAMES, ("patches", "registers", "skip"), strict=True):
        lengths = {p: x.norm(dim=1) for p, x in seen[name][3].contributions.items()}
        others = torch.stack([x for p, x in lengths.items() if p != part]).amax(dim=0)
        assert (lengths[part] > 1.5 * others).all()


def test_their_maps_are_one_map_up_to_a_factor(seen):
    maps = [seen[name][4] / seen[name][4].sum(dim=2, keepdim=True) for name in NAMES]
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_the_grades_follow_the_dial(drawn, monkeypatch):
    """The stated calibration: cosine = r / sqrt(1 + r^2), r = patches over all else, as the gain turns."""
    for gain in (1, 2, 4, 8, 30):
        truth = integration.Truth(gain=gain, ordinary=1)
        monkeypatch.setitem(integration.TRUTHS, "phantom-patches", truth)
        backbone = ttr.load("phantom-patches")
        images = torch.stack([backbone.preprocess(image) for image in drawn[:12]])
        with watch(backbone, 5) as blocks:
            layout = record(backbone, images).layout
        found = split(backbone, layout, 5, blocks[5])
        rest = found.total() - found.contributions["patches"]
        ratio = (found.contributions["patches"].norm(dim=1) / rest.norm(dim=1)).numpy()
        trust = np.array([each.cosine for each in record_with_faithfulness(backbone, images)[1]])
        np.testing.assert_allclose(trust, ratio / np.sqrt(1 + ratio**2), atol=0.1)
    assert [pytest.approx(r / (1 + r**2) ** 0.5, abs=0.01) for r in (2, 0.5)] == [FAITHFUL, PARTLY]


def sound(centred, **changed):
    """A trust whose other checks pass."""
    return replace(Trust(centred, centred, 0.1, 1.0, 0.9, 1.0), **changed)


def test_grades_and_sentences():
    assert [grade(sound(x)) for x in (0.9, 0.899, 0.45, 0.449, -1)] == [
        *("faithful", "partly faithful", "partly faithful", "not faithful", "not faithful")
    ]
    said = sentence(sound(0.95), sound(0.97))
    assert said == f"The map is faithful before (0.95) and after (0.97): {SOUND}."
    changed = sentence(sound(0.95), sound(0.1))
    assert changed.startswith(
        f"Before, the map is faithful (0.95): {SOUND}. After, it is not faithful (0.10): most"
    )
    assert "not centred" not in said


def test_the_worst_check_gives_the_word_and_is_named():
    cases = (
        (
            {"agreement": 0.59},
            "partly faithful",
            "41 % of the map's light lies where the patches do not give it",
        ),
        ({"agreement": 0.29}, "not faithful", "71 % of the map's light"),
        ({"deletion": 0.8}, "partly faithful", "moves the feature hardly more than random ones"),
        ({"deletion": 0.4}, "not faithful", "moves the feature no more than random ones"),
        ({"own": 0.75}, "partly faithful", "other images' patches fit the feature as well as its own (25 %"),
        ({"own": 0.2, "agreement": 0.5}, "not faithful", "(80 % of them do) and 50 % of the map's light"),
    )
    for changed, word, said in cases:
        assert grade(sound(0.95, **changed)) == word
        assert said in meaning(sound(0.95, **changed))
    assert meaning(sound(0.95, agreement=0.2)).endswith("does not show where the image's feature comes from")


def test_what_could_not_be_checked_is_left_out_and_said():
    alone = Trust(0.95)
    assert levels(alone) == {"amount": 2}
    assert grade(alone) == "faithful"
    assert "no other images to compare with" in meaning(alone)
    mean = Trust.mean([sound(0.8), sound(1.0), alone])
    assert (mean.centred, mean.agreement) == pytest.approx((0.9, 0.9))
    assert mean.cosine == pytest.approx(2.75 / 3)
    assert alone.to_json()["null"] is None


def test_it_is_the_cosine_of_two_features_as_the_model_gives_them_out(images):
    """On another family, wrapped, with the last block among the edited ones; CLIP's is the projected one."""
    for model in (tiny_clip(), tiny_eva(num_reg_tokens=2)):
        backbone = ttr.adapt(scramble(model))
        neurons = ttr.RegisterNeurons.from_pairs([(1, 2), (2, 5)])
        with ttr.TestTimeRegisters(backbone, neurons, num_registers=2):
            with watch(backbone, 2) as blocks:
                layout = record(backbone, images).layout
            alone = restricted(backbone, layout, 2, blocks, parts=["patches"])["patches"].double()
            given, tokens = backbone.embed_with_tokens(images)
            trust = record_with_faithfulness(backbone, images)[1]
        full = (given if backbone.pooling == "tower" else tokens.cls).double()
        assert alone.shape == full.shape
        expected = (alone * full).sum(dim=1) / alone.norm(dim=1) / full.norm(dim=1)
        found = torch.tensor([each.cosine for each in trust], dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_compare_carries_it_before_and_after_and_says_it(tmp_path):
    backbone = ttr.load("phantom-registers", image_size=112)
    drawn = list(phantom_images(2))
    out = tmp_path / "comparison"
    nothing = ttr.RegisterNeurons.from_pairs([])
    images = in_memory({p.name: p.image for p in drawn})
    comparisons = write_comparison(backbone, nothing, images, out).images
    entries = json.loads((out / "compare.json").read_text())
    for entry, compared in zip(entries, comparisons, strict=True):
        assert entry["before"]["faithfulness"] == pytest.approx(compared.before.faithfulness)
        assert entry["before"]["faithfulness_checks"]["own"] == compared.before.trust.own
        assert abs(entry["before"]["faithfulness"]) < 0.3
        assert {entry[run]["faithfulness_grade"] for run in ("before", "after")} == {"not faithful"}
    page = (out / "index.html").read_text()
    assert page.count("the map is not faithful (") + page.count("The map is not faithful before (") == 2
    assert "faithfulness of the attention map" in page
    assert "other images’ patches (the null)" in page
    assert "do not read from it where the model found something" in page


def test_many_images_are_centred_on_each_other_and_few_on_the_librarys():
    many = in_memory({p.name: p.image for p in phantom_images(20)})
    assert len(_reference(many, Run())) == 16
    assert _reference(many.take(range(7)), Run()) is None


def test_a_reference_can_be_given(images):
    backbone, nothing = ttr.adapt(scramble(tiny_vit())), ttr.RegisterNeurons.from_pairs([])
    others = images.flip(3)
    (found, *_) = ttr.compare(backbone, nothing, images, reference=others)
    expected = record_with_faithfulness(backbone, images, reference=refer(backbone, others))[1][0]
    assert found.before.trust.centred == pytest.approx(expected.centred, abs=1e-5)
    (alone, *_) = ttr.compare(backbone, nothing, images)
    assert np.isnan(alone.before.trust.centred)
