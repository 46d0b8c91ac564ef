"""Detection against the planted truth, and its edges."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.datasets.registry import open_image, phantom_images, sample_paths
from ttr.errors import ImageError, ModelError, NeuronsError, OptionError
from ttr.forward.record import record


@pytest.mark.parametrize("name", ["phantom", "phantom-clip"])
@pytest.mark.parametrize("threshold", ["auto", 100, "mean+3sd"])
def test_detection_keeps_exactly_the_planted_neurons_and_ranks_them_first(name, threshold):
    backbone = ttr.load(name)
    images = [p.image for p in phantom_images(6, seed=5)]
    neurons = ttr.detect(backbone, images, threshold=threshold)
    assert neurons.pairs == list(backbone.planted)
    assert [(r.layer, r.neuron) for r in neurons.ranking[:10]] == list(backbone.planted)
    assert len(neurons.ranking) == backbone.num_layers * backbone.num_neurons
    assert neurons.provenance.images_with_outliers == 6
    assert neurons.provenance.top_layer == 2


def test_detection_works_on_the_real_samples_alone(phantom):
    images = [open_image(path) for path in sample_paths().values()]
    assert ttr.detect(phantom, images).pairs == list(phantom.planted)


def test_trained_registers_leave_no_outliers_and_that_is_an_answer():
    backbone = ttr.load("phantom-reg4")
    images = [open_image(path) for path in sample_paths().values()]
    neurons = ttr.detect(backbone, [*images, *(p.image for p in phantom_images(6))])
    assert neurons.pairs == []
    assert "no outlier patches: 0 of 8 images" in neurons.message
    assert len(neurons.ranking) == 6 * 768
    with ttr.TestTimeRegisters(backbone, neurons):
        assert backbone.embed(torch.zeros(1, 3, 224, 224)).shape == (1, 192)


def test_top_k_and_top_layer_choose_from_the_ranking(phantom, phantom_batch):
    neurons = ttr.detect(phantom, phantom_batch, top_k=3)
    assert neurons.pairs == list(phantom.planted[:3])
    early = ttr.detect(phantom, phantom_batch, top_layer=1)
    assert early.pairs == []
    assert "no neuron stands out" in early.message
    assert ttr.detect(phantom, phantom_batch, top_layer=-6, top_k=5).provenance.top_layer == 0
    assert all(layer == 0 for layer, _ in ttr.detect(phantom, phantom_batch, top_layer=0, top_k=5).pairs)


KINDS = ("tensor", "tensors", "pil", "generator")
#: Each kind and each size once; with -m slow, each kind in each size.
USUAL = [("generator", 1), ("tensor", 3), ("tensors", 3), ("pil", 16)]
OTHERS = [(kind, size) for kind in KINDS for size in (1, 3, 16) if (kind, size) not in USUAL]


@pytest.mark.parametrize(
    ("kind", "batch_size"), [*USUAL, *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS)]
)
def test_any_kind_of_images_and_any_batch_size_agree(phantom, kind, batch_size):
    drawn = [p.image for p in phantom_images(5)]
    tensors = [phantom.preprocess(image) for image in drawn]
    images = {
        "tensor": torch.stack(tensors),
        "tensors": tensors,
        "pil": drawn,
        "generator": (image for image in drawn),
    }[kind]
    found = ttr.detect(phantom, images, batch_size=batch_size)
    expected = ttr.detect(phantom, torch.stack(tensors), batch_size=5)
    assert found.pairs == expected.pairs
    scores = [[r.score for r in n.ranking[:20]] for n in (found, expected)]
    np.testing.assert_allclose(*scores, rtol=1e-5)


def test_images_without_outliers_do_not_dilute_the_score(phantom, phantom_batch):
    bright = torch.ones(4, 3, 224, 224)
    mixed = ttr.detect(phantom, torch.cat([bright, phantom_batch]))
    alone = ttr.detect(phantom, phantom_batch)
    assert mixed.provenance.images == 12
    assert mixed.provenance.images_with_outliers == 8
    assert mixed.pairs == alone.pairs
    assert mixed.ranking[0].score == pytest.approx(alone.ranking[0].score, rel=1e-5)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(phantom):
    def peak(count: int) -> int:
        images = (image for _ in range(count) for image in [torch.full((3, 224, 224), -1.0)])
        tracemalloc.start()
        ttr.detect(phantom, images, batch_size=2)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(2)
    assert peak(20) < 1.2 * peak(4)


def test_the_live_tensors_do_not_grow_with_the_number_of_images(phantom):
    import gc

    def living() -> int:
        gc.collect()
        return sum(o.numel() for o in gc.get_objects() if type(o) is torch.Tensor)

    seen: list[int] = []

    def images(count: int):
        for index in range(count):
            if index % 4 == 0:
                seen.append(living())
            yield torch.full((3, 224, 224), -1.0)

    ttr.detect(phantom, images(12), batch_size=4)
    assert seen[2] <= 1.05 * seen[1]


def test_detection_on_a_wrapped_backbone_is_refused(phantom, phantom_batch):
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    with ttr.TestTimeRegisters(phantom, neurons), pytest.raises(ModelError, match="remove the wrap"):
        ttr.detect(phantom, phantom_batch)


@pytest.mark.parametrize("block", [0, 2])
def test_a_model_that_merges_tokens_on_the_way_is_refused(block, images):
    model = scramble(tiny_vit())
    model.blocks[block].register_forward_hook(lambda m, args, out: out[:, :-4])
    complaint = {
        0: "13 tokens cannot hold .* merged on the way",
        2: "return 17, 17, 13 tokens; needed the same",
    }
    with pytest.raises(ModelError, match=complaint[block]):
        ttr.detect(model, images)


def test_provenance_says_how_it_was_measured(phantom, phantom_batch):
    source = ttr.detect(phantom, phantom_batch, threshold=90, outlier_layer=-1).provenance
    assert (source.backbone, source.weights) == ("phantom", "phantom (seed 7)")
    assert source.weights_hash == phantom.weights_hash
    assert (source.threshold, source.outlier_layer) == (90, 5)
    assert source.image_size == (224, 224)


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"outlier_layer": 6}, ModelError, "outlier_layer=6, but phantom has 6 blocks"),
        ({"top_layer": -7}, ModelError, "top_layer=-7"),
        ({"outlier_layer": 2.5}, OptionError, "outlier_layer=2.5; needed an integer, a block"),
        ({"outlier_layer": None}, OptionError, "outlier_layer=None; needed an integer"),
        ({"top_layer": "5"}, OptionError, "top_layer='5'; needed an integer"),
        ({"top_layer": True}, OptionError, "top_layer=True"),
        ({"top_k": 0}, OptionError, "top_k=0"),
        ({"top_k": 2.5}, OptionError, "top_k=2.5; needed an integer"),
        ({"top_k": True}, OptionError, "top_k=True"),
        ({"batch_size": "8"}, OptionError, "batch_size='8'"),
        ({"batch_size": 0}, OptionError, "batch_size=0"),
        ({"batch_size": True}, OptionError, "batch_size=True"),
        ({"threshold": -3}, OptionError, "threshold=-3"),
        ({"threshold": "robust"}, OptionError, "threshold='robust'"),
    ],
)
def test_options_outside_their_range_are_refused(phantom, phantom_batch, options, error, complaint):
    with pytest.raises(error, match=complaint):
        ttr.detect(phantom, phantom_batch, **options)


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        ([], "no images were given"),
        (torch.zeros(0, 3, 224, 224), "no images were given"),
        (torch.zeros(1, 224, 224), "needed \\[3, H, W\\] or \\[N, 3, H, W\\]"),
        ([torch.zeros(1, 224, 224)], "needed \\[3, H, W\\]"),
        (["image.png"], "image image.png does not exist"),
        ([torch.zeros(3, 224, 224), torch.zeros(3, 32, 32)], "differ in size"),
        (None, "got NoneType as images; needed a tensor"),
        ("images/", "images/ does not exist"),
        (torch.full((1, 3, 224, 224), float("nan")), "NaN or infinite"),
        (torch.zeros(1, 3, 224, 224, dtype=torch.uint8), "torch.uint8; needed normalised floats"),
        (
            [torch.zeros(3, 224, 224), torch.zeros(3, 224, 224, dtype=torch.uint8)],
            "torch.uint8; needed normalised floats",
        ),
    ],
)
def test_what_is_no_image_is_refused(phantom, images, complaint):
    with pytest.raises(ImageError, match=complaint):
        ttr.detect(phantom, images)


def test_images_of_another_size_are_refused(phantom):
    with pytest.raises(ModelError, match="got images of 32x32 px, but phantom takes 224x224 px"):
        ttr.detect(phantom, torch.zeros(1, 3, 32, 32))


def test_a_model_without_preprocessing_asks_for_it(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    with pytest.raises(ModelError, match=r"adapt\(model, preprocess=...\)"):
        ttr.detect(backbone, [Image.new("RGB", (32, 32))])


def test_a_model_that_takes_any_size_is_measured_at_that_size():
    backbone = ttr.adapt(scramble(tiny_vit(dynamic_img_size=True)))
    images = torch.randn(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))
    assert record(backbone, images).layout.grid == (6, 5)
    assert backbone.tokens(images).patches.shape[1] == 30
    found = ttr.detect(backbone, images, threshold=1e-3, top_k=2)
    assert found.provenance.image_size == (48, 40)
    assert next(ttr.compare(backbone, found, images)).before.maps.norms.shape == (6, 5)
    with pytest.raises(NeuronsError, match="resolution 48x40, but .* 32x32"):
        next(ttr.compare(backbone, found, torch.zeros(1, 3, 32, 32)))


def test_a_model_is_as_good_as_its_backbone(phantom, phantom_batch):
    assert ttr.detect(phantom.model, phantom_batch).pairs == ttr.detect(phantom, phantom_batch).pairs
    with pytest.raises(ModelError, match="got builtins.str, which is no PyTorch module"):
        ttr.detect("phantom", phantom_batch)


def test_a_threshold_may_be_any_kind_of_number(phantom, phantom_batch, tmp_path):
    expected = ttr.detect(phantom, phantom_batch, threshold=75)
    for number in (np.float32(75), torch.tensor(75.0), 75.0):
        found = ttr.detect(phantom, phantom_batch, threshold=number)
        found.save(tmp_path / "n.json")
        assert found == expected
        assert ttr.RegisterNeurons.load(tmp_path / "n.json").provenance.threshold == 75.0


def test_norms_that_overflow_are_refused_rather_than_called_clean(images):
    model = scramble(tiny_vit())
    with torch.no_grad():
        model.blocks[1].mlp.fc2.weight.mul_(1e38)
    with pytest.raises(ModelError, match="norms that are not finite from block 1 on, in torch.float32"):
        ttr.detect(ttr.adapt(model), images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open_clip:ViT-B-16", "timm:vit_large_patch14_dinov2"])
def test_planted_full_size_models_are_found_and_cleaned(name):
    backbone = ttr.plant(ttr.load(name, image_size=224))
    images = torch.stack([backbone.preprocess(p.image) for p in phantom_images(4)])
    neurons = ttr.detect(backbone, images, batch_size=4)
    assert neurons.pairs == list(backbone.planted)
    assert [(r.layer, r.neuron) for r in neurons.ranking[:10]] == list(backbone.planted)
    comparisons = list(ttr.compare(backbone, neurons, images))
    for comparison in comparisons:
        assert comparison.before.outlier_patches == 8
        assert comparison.after.outlier_patches == 0
        assert comparison.after.max_patch_norm <= 0.3 * comparison.before.max_patch_norm
        assert comparison.after.max_patch_attention <= 0.05 * comparison.before.max_patch_attention
