"""Whose tokens stand in: never the patient's own, of its class as often as chance has it, or never."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

import ttr
from tests.tools.small_results import leave_the_page_out
from tests.tools.tiny_models import SIZE, scramble, tiny_vit
from ttr.backbones.phantoms.recipes import Preprocess
from ttr.datasets.phantom_set import phantom_set
from ttr.datasets.registry import Item, groups_of
from ttr.errors import OptionError
from ttr.evaluate.segmentation import miou_resampled
from ttr.features.chunks import chunked
from ttr.registers.arms import PLAIN
from ttr.run import Run
from ttr.statistics.contrasts import level
from ttr.studies.ablate.donors import (
    Case,
    batches,
    case_of,
    class_by_chance,
    draw_donors,
    draw_from_bank,
    drawn_order,
    enough,
    kinship,
    may_give,
)
from ttr.studies.ablate.settings import AblationSettings
from ttr.studies.ablate.write import write_ablation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(classes, each, *, of=lambda label, index: None):
    """Items in sorted order, by class and then by number."""
    return [
        Item(f"c{label:02d}/{index:03d}.png", f"c{label}", "test", group=of(label, index))
        for label in range(classes)
        for index in range(each)
    ]


def drawn(items, size=32, rule="any", blocks=4):
    """{item: its donors}, as a suite draws them."""
    found, draw = {}, generator()
    for chunk in chunked(drawn_order(items, 42, rule)):
        taken = [items[place] for place in chunk]
        cases = [case_of(item) for item in taken]
        for part in batches(cases, size, rule):
            allowed = may_give(cases[part], cases[part], rule)
            for _ in range(blocks):
                for item, donor in zip(taken[part], draw_donors(allowed, draw).tolist(), strict=True):
                    found.setdefault(item.name, []).append(taken[part][donor])
    assert sorted(found) == sorted(item.name for item in items)
    return {item: found[item.name] for item in items}


def share(found, same):
    return np.mean([same(taker, giver) for taker, givers in found.items() for giver in givers])


def same_class(taker, giver):
    return taker.label == giver.label


def same_group(taker, giver):
    return taker.unit == giver.unit


@pytest.mark.parametrize(("classes", "each"), [(4, 80), (45, 5), (12, 15)])
def test_donors_are_of_the_images_class_as_often_as_chance_has_it(classes, each):
    items = made(classes, each)
    cases = [case_of(item) for item in items]
    chance = class_by_chance(cases, cases)
    assert chance == pytest.approx((each - 1) / (classes * each - 1))
    assert share(drawn(items), same_class) == pytest.approx(chance, abs=0.06)


@pytest.mark.parametrize("size", [2, 7, 32])
def test_no_donor_is_of_the_same_patient(size):
    items = made(2, 150, of=lambda label, index: f"p{label}-{index // 5}")
    found = drawn(items, size)
    assert share(found, same_group) == 0
    # Half of the others are of the class; an image's own patient is not among them.
    assert share(found, same_class) == pytest.approx(145 / 295, abs=0.1)


def test_a_patient_with_half_of_the_images_is_no_obstacle():
    items = made(2, 60, of=lambda label, index: "p" if label else f"q{index}")
    assert share(drawn(items), same_group) == 0


@pytest.mark.parametrize("size", [2, 16, 32])
def test_donors_of_another_class_on_request(size):
    assert share(drawn(made(4, 40), size, "other-class"), same_class) == 0
    unequal = [*made(1, 90), *(replace(item, label="rare") for item in made(2, 30)[30:])]
    assert share(drawn(unequal, size, "other-class"), same_class) == 0


def test_where_there_is_no_permutation_each_gives_as_few_times_as_can_be():
    cases = [Case(frozenset((i,)), "rare" if i < 3 else "common") for i in range(10)]
    allowed = may_give(cases, cases, "other-class")
    for seed in range(5):
        given = Counter(draw_donors(allowed, generator(seed)).tolist())
        # Seven take from three: one of them gives three times, none more often.
        assert max(given.values()) == 3
        assert sum(given[i] for i in range(3)) == 7
    assert len({tuple(draw_donors(allowed, generator(seed)).tolist()) for seed in range(5)}) > 1


def test_every_derangement_is_equally_likely():
    draw, counts = generator(), dict.fromkeys(itertools.permutations(range(4)), 0)
    allowed = ~np.eye(4, dtype=bool)
    for _ in range(3600):
        counts[tuple(draw_donors(allowed, draw).tolist())] += 1
    deranged = {p: n for p, n in counts.items() if all(i != j for i, j in enumerate(p))}
    assert len(deranged) == 9
    assert sum(deranged.values()) == 3600
    # Nine cells of 400 expected: chi-square with 8 degrees of freedom, 99.9 % below 26.1.
    assert sum((n - 400) ** 2 / 400 for n in deranged.values()) < 26.1


def test_batches_take_in_as_many_as_it_takes_and_hold_every_image():
    cases = [Case(frozenset(("a" if i < 5 else f"p{i}",))) for i in range(12)]
    assert batches(cases, 2) == [slice(0, 6), slice(6, 8), slice(8, 10), slice(10, 12)]
    assert batches(cases[::-1], 2) == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 12)]
    for size in (2, 3, 5, 12):
        found = batches(cases[::-1], size)
        assert [i for part in found for i in range(part.start, part.stop)] == list(range(12))
    # One patient alone: batches as they are asked for, and the shuffle is refused.
    assert batches(cases[:5], 2) == [slice(0, 2), slice(2, 5)]
    assert enough([made(1, 4, of=lambda label, index: "p")[0], *made(1, 4)], 1) == 2


def test_what_has_no_donor_is_refused():
    alone = [Case(frozenset(("p",)))] * 3
    with pytest.raises(OptionError, match="3 of 3 images have no other image.*--donors any"):
        draw_donors(may_give(alone, alone), generator())
    with pytest.raises(OptionError, match="batch of 1; shuffling needs at least 2 images"):
        draw_donors(np.zeros((1, 1), dtype=bool), generator())
    with pytest.raises(OptionError, match="3 of 3 images have no other image"):
        draw_from_bank(may_give(alone, alone[:2]), generator())
    items = made(1, 20)
    with pytest.raises(
        OptionError, match="20 images into no chunks.*of another class beside it.*--donors any"
    ):
        drawn_order(items, 42, "other-class")
    with pytest.raises(OptionError, match="another patient.*leave shuffle out, or add images of others"):
        drawn_order(made(1, 3, of=lambda label, index: "p"), 42)
    assert sorted(drawn_order(items, 42, "other-class", strict=False)) == list(range(20))


def test_kinship_and_chance_by_hand():
    cases = [Case(frozenset(("p",)), "a"), Case(frozenset(("p",)), "b"), Case(frozenset(("q",)), "a")]
    of_class, of_group = kinship(cases, cases, torch.tensor([[2, 2, 1], [1, 2, 0]]))
    assert of_class.tolist() == [0.5, 0, 0.5]
    assert of_group.tolist() == [0.5, 0, 0]
    # The first may take from q alone, of its class; the second from q alone; the third from both of p.
    assert class_by_chance(cases, cases) == pytest.approx((1 + 0 + 0.5) / 3)


@pytest.fixture(scope="module")
def grouped():
    """Four images a patient, of four classes, in the order of the names."""
    counts = {"train": 18, "val": 6, "test": 12}
    dataset = phantom_set(counts=counts)
    items = tuple(replace(item, group=f"{item.split}-{i // 4}") for i, item in enumerate(dataset.items))
    return replace(dataset, items=items)


@pytest.fixture(scope="module")
def suite(grouped, tmp_path_factory):
    """The whole of it on a tiny model, in batches of 4; resampled from training images."""
    folder = tmp_path_factory.mktemp("donors")
    backbone = ttr.adapt(scramble(tiny_vit(reg_tokens=2, no_embed_class=True)), preprocess=Preprocess(SIZE))
    conditions = ["registers:shuffle", "registers:resample", "registers:mean"]
    settings = AblationSettings(("probe", "segmentation"), 12, analysis_images=8, layers=2)
    with pytest.MonkeyPatch.context() as patch:
        leave_the_page_out(patch)
        run = Run(cache=folder / "cache", batch_size=4)
        found = write_ablation(backbone, PLAIN, grouped, conditions, folder / "out", settings, run)
    return backbone, found, folder / "out"


def test_a_table_says_whose_tokens_stood_in(suite):
    table = pd.read_csv(suite[2] / "results.csv").set_index(["condition", "metric"])
    assert (table.loc["registers:shuffle"].donors_same_group == 0).all()
    assert (table.loc["registers:resample"].donors_same_group == 0).all()
    assert table.loc["registers:shuffle"].donors_same_class.between(0, 0.6).all()
    assert table.loc["registers:shuffle"].donors_by_chance.between(0.1, 0.2).all()
    assert table.loc["registers:mean"].donors_same_class.isna().all()


def test_no_training_image_is_resampled_from_its_own_patient(suite):
    arrays = suite[1].measured.training.arrays["registers:resample"]
    assert len(suite[1].measured.subject.bank) == 12
    assert (arrays["donor_group"] == 0).all()
    assert len(np.unique(arrays["donor_class"])) > 1


def test_rows_go_back_to_their_images(suite, grouped):
    backbone, found, _ = suite
    scored = found.measured.scored
    assert [item.name for item in scored.items] == [item.name for item in grouped.select("test")]
    images = torch.stack([backbone.preprocess(grouped.open(item)) for item in scored.items])
    np.testing.assert_allclose(scored.arrays["full"]["embedding"], backbone.embed(images), atol=1e-5)


def test_intervals_of_layers_are_over_patients(suite):
    measured = suite[1].measured
    counts = measured.analysed.arrays["full"]["layer_confusion"][:, -1]
    groups = groups_of(measured.analysed.items)
    _, expected = level(partial(miou_resampled, counts), count=len(counts), groups=groups, shares=True)
    _, ungrouped = level(partial(miou_resampled, counts), count=len(counts), shares=True)
    assert expected != ungrouped
    table = pd.read_csv(suite[2] / "layers.csv")
    row = table[(table.metric == "miou") & (table.block == table.block.max())].iloc[0]
    assert (row.ci_low, row.ci_high) == pytest.approx((expected.low, expected.high))


def test_one_seed_draws_one_order_and_another_another():
    items = made(4, 20)
    assert drawn_order(items, 1) == drawn_order(items, 1)
    assert drawn_order(items, 1) != drawn_order(items, 2)
    # What an image is called in results plays no part.
    renamed = [replace(item, name=f"image {n}", drawn_as=item.name) for n, item in enumerate(items)]
    assert drawn_order(renamed, 1) == drawn_order(items, 1)
