"""MONAI's ViT of images: as a classifier, without a head, and as the encoder of a segmenter."""

from __future__ import annotations

import copy
from importlib.util import find_spec

import pytest
import torch
from torch import nn

import ttr
from tests.backbones.test_contract import TOLERANCE, neurons_of, tokens_by_hand
from tests.tools.tiny_models import DEPTH, WIDTH, scramble, tiny_monai
from ttr.errors import ModelError
from ttr.forward.attention import attention_rows
from ttr.hooks import capture

#: Looked for and not imported: to import it takes a second of each process that collects the tests.
MISSING = [name for name in ("monai", "einops") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"could not import {MISSING}")
NO_NEURONS = ttr.RegisterNeurons.from_pairs([])


@pytest.fixture(
    params=[{"classification": True}, {"proj_type": "perceptron"}], ids=["classifier", "headless"]
)
def model(request):
    return scramble(tiny_monai(**request.param))


def test_its_feature_is_what_its_head_is_given_or_the_mean_of_its_tokens(model, images):
    backbone = ttr.adapt(model)
    headless = copy.deepcopy(model)
    if hasattr(headless, "classification_head"):
        headless.classification_head = nn.Identity()
    with torch.no_grad():
        expected = headless(images)[0]
    expected = expected if expected.ndim == 2 else expected.mean(dim=1)
    torch.testing.assert_close(backbone.embed(images), expected, **TOLERANCE)
    assert backbone.name == "monai ViT"


def test_blank_registers_equal_zeros_that_are_inserted_by_hand(model, images):
    backbone = ttr.adapt(model)
    prefix = backbone.layout.prefix
    expected = tokens_by_hand(model.blocks, lambda: model(images), prefix, 2)
    with torch.no_grad():
        bare = model(images)
        with ttr.TestTimeRegisters(backbone, NO_NEURONS, num_registers=2):
            tokens, (_, collected) = backbone.tokens(images), model(images)
    torch.testing.assert_close(tokens.patches, model.norm(expected)[:, prefix + 2 :], **TOLERANCE)
    assert [x.shape for x in collected] == [x.shape for x in bare[1]]
    assert len(collected) == DEPTH


def test_its_attention_is_the_modules_own(model, images):
    backbone = ttr.adapt(model)
    rows = []

    def watch(index, x, kwargs):
        module = backbone.sites.attention[index].module
        module.save_attn = True
        rows.append(attention_rows(backbone, module, x, kwargs, slice(None)))

    with ttr.TestTimeRegisters(backbone, neurons_of(backbone)), capture(backbone.sites.attention, watch):
        backbone.embed(images)
    for ours, site in zip(rows, backbone.sites.attention, strict=True):
        torch.testing.assert_close(ours, site.module.att_mat, **TOLERANCE)


def test_it_is_detected_on(model, images):
    assert ttr.detect(ttr.adapt(model), images).provenance.images == 5


@pytest.mark.slow
def test_it_is_exported(model, tmp_path):
    backbone = ttr.adapt(model)
    made = ttr.export(backbone, neurons_of(backbone), tmp_path / "vit.pt2", format="pt2")
    assert made.max_difference < 1e-4 < made.moved


def test_a_unetr_holds_one_and_volumes_are_refused():
    from monai.networks.nets import UNETR, ViT

    sizes = {"img_size": 32, "hidden_size": WIDTH, "mlp_dim": 48, "num_heads": 2}
    unetr = scramble(UNETR(1, 2, **sizes, spatial_dims=2, feature_size=8))
    backbone = ttr.adapt(unetr)
    assert str(backbone.weights) == "in memory (.vit of UNETR)"
    assert backbone.channels == 1
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        bare = unetr(images)
        with ttr.TestTimeRegisters(unetr, neurons_of(backbone), num_registers=2):
            wrapped = unetr(images)
    assert wrapped.shape == bare.shape == (2, 2, 32, 32)
    assert not torch.allclose(wrapped, bare, atol=1e-4)
    with pytest.raises(ModelError, match=r"takes volumes \(patches of 8x8x8\); .* spatial_dims=2"):
        ttr.adapt(ViT(1, patch_size=8, num_layers=1, **sizes))
