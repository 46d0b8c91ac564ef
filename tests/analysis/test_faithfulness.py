"""The number beside the map, held to phantoms whose truth is known and opposite."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import ttr
from tests.tools.tiny_models import scramble, tiny_clip, tiny_eva
from ttr.analysis.faithfulness import FAITHFUL, PARTLY, grade, record_with_faithfulness, sentence
from ttr.analysis.integration import full_output, restricted, split
from ttr.analysis.similarity import linear_cka
from ttr.backbones.phantoms import integration
from ttr.datasets.phantom import phantom_images
from ttr.datasets.registry import in_memory
from ttr.forward.blocks import watch
from ttr.forward.record import record
from ttr.studies.compare.write import write_comparison

NAMES = ("phantom-patches", "phantom-registers", "phantom-skip")


@pytest.fixture(scope="module")
def drawn():
    return [p.image for p in phantom_images(42, seed=5, classes=6)]


@pytest.fixture(scope="module")
def seen(drawn):
    """{phantom: (faithfulness [42], {part: CLS of it alone}, CLS, the split, CLS attention on patches)}."""
    found = {}
    for name in NAMES:
        backbone = ttr.load(name, image_size=112)
        images = torch.stack([backbone.preprocess(image) for image in drawn])
        with watch(backbone, 5) as blocks:
            passed = record(backbone, images, attention=True)
        parts = restricted(backbone, passed.layout, 5, blocks)
        full = full_output(backbone, passed.layout, blocks)
        trust = record_with_faithfulness(backbone, images)[1]
        maps = passed.layout.select(passed.cls_attention[-1], "patches", dim=2)
        found[name] = (trust, parts, full, split(backbone, passed.layout, 5, blocks[5]), maps)
    return found


def cka(seen, name, part):
    _, parts, full, _, _ = seen[name]
    return linear_cka(parts[part], full)


def test_every_phantom_is_graded_rightly_image_by_image(seen):
    trust = {name: found[0] for name, found in seen.items()}
    assert trust["phantom-patches"].min() >= 0.9
    assert trust["phantom-registers"].max() <= 0.3
    assert trust["phantom-skip"].max() <= 0.3
    assert {grade(x) for x in trust["phantom-patches"].tolist()} == {"faithful"}
    assert {grade(x) for n in NAMES[1:] for x in trust[n].tolist()} == {"not faithful"}


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
    maps = [found[4] / found[4].sum(dim=2, keepdim=True) for found in seen.values()]
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
        trust = record_with_faithfulness(backbone, images)[1].numpy()
        np.testing.assert_allclose(trust, ratio / np.sqrt(1 + ratio**2), atol=0.1)
    assert [pytest.approx(r / (1 + r**2) ** 0.5, abs=0.01) for r in (2, 0.5)] == [FAITHFUL, PARTLY]


def test_grades_and_sentences():
    assert [grade(x) for x in (0.9, 0.899, 0.45, 0.449, -1)] == [
        *("faithful", "partly faithful", "partly faithful", "not faithful", "not faithful")
    ]
    assert sentence(0.95, 0.97).startswith("The map is faithful before (0.95) and after (0.97): the patches")
    changed = sentence(0.95, 0.1)
    assert changed.startswith("Before, the map is faithful (0.95); after, it is not faithful (0.10): most of")


def test_it_is_the_cosine_of_two_model_outputs(images):
    """On another family, wrapped, with the last block among the edited ones."""
    for model in (tiny_clip(), tiny_eva(num_reg_tokens=2)):
        backbone = ttr.adapt(scramble(model))
        neurons = ttr.RegisterNeurons.from_pairs([(1, 2), (2, 5)])
        with ttr.TestTimeRegisters(backbone, neurons, num_registers=2):
            with watch(backbone, 2) as blocks:
                layout = record(backbone, images).layout
            alone = restricted(backbone, layout, 2, blocks, parts=["patches"])["patches"].double()
            full = backbone.tokens(images).cls.double()
            trust = record_with_faithfulness(backbone, images)[1]
        expected = (alone * full).sum(dim=1) / alone.norm(dim=1) / full.norm(dim=1)
        torch.testing.assert_close(trust.double(), expected, rtol=1e-4, atol=1e-4)


def test_compare_carries_it_before_and_after_and_says_it(tmp_path):
    backbone = ttr.load("phantom-registers")
    drawn = list(phantom_images(2))
    out = tmp_path / "comparison"
    nothing = ttr.RegisterNeurons.from_pairs([])
    images = in_memory({p.name: p.image for p in drawn})
    comparisons = write_comparison(backbone, nothing, images, out).images
    entries = json.loads((out / "compare.json").read_text())
    for entry, comparison in zip(entries, comparisons, strict=True):
        assert entry["before"]["faithfulness"] == pytest.approx(comparison.before.faithfulness)
        assert abs(entry["before"]["faithfulness"]) < 0.3
        assert {entry[run]["faithfulness_grade"] for run in ("before", "after")} == {"not faithful"}
    page = (out / "index.html").read_text()
    assert page.count("The map is not faithful before (") == 2
    assert "faithfulness of the attention map" in page
    assert "do not read from it where the model found something" in page
