"""What Lappe and Giese show by model: shares, strongest tokens and one-shot against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import ttr
from ttr.analysis.integration import cls_attention
from ttr.datasets.phantom_set import phantom_set
from ttr.datasets.registry import ReadAhead
from ttr.evaluate.oneshot import one_each
from ttr.evaluate.probe import Labelled
from ttr.forward.blocks import watch
from ttr.forward.record import record
from ttr.run import Run
from ttr.studies.integrate import by_model
from ttr.studies.integrate.by_model_section import by_model_section
from ttr.studies.integrate.oneshot_table import DRAWS, oneshot_table
from ttr.studies.integrate.parts import ATTENDED, PartSamples, measure_parts
from ttr.studies.integrate.settings import IntegrationSettings
from ttr.studies.integrate.tables import integration_table, layers_table
from ttr.studies.integrate.token_tables import dimensions_table, registers_table, shares_table

COUNT = 4
NONE = ttr.RegisterNeurons.from_pairs([])


@pytest.fixture(scope="module")
def backbone():
    return ttr.load("phantom-reg4", image_size=64)


@pytest.fixture(scope="module")
def items():
    return phantom_set().select("test")[:COUNT]


@pytest.fixture(scope="module")
def found(backbone, items):
    """Four registers, bare and with one test-time register more; four images in batches of three."""
    reading = ReadAhead(phantom_set().opened(items), Run())
    return measure_parts(
        backbone, NONE, reading, IntegrationSettings(num_registers=(0, 1)), Run(batch_size=3)
    )


@pytest.fixture(scope="module")
def seen(backbone, items):
    """The last block of one pass of all images, and its layout."""
    images = torch.stack([backbone.preprocess(phantom_set().open(item)) for item in items])
    with watch(backbone, 5) as blocks:
        record(backbone, images)
    return blocks[5]


def test_shares_of_patches_and_registers_leave_cls_out_and_add_up_to_one(found, backbone, items, seen):
    table = shares_table(found, backbone, [item.name for item in items])
    assert table[["patches", "registers"]].sum(axis=1).to_numpy() == pytest.approx(1)
    bare = table[table.num_registers == 0]
    assert bare.image.tolist() == [item.name for item in items]
    attention = cls_attention(backbone, 5, seen).detach().mean(dim=1).double().numpy()
    registers, patches = attention[:, 1:5].sum(axis=1), attention[:, 5:].sum(axis=1)
    np.testing.assert_allclose(bare.registers, registers / (registers + patches), atol=1e-5)
    rows = integration_table(found, backbone).set_index(["num_registers", "part"])
    assert rows.share_without_cls[0, "registers"] == pytest.approx(bare.registers.mean())
    assert rows.attention_share[0, "registers"] == pytest.approx(registers.mean(), abs=1e-5)
    assert rows.attention_share[0, "registers"] < rows.share_without_cls[0, "registers"]
    assert np.isnan(rows.share_without_cls[0, "cls"])
    low, value, high = rows.loc[(0, "patches"), ["norm_low", "norm", "norm_high"]]
    assert low < value < high


def test_a_model_without_registers_has_no_shares_and_its_strongest_patch(items):
    backbone = ttr.load("phantom", image_size=64)
    reading = ReadAhead(phantom_set().opened(items[:2]), Run())
    bare = measure_parts(backbone, NONE, reading, IntegrationSettings(num_registers=(0,)), Run())
    assert shares_table(bare, backbone, ["a", "b"]).empty
    assert set(dimensions_table(bare, backbone).token) == {"strongest patch"}
    images = torch.stack([backbone.preprocess(phantom_set().open(item)) for item in items[:2]])
    with watch(backbone, 5) as blocks:
        record(backbone, images)
    patches = blocks[5].tokens[:, 1:].numpy()
    chosen = np.linalg.norm(patches, axis=2).argmax(axis=1)
    expected = patches[[0, 1], chosen]
    np.testing.assert_allclose(bare.vectors[0, 5, "patch before"], expected, rtol=1e-4, atol=1e-4)


def test_every_register_of_the_last_block_is_kept(found, seen):
    assert found.registers[0].shape == (4, 2, COUNT, seen.tokens.shape[2])
    assert found.registers[1].shape[0] == 5, "trained ones and the test-time register"
    for place, tokens in enumerate((seen.tokens, seen.normed)):
        expected = tokens[:, 1:5].transpose(0, 1).numpy()
        np.testing.assert_allclose(found.registers[0][:, place], expected, rtol=1e-3, atol=1e-3)
    assert found.first(2).registers[0].shape[2] == 2


def by_hand(chosen):
    """Three registers of random numbers, one block; which one is the strongest is given."""
    random = np.random.default_rng(0)
    tokens = random.normal(size=(3, 2, len(chosen), 120)).astype(np.float32)
    tokens[2, 0, :, 17] += 100
    strongest = tokens[chosen, :, np.arange(len(chosen))]
    return PartSamples(
        len(chosen),
        1,
        vectors={(0, 0, "before"): strongest[:, 0], (0, 0, "after"): strongest[:, 1]},
        numbers={(0, 0, "registers"): {"strongest": np.array(chosen, dtype=float)}},
        registers={0: tokens},
    )


def test_the_fixed_register_is_the_one_that_is_strongest_most_often(backbone):
    made = by_hand([2, 0, 2, 2, 1])
    registers = registers_table(made, backbone).set_index(["token", "when"])
    fixed = registers.loc["register-3", "before"]
    assert fixed.strongest_in == 0.6
    units = made.registers[0][2, 0].astype(float)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    assert fixed.cosine == pytest.approx((units @ units.T)[~np.eye(5, dtype=bool)].mean())
    assert registers.loc["strongest register", "before"].cosine < fixed.cosine
    table = dimensions_table(made, backbone)
    assert table.groupby("token").size().to_dict() == {"strongest register": 100, "register-3": 100}
    first = table[(table.token == "register-3") & (table["rank"] == 1)].iloc[0]
    assert first.dimension == 17
    assert first.before == pytest.approx(np.abs(made.registers[0][2, 0, :, 17]).mean())
    assert first.after == pytest.approx(np.abs(made.registers[0][2, 1, :, 17]).mean())
    assert first.signed_after == pytest.approx(made.registers[0][2, 1, :, 17].mean(), abs=1e-6)
    assert table[table.token == "register-3"].before.is_monotonic_decreasing


def samples(labels, spread):
    """Features of each class around its own direction; of the patches alone, with noise."""
    random = np.random.default_rng(1)
    centres = np.eye(labels.max() + 1)[labels]
    noisy = (centres + spread * random.normal(size=centres.shape)).astype(np.float32)
    whole = centres.astype(np.float32)
    vectors = {
        (0, 0, f"{kind}{part}"): x
        for kind in ("", ATTENDED)
        for part, x in (("full", whole), ("patches", noisy))
    }
    return PartSamples(len(labels), 1, vectors=vectors)


def test_one_shot_is_the_mean_of_draws_of_one_test_image_a_class(backbone):
    labels = np.arange(24) % 8
    made, train = samples(labels, 1.5), {0: Labelled(np.eye(8, dtype=np.float32), np.arange(8))}
    table = oneshot_table(made, backbone, train, labels, seed=3)
    attention = table[table.of == "attention"].set_index(["part", "top"])
    table = table[table.of == "output"].set_index(["part", "top"])
    each = one_each(train[0], Labelled(made.vectors[0, 0, "patches"], labels), draws=DRAWS, seed=3).accuracies
    for top in (1, 5):
        row = table.loc["patches", top]
        assert row.accuracy == pytest.approx(each[top].mean())
        assert row.ci_low < row.accuracy < row.ci_high
        assert row.draws_low <= row.accuracy <= row.draws_high
        assert row.chance == top / 8
    assert table.accuracy["patches", 1] < table.accuracy["patches", 5]
    assert table.accuracy["full", 1] == 1
    assert table.ci_low["full", 1] < 1
    assert (table.missing == "").all()
    assert (attention.loc["full"].accuracy == 1).all(), "another image of the class has the same centre"
    assert attention.accuracy["patches", 1] < attention.accuracy["patches", 5] < 1
    alone = oneshot_table(made, backbone, train, labels, groups=[f"p{y}" for y in labels])
    assert set(alone.missing[alone.of == "attention"]) == {"no class has two test images (of two patients)"}


def test_a_top_5_that_cannot_fail_is_no_number(backbone):
    labels = np.arange(10) % 5
    train = {0: Labelled(np.eye(5, dtype=np.float32), np.arange(5))}
    table = oneshot_table(samples(labels, 0.6), backbone, train, labels)
    table = table[table.of == "output"].set_index(["part", "top"])
    assert np.isnan(table.accuracy["full", 5])
    assert table.missing["full", 5] == "top-5 cannot fail with 5 classes"
    assert table.accuracy["full", 1] == 1


def test_shares_are_drawn_as_a_distribution_a_row_a_model():
    shares = pd.DataFrame(
        {
            "backbone": ["large"] * 4 + ["small"] * 4,
            "num_registers": 0,
            "registers": [0.1, 0.4, 0.8, 0.9, 0.2, 0.2, 0.2, 0.2],
        }
    )
    figure = by_model.shares_by_model(shares, ["small", "none", "large"])
    assert list(figure.layout.yaxis.ticktext) == ["small", "large"]
    medians = [trace.x[0] for trace in figure.data if trace.mode == "markers"]
    assert medians == pytest.approx([20, 60])
    filled = [trace for trace in figure.data if trace.fill]
    assert len(filled) == 1, "a density for the one that differs, lines alone where every image has the same"
    assert by_model.shares_by_model(shares, ["none"]) is None


def test_parts_are_drawn_where_they_are(found, backbone):
    table = integration_table(found, backbone)
    last = by_model.at_last(table, ["phantom-reg4"])
    columns = ("norm", "norm_low", "norm_high")
    figure = by_model.parts_by_model(last, ["patches", "skip"], columns, "length", quantity="length")
    assert list(figure.layout.yaxis.ticktext) == ["phantom-reg4", "phantom-reg4, R = 1"]
    for trace, part in zip(figure.data, ("patches", "skip"), strict=True):
        rows = last[last.part == part]
        assert trace.x == pytest.approx(rows.norm.to_numpy())
        low, high = np.array(trace.x) - trace.error_x.arrayminus, np.array(trace.x) + trace.error_x.array
        assert np.stack([low, high], axis=1) == pytest.approx(rows[["norm_low", "norm_high"]].to_numpy())
        assert f"length {rows.norm.iloc[0]:.3f}, 95 % interval" in trace.hovertext[0]
    assert by_model.parts_by_model(last, ["nothing"], columns, "length", quantity="length") is None


def test_dimensions_are_drawn_before_and_after_the_norm(found, backbone):
    table = dimensions_table(found, backbone)
    figures = list(by_model.dimensions_by_model(table, ["phantom-reg4"]).values())
    bare = table[(table.num_registers == 0) & (table.token == "strongest register")]
    assert figures[0].data[0].y == pytest.approx(bare.before.to_numpy())
    assert figures[1].data[0].y == pytest.approx(bare.after.to_numpy())
    assert len(figures[0].data) == 2, "each image's own, and the fixed one"


def test_the_section_says_what_it_cannot_draw():
    labels = np.arange(4) % 2
    reading = ReadAhead(phantom_set().opened(phantom_set().select("test")[:4]), Run())
    bare = ttr.load("phantom", image_size=64)
    found = measure_parts(bare, NONE, reading, IntegrationSettings(num_registers=(0,)), Run())
    size = found.vectors[0, 5, "full"].shape[1]
    train = {0: Labelled(np.eye(2, size, dtype=np.float32), np.arange(2))}
    section = by_model_section(
        {
            "integration": integration_table(found, bare),
            "oneshot": oneshot_table(found, bare, train, labels),
            "layers": layers_table(found, bare),
            "registers": registers_table(found, bare),
            "dimensions": dimensions_table(found, bare),
            "shares": shares_table(found, bare, list("abcd")),
        }
    )
    for words in (
        "No registers, so all of it goes to patches: phantom.",
        "Top-5 cannot fail with 2 classes; top-1 is drawn.",
        "No model with registers was measured.",
        *("Figure 2b", "Figure 3b", "Figure 5a", "Figure 5b", "Figure 6"),
    ):
        assert words in section.html
    assert "Figure 2a" not in section.html
    assert "Figure 3a" not in section.html
