"""Which remedy a model needs: the planted one, and none where the images are too few to say."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

import ttr
from tests.tools.photographs import photographs
from tests.tools.tiny_models import SIZE, scramble, tiny_vit
from ttr.analysis.outliers import EXCESS, SHARE
from ttr.backbones import real
from ttr.backbones.families import as_backbone
from ttr.datasets.registry import phantom_images
from ttr.errors import ImageError, ModelError
from ttr.hooks import Site, edit
from ttr.run import Run
from ttr.statistics.estimates import share
from ttr.studies.scan.measure import Scanned, scan
from ttr.studies.scan.remedy import (
    ENOUGH,
    LEFT,
    NONE_NEEDED,
    THERE,
    TTR,
    UNSAID,
    VANISH,
    answer,
    state_of,
    verdict,
)


@pytest.fixture(scope="module")
def drawn():
    return [each.image for each in phantom_images(ENOUGH)]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("phantom", TTR), ("phantom-clip", TTR), ("phantom-reg4", THERE), ("phantom-patches", THERE)],
)
def test_the_verdict_on_a_phantom_is_the_planted_one(name, remedy, drawn):
    backbone = ttr.load(name, image_size=64)
    found = scan(backbone, drawn)
    said = verdict(found)
    assert (found.images, found.size, said.remedy) == (ENOUGH, "64", remedy)
    if remedy == TTR:
        planted = {block for block, _ in backbone.planted}
        assert (said.first, said.last) == (min(planted), backbone.num_layers - 1)
        assert said.state == "dirty"
        assert said.score > 0.3
    else:
        assert (said.first, said.state, said.score) == (None, "clean", 0)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(
    real.found() is None or find_spec("onnx") is None, reason=f"needs real weights: {real.INSTALL}"
)
def test_artifacts_planted_in_real_weights_are_found_at_their_block():
    images = list(photographs().values())
    planted = ttr.load("phantom-dinov2", image_size=224)
    said = verdict(scan(planted, images))
    assert (said.remedy, said.first) == (TTR, planted.planted[0][0])
    bare = verdict(scan(ttr.load("dinov2-vit-s-14", pretrained=True, image_size=224), images))
    assert (bare.first, bare.remedy) == (None, UNSAID)  # eight photographs are too few to call it clean


def test_outliers_of_blocks_in_the_middle_are_seen_and_not_taken_for_those_of_the_end():
    """A patch is made long behind block 1 and short again behind block 3."""
    backbone = as_backbone(scramble(tiny_vit(depth=6)))
    images = torch.randn(ENOUGH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    push = torch.zeros(backbone.layout.length, 24)
    backbone.layout.select(push, "patches", dim=0)[5] = 500.0
    blocks = [Site(backbone.sites.blocks[block].module, "output") for block in (1, 3)]
    with edit([(blocks[0], lambda x: x + push), (blocks[1], lambda x: x - push)]):
        found = scan(backbone, images)
        few = scan(backbone, images[:9])
    said = verdict(found)
    assert (said.remedy, said.first, said.last) == (VANISH, 1, 2)
    np.testing.assert_allclose(found.values[:, 1:3, SHARE], 1 / backbone.layout.patches)
    assert verdict(few).remedy == UNSAID
    assert verdict(scan(backbone, images)).remedy == NONE_NEEDED


def made(*shares: float, registers: int = 0, images: int = ENOUGH) -> Scanned:
    """Return a model with an outlier share a block, the same in every image but for a thousandth of it."""
    values = np.zeros((images, len(shares), 4))
    values[..., SHARE] = np.array(shares) * (1 + np.linspace(-1e-3, 1e-3, images))[:, None]
    values[..., EXCESS] = 10 * values[..., SHARE]
    return Scanned("made", "224", registers, values)


@pytest.mark.parametrize(
    ("shares", "registers", "remedy"),
    [
        ((0, 0, 0.02, 0.02), 0, TTR),
        ((0, 0, 0.02, 0), 0, TTR),  # the last block may hide them
        ((0, 0.02, 0, 0), 0, VANISH),
        ((0, 0, 0, 0), 0, NONE_NEEDED),
        ((0, 0, 0, 0), 4, THERE),
        ((0, 0, 0.02, 0.02), 4, LEFT),
        ((0.0004, 0, 0, 0), 0, NONE_NEEDED),  # a patch in a thousand is the tail of a clean map
    ],
)
def test_the_remedy_follows_from_blocks_and_registers(shares, registers, remedy):
    assert verdict(made(*shares, registers=registers)).remedy == remedy


def test_the_score_is_that_of_the_worst_block():
    found = made(0, 0.02, 0.03, 0.01)
    said = verdict(found)
    assert said.score == pytest.approx(0.3)
    assert (said.interval.low, said.interval.high) == (
        share(found.values[:, 2, EXCESS]).interval().low,
        share(found.values[:, 2, EXCESS]).interval().high,
    )
    assert said.largest == pytest.approx(0.03)


def test_so_many_images_are_enough_and_one_fewer_is_not():
    assert state_of(np.zeros(ENOUGH)) == "clean"
    assert state_of(np.zeros(ENOUGH - 1)) == "open"
    one = np.zeros(100)
    one[0] = 0.05
    assert state_of(one[:8]) == "open"  # one image of eight is no evidence of outliers
    assert state_of(one) == "clean"
    assert state_of(np.array([0.04])) == "open"
    assert state_of(np.array([0.04, 0.05, 0.045])) == "dirty"
    assert verdict(made(0, 0, 0, images=4)).remedy == UNSAID


def test_the_answer_is_one_sentence_that_says_where():
    scans = [made(0, 0, 0.02, 0.02), made(0, 0.02, 0, 0), made(0, 0, 0, 0, registers=4)]
    said = answer([(each, verdict(each)) for each in scans])
    most = "at most 2.0 % of the patches"
    assert said == (
        f"For made at 224 px (outliers from block 2 on, {most}): TTR; for made at 224 px (outliers in blocks "
        f"1..1, {most}): outliers that vanish before the last block; for made at 224 px: registers already "
        "there."
    )


def test_batches_change_nothing_and_a_wrapped_model_is_refused(drawn):
    backbone = ttr.load("phantom", image_size=64)
    whole = scan(backbone, drawn[:5]).values
    np.testing.assert_allclose(
        scan(backbone, iter(drawn[:5]), run=Run(batch_size=2)).values, whole, rtol=1e-5
    )
    with pytest.raises(ImageError, match="no images"):
        scan(backbone, [])
    neurons = ttr.RegisterNeurons.from_pairs(backbone.planted)
    with ttr.TestTimeRegisters(backbone, neurons), pytest.raises(ModelError, match="is wrapped"):
        scan(backbone, drawn[:1])
