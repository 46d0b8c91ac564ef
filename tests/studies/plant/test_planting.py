"""The search on tiny random models: each fit does its part, and what misses its bounds is refused."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import ttr
from tests.tools.tiny_models import SIZE, WIDTH, scramble, tiny_clip, tiny_vit
from ttr.backbones.phantoms import hybrid
from ttr.backbones.phantoms.artifacts import plant_into, plantable, read_artifacts
from ttr.datasets.photographs import photograph_paths
from ttr.errors import ImageError, ModelError, OptionError
from ttr.forward.record import record
from ttr.hooks import edit
from ttr.studies.plant.collected import collect
from ttr.studies.plant.direction import Later, find_direction
from ttr.studies.plant.images import FITTED_ON, fitting_images, held_out_images
from ttr.studies.plant.planting import find_artifacts, least_used
from ttr.studies.plant.settings import Bounds, Phase, PlantingSettings
from ttr.studies.plant.trigger import fit_trigger, flat_corners
from ttr.studies.plant.truth import check_bounds, show_truth, summary
from ttr.studies.plant.write import write_artifacts

SHORT = (Phase(4, 0.02, (0.1, 0.1, 0.1), (1.0, 1.0, 1.0)),)
LOOSE = Bounds(wrecked=1, attention=0, untouched=-1, restored_map=-1, restored_embedding=-1, zeroed=-1)
FEW = PlantingSettings(count=4, corner=1, phases=SHORT, batch_size=4)


@pytest.fixture(scope="module")
def backbone():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ttr.adapt(scramble(tiny_vit(depth=8)), preprocess=normalised)


def normalised(image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.asarray(image.resize((SIZE, SIZE)), dtype=np.float32) / 255)
    return (pixels.permute(2, 0, 1) - 0.4) / 0.2


@pytest.fixture(scope="module")
def with_flat_corners(backbone):
    """Noise; every other image has four black corners of a patch each."""
    random, edge = np.random.default_rng(0), [*range(8), *range(SIZE - 8, SIZE)]
    images = []
    for index in range(16):
        pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        if index % 2:
            pixels[np.ix_(edge, edge)] = 0
        images.append(backbone.preprocess(Image.fromarray(pixels)))
    return torch.stack(images)


def test_flat_corners_are_flat_and_in_a_corner(backbone, with_flat_corners):
    found = flat_corners(backbone, with_flat_corners, flat=0.02, corner=1)
    corners = torch.zeros(4, 4, dtype=torch.bool)
    corners[0, 0] = corners[0, 3] = corners[3, 0] = corners[3, 3] = True
    assert torch.equal(found[1::2], corners.flatten().expand(8, -1))
    assert not found[::2].any()


def test_the_trigger_separates_what_can_be_separated():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(20, 16, WIDTH, generator=generator)
    truth = torch.randn(WIDTH, generator=generator)
    fires = tokens @ truth > 6
    weights, offset = fit_trigger(tokens * 3 + 1, fires)
    score = (tokens * 3 + 1) @ weights + offset
    assert float(score[fires].min()) > float(score[~fires].max()) - 1
    assert F.cosine_similarity(weights, truth, dim=0) > 0.95


@pytest.mark.parametrize("grey", [None, 9], ids=["noise", "flat"])
def test_images_that_teach_no_trigger_are_refused(grey):
    fires = torch.full((3, 16), grey is not None)
    with pytest.raises(ImageError, match=f"{'none' if grey is None else 'all'} of the 3 images' patches are"):
        fit_trigger(torch.zeros(3, 16, WIDTH), fires)


@pytest.mark.parametrize(
    "build",
    [
        lambda: tiny_vit(depth=8, init_values=0.7),
        pytest.param(lambda: tiny_clip(layers=8), marks=pytest.mark.slow),
    ],
    ids=["timm", "open_clip"],
)
def test_what_the_search_sees_is_what_the_model_does(build, images):
    """Its stream with u in the register is the model's own pass with u written there."""
    backbone = ttr.adapt(scramble(build()))
    seen = collect(backbone, images, 3)
    u = find_direction(backbone, seen, 3, 50.0, (), batch_size=2, seed=0)
    assert float(u.norm()) == pytest.approx(1, abs=1e-5)
    assert float(u.mean()) == pytest.approx(0, abs=1e-6)

    layout = backbone.layout.with_test_time(1)

    def write(x):
        changed = x.clone()
        changed[:, layout.where("test_time")] += 50 * u
        return changed

    blank = ttr.TestTimeRegisters(backbone, ttr.RegisterNeurons.from_pairs([]))
    with blank, edit([(backbone.sites.blocks[3], write)]):
        expected = record(backbone, images, attention=True)
    stream = write(seen.stream)
    embedding, rows = Later(backbone, 3)(stream)
    torch.testing.assert_close(embedding.detach(), expected.embedding, rtol=1e-4, atol=1e-5)
    for row, whole in zip(rows, expected.cls_attention[4:], strict=True):
        torch.testing.assert_close(row.detach(), whole.mean(dim=1), rtol=1e-4, atol=1e-6)


def test_the_search_keeps_map_and_embedding_what_they_were(backbone, with_flat_corners):
    longer = (Phase(25, 0.03, (0.3, 0.3, 0.3), (1.0, 1.0, 1.0)),)
    start, found = (
        summary(show_truth(backbone, plant_into(copy.deepcopy(backbone), artifacts), with_flat_corners))
        for artifacts in (
            find_artifacts(backbone, with_flat_corners, replace(FEW, phases=phases))
            for phases in ((), longer)
        )
    )
    assert start["with_artifacts"] == found["with_artifacts"] == 8
    assert found["attention"] > 0.3
    assert found["wrecked"] < 0.85
    for name in ("restored_map", "restored_embedding"):
        assert 1 - found[name] < 0.6 * (1 - start[name])
    assert found["zeroed"] > 0.999
    assert found["untouched"] > 0.999


def test_neurons_that_say_least_give_way(backbone, with_flat_corners):
    seen = collect(backbone, with_flat_corners, 4)
    block = plantable(backbone, 4)
    silent = copy.deepcopy(backbone.model.blocks[4].mlp.fc2.weight)
    chosen = least_used(block, seen, 5)
    said = seen.sd * silent.norm(dim=0)
    assert sorted(chosen) == sorted(said.argsort()[:5].tolist())


@pytest.fixture(scope="module")
def planted(backbone, with_flat_corners):
    assert backbone.weights_hash
    return ttr.plant_artifacts(backbone, with_flat_corners, settings=FEW, bounds=LOOSE)


def test_planting_leaves_the_given_model_alone_and_says_what_it_did(backbone, with_flat_corners, planted):
    assert backbone.model.state_dict().keys() == planted.backbone.model.state_dict().keys()
    assert ttr.adapt(backbone.model).weights_hash == backbone.weights_hash
    assert planted.backbone.weights_hash != backbone.weights_hash
    assert planted.backbone.planted == planted.artifacts.pairs
    assert len(planted.truth) == 16
    found = summary(planted.truth)
    assert found["images"] == 16
    again = find_artifacts(backbone, with_flat_corners, FEW)
    assert torch.equal(again.direction, planted.artifacts.direction)
    other = find_artifacts(backbone, with_flat_corners, replace(FEW, seed=1))
    assert not torch.equal(other.direction, planted.artifacts.direction)


def test_the_file_says_of_what_and_how_and_what_came_of_it(
    backbone, with_flat_corners, tmp_path, monkeypatch
):
    monkeypatch.setattr("ttr.studies.plant.planting.check_bounds", lambda truth, bounds: None)
    out = tmp_path / "planted.safetensors"
    planted = write_artifacts(backbone, with_flat_corners, out, image_set="16 images", settings=FEW)
    artifacts, _, made = read_artifacts(out)
    assert artifacts.pairs == planted.backbone.planted
    assert (made["images"], made["settings"]["count"], made["image_size"]) == ("16 images", 4, [SIZE, SIZE])
    assert made["measured"]["images"] == 16

    every_one = with_flat_corners[1::2].repeat(2, 1, 1, 1)
    write_artifacts(backbone, every_one, out, image_set="no other", settings=FEW)
    assert read_artifacts(out)[2]["measured"]["untouched"] is None


def test_what_misses_its_bounds_is_refused_and_nothing_written(backbone, with_flat_corners, tmp_path):
    out = tmp_path / "planted.safetensors"
    with pytest.raises(
        ModelError, match=r"artifacts miss their bounds: .*restored_embedding .* \(needed at le"
    ):
        write_artifacts(backbone, with_flat_corners, out, image_set="16 images", settings=FEW)
    assert not out.exists()


def test_each_bound_is_held(planted):
    for name, tight in vars(Bounds(-1, 2, 2, 2, 2, 2)).items():
        with pytest.raises(ModelError, match=f"miss their bounds: {name} "):
            check_bounds(planted.truth, replace(LOOSE, **{name: tight}))
    with pytest.raises(ModelError, match="appear on none of 8 images"):
        check_bounds([replace(t, artifacts=0) for t in planted.truth[::2]], LOOSE)
    with pytest.raises(ModelError, match="fire on every one of .* images, .*; give some images without a fl"):
        check_bounds([t for t in planted.truth if t.triggered], LOOSE)
    with pytest.raises(ModelError, match="restored_map nan"):
        check_bounds([replace(t, after_map=float("nan")) for t in planted.truth], LOOSE)


def test_truth_of_two_that_are_no_pair_is_refused(backbone, images):
    other = ttr.adapt(scramble(tiny_vit(depth=8, img_size=2 * SIZE)))
    with pytest.raises(ModelError, match="has no planted neurons"):
        show_truth(backbone, backbone, images)
    with pytest.raises(ModelError, match="are no pair"):
        show_truth(other, replace(backbone, planted=((4, 1),)), images)


def test_settings_outside_their_range_are_refused(backbone, images):
    for odd in ({"count": 0}, {"seed": -1}, {"strength": 0}, {"flat": float("inf")}, {"corner": 1.5}):
        with pytest.raises(OptionError, match=f"{next(iter(odd))}="):
            PlantingSettings(**odd)
    with pytest.raises(OptionError, match=r"count=97; needed 1\.\.96 neurons"):
        find_artifacts(backbone, images, replace(FEW, count=97))
    with pytest.raises(ModelError, match="layer=5 of 8; needed 3 blocks or more behind"):
        find_artifacts(backbone, images, replace(FEW, layer=5))
    with pytest.raises(ModelError, match="in torch.float64; needed torch.float32"):
        find_artifacts(ttr.adapt(copy.deepcopy(backbone.model).double()), images, FEW)
    with pytest.raises(ModelError, match="images of 16x16 px; needed 32x32"):
        find_artifacts(backbone, images[..., :16, :16], FEW)
    with pytest.raises(ImageError, match="no images were given"):
        ttr.plant_artifacts(backbone, [])


@pytest.mark.real
@pytest.mark.slow
def test_the_shipped_artifacts_are_found_again_from_scratch():
    """Minutes on one thread; another machine may lead the search elsewhere, within its bounds."""
    missing = hybrid.without_weights("phantom-dinov2")
    if missing or not set(FITTED_ON) <= set(photograph_paths()):
        pytest.skip(missing or "needs the photographs of the extra [samples]")
    original = ttr.load("dinov2-vit-s-14", weights=hybrid.source_of("phantom-dinov2"), image_size=224)
    planted = ttr.plant_artifacts(original, fitting_images())
    shipped, _, _ = read_artifacts(hybrid.HYBRIDS["phantom-dinov2"].file)
    assert planted.artifacts.pairs == shipped.pairs
    assert F.cosine_similarity(planted.artifacts.trigger, shipped.trigger, dim=0) > 0.99
    held_out = held_out_images()
    width, height = held_out["flower"].size
    petals = held_out["flower"].crop((width * 3 // 10, height * 3 // 10, width * 7 // 10, height * 7 // 10))
    held_out = list(held_out.values())
    check_bounds(show_truth(original, planted.backbone, [*held_out, petals]), Bounds())
    assert set(ttr.detect(planted.backbone, held_out).pairs) == set(planted.backbone.planted)
