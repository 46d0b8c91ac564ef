"""LOST against a dense reference that visits patch after patch, and planted objects whose box is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import torch
from torchvision.transforms import v2

import ttr
from tests.tools.tiny_models import PATCH, SIZE, WIDTH, scramble, tiny_clip, tiny_vit
from ttr.backbones.families import as_backbone
from ttr.datasets.registry import Box
from ttr.errors import OptionError
from ttr.evaluate.discovery import boxes_as_seen, lost, objects_found, overlaps
from ttr.forward.keys import patch_keys
from ttr.hooks import Site, keep
from ttr.registers.arms import PLAIN, arms
from ttr.statistics.estimates import difference, share


def reference(keys, grid, k):
    """One image, as the paper says it: counts, a sort, a sum of similarities, and a flood from the seed."""
    count = len(keys)
    alike = [[float(np.dot(keys[p], keys[q])) for q in range(count)] for p in range(count)]
    degree = [sum(alike[p][q] > 0 for q in range(count) if q != p) for p in range(count)]
    lowest = sorted(range(count), key=lambda p: (degree[p], p))
    seed = lowest[0]
    grown = [p for p in lowest[:k] if alike[seed][p] > 0]
    mask = np.array([sum(alike[s][q] for s in grown) > 0 for q in range(count)]).reshape(grid)
    labelled, _ = scipy.ndimage.label(mask)
    flooded, waiting = set(), [divmod(seed, grid[1])]
    while waiting:
        row, column = waiting.pop()
        inside = 0 <= row < grid[0] and 0 <= column < grid[1]
        if inside and mask[row, column] and (row, column) not in flooded:
            flooded.add((row, column))
            waiting += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    assert flooded == set(map(tuple, np.argwhere(labelled == labelled.flat[seed]).tolist()))
    rows, columns = zip(*flooded, strict=True)
    return seed, (min(columns), min(rows), max(columns) + 1, max(rows) + 1)


@pytest.mark.parametrize("k", [1, 7, 20, 100])
def test_it_equals_the_dense_reference(k):
    random, grid = np.random.default_rng(k), (6, 9)
    keys = random.normal(size=(12, 54, 3)) + random.normal(size=(12, 1, 3))
    found = lost(torch.from_numpy(keys), grid, k)
    expected = [reference(each, grid, k) for each in keys]
    assert found.seeds.tolist() == [seed for seed, _ in expected]
    assert found.boxes.tolist() == [list(box) for _, box in expected]
    assert len({tuple(box) for box in found.boxes.tolist()}) > 2
    for seed, mask, (left, top, right, bottom) in zip(found.seeds, found.masks, found.boxes, strict=True):
        assert mask.flat[seed]
        assert mask.sum() == mask[top:bottom, left:right].sum()


def test_an_object_among_other_patches_is_found_whole_and_what_touches_by_a_corner_is_not():
    random, grid = np.random.default_rng(0), (10, 12)
    keys = random.normal(scale=0.02, size=(1, *grid, 8))
    keys[..., 0] += 1
    keys[0, 2:5, 3:8, :2] = (-1, 0.5)
    keys[0, 5, 8, :2] = (-1, 0.5)
    found = lost(torch.from_numpy(keys.reshape(1, 120, 8)), grid)
    assert found.boxes.tolist() == [[3, 2, 8, 5]]
    assert found.masks.sum() == 15


def test_a_direction_that_all_keys_share_hides_the_object_and_centring_takes_it_away():
    """To attention such a direction is nothing: softmax(q (k + c)) is softmax(q k)."""
    random, grid = np.random.default_rng(1), (10, 12)
    keys = random.normal(scale=0.02, size=(1, *grid, 8))
    keys[0, 2:5, 3:8, :2] += (-1, 0.5)
    keys = torch.from_numpy(keys.reshape(1, 120, 8))
    shifted = keys + 5
    q, k = random.normal(size=(2, 1)), shifted[0, :, :2].numpy()
    weights = [scipy.special.softmax(each @ q[:, 0]) for each in (k, k - 5)]
    np.testing.assert_allclose(*weights)
    hidden = lost(shifted, grid)
    assert (hidden.boxes.tolist(), hidden.positive.tolist()) == ([[0, 0, 12, 10]], [1.0])
    found = lost(shifted, grid, centred=True)
    assert found.boxes.tolist() == [[3, 2, 8, 5]]
    inside, outside = 15, 105
    alike = (inside * (inside - 1) + outside * (outside - 1)) / (120 * 119)
    assert found.positive[0] == pytest.approx(alike, abs=0.01)
    mean = keys.mean(dim=1, keepdim=True)
    assert lost(keys - mean, grid).boxes.tolist() == found.boxes.tolist()


def test_patches_without_a_direction_are_an_object_of_one_patch():
    found = lost(torch.zeros(2, 9, 4), (3, 3))
    assert found.boxes.tolist() == [[0, 0, 1, 1]] * 2
    assert lost(torch.zeros(0, 9, 4), (3, 3)).masks.shape == (0, 3, 3)
    with pytest.raises(OptionError, match=r"needed \[B, 9, D\].*patches alone"):
        lost(torch.zeros(2, 10, 4), (3, 3))
    with pytest.raises(OptionError, match="patches"):
        lost(torch.zeros(2, 9, 4), (3, 3), 0)


@pytest.mark.parametrize("registers", [0, 2])
def test_keys_are_those_of_the_patches_alone_bare_and_wrapped(registers):
    backbone = as_backbone(scramble(tiny_vit(reg_tokens=registers)))
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    attention = backbone.model.blocks[-1].attn
    neurons = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 5)])
    for count, wrap in ((0, None), (3, ttr.TestTimeRegisters(backbone, neurons, num_registers=3))):
        if wrap is not None:
            wrap.install()
        with torch.no_grad(), keep([Site(attention, "input")]) as given:
            backbone.features(images)
            key = attention.qkv(given[0])[..., WIDTH : 2 * WIDTH]
        found = patch_keys(backbone, images)
        assert found.shape == (2, (SIZE // PATCH) ** 2, WIDTH)
        torch.testing.assert_close(found, key[:, 1 + registers + count :])
        if wrap is not None:
            wrap.remove()


def test_keys_of_a_fused_attention_and_of_an_earlier_block():
    backbone = as_backbone(scramble(tiny_clip()))
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    attention = backbone.model.visual.transformer.resblocks[1].attn
    with torch.no_grad(), keep([Site(attention, "input")]) as given:
        backbone.features(images)
    weight, bias = attention.in_proj_weight[WIDTH : 2 * WIDTH], attention.in_proj_bias[WIDTH : 2 * WIDTH]
    expected = (given[0] @ weight.T + bias)[:, 1:]
    torch.testing.assert_close(patch_keys(backbone, images, block=1), expected.detach())


#: Three textures of a patch: what the background shows, an object (its opposite), and what sets a neuron off.
GROUND, ODD = torch.sign(torch.randn(2, 3, PATCH, PATCH, generator=torch.Generator().manual_seed(3)))


@pytest.fixture(scope="module")
def planted():
    """A model whose keys are its patches' textures, and whose neuron (0, 0) makes an artifact of ODD ones."""
    backbone = as_backbone(tiny_vit(depth=2, img_size=8 * PATCH))
    model = backbone.model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        model.patch_embed.proj.weight[0] = GROUND / GROUND.numel()
        model.patch_embed.proj.weight[1] = 3 * ODD / ODD.numel()
        model.blocks[0].mlp.fc1.weight[0, 1], model.blocks[0].mlp.fc1.bias[0] = 20, -20
        model.blocks[0].mlp.fc2.weight[5, 0] = 100
        model.blocks[1].attn.qkv.weight[WIDTH : 2 * WIDTH] = torch.eye(WIDTH)
    return backbone


def pictures(*boxes):
    """Return images [N, 3, 64, 64] with an object each, at (left, top, right, bottom) in patches."""
    made = GROUND.tile(len(boxes), 1, 8, 8)
    for image, (left, top, right, bottom) in zip(made, boxes, strict=True):
        image[:, PATCH * top : PATCH * bottom, PATCH * left : PATCH * right] *= -1
    return made, [PATCH * np.array([box], dtype=float) for box in boxes]


def test_a_planted_object_is_found_at_its_box_and_an_artifact_hides_it_until_its_neuron_is_moved(planted):
    images, truth = pictures((2, 3, 5, 6), (1, 1, 3, 7), (4, 2, 7, 4))
    clean = objects_found(planted, images, truth, [PLAIN], batch_size=2)
    assert clean["plain"].tolist() == [True] * 3
    boxes = lost(patch_keys(planted, images), (8, 8)).boxes * PATCH
    assert boxes.tolist() == [box[0].tolist() for box in truth]

    centred = objects_found(planted, images, truth, [PLAIN], centred=True)
    assert centred["plain"].tolist() == [True] * 3

    images[:2, :, :PATCH, :PATCH] += ODD  # the patch in the corner of two of the three
    treated = arms(["plain", "token", "ttr"], planted, ttr.RegisterNeurons.from_pairs([(0, 0)]))
    found = objects_found(planted, images, truth, treated, batch_size=2)
    assert {name: hits.tolist() for name, hits in found.items()} == {
        "plain": [False, False, True],
        "token": [False, False, True],
        "ttr": [True] * 3,
    }
    assert share(found["ttr"].astype(float)).value == 1
    assert difference(found["ttr"].astype(float) - found["plain"]).value == pytest.approx(2 / 3)


def test_an_overlap_is_that_of_areas_and_half_of_it_is_enough(planted):
    box = np.array([0.0, 0, 4, 2])
    others = np.array([[0.0, 0, 4, 2], [2, 0, 6, 2], [0, 0, 2, 2], [9, 9, 10, 10], [4, 0, 8, 2]])
    assert overlaps(box, others) == pytest.approx([1, 4 / 12, 0.5, 0, 0])
    images, truth = pictures((2, 2, 4, 4))
    for right, hit in ((6, True), (6.1, False)):
        boxes = np.array([[50.0, 50, 60, 60], np.array([2, 2, right, 4]) * PATCH])
        assert objects_found(planted, images, [boxes], [PLAIN])["plain"].tolist() == [hit]
    for wrong in ([], [np.zeros((0, 4))], truth * 2):
        with pytest.raises(OptionError, match="needed"):
            objects_found(planted, images, wrong, [PLAIN])


def test_boxes_go_through_the_crop_with_their_image():
    """An image of 96 x 64 px is cropped to its middle 64 x 64, and halved."""
    shown = v2.Compose(
        [v2.CenterCrop(64), v2.Resize(SIZE), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    )
    backbone = ttr.adapt(scramble(tiny_vit()), preprocess=shown)
    boxes = [Box("a", 26, 8, 56, 48), Box("a", 0, 0, 40, 20), Box("a", 0, 0, 10, 64)]
    seen = boxes_as_seen(backbone, (64, 96), boxes)
    np.testing.assert_allclose(seen, [[5, 4, 20, 24], [0, 0, 12, 10]], atol=0.5)
    assert boxes_as_seen(backbone, (64, 96), []).shape == (0, 4)
