"""Zero-shot scores against a calculation by hand with open_clip's own encoders."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import open_clip
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

import ttr
from tests.backbones.test_contract import neurons_of
from tests.tools.tiny_models import DEPTH, HEADS, PATCH, SIZE, WIDTH, scramble, tiny_clip
from ttr.datasets.phantom import phantom_images
from ttr.errors import ImageError, ModelError, OptionError
from ttr.evaluate.zero_shot import _own_tokenizer, class_embeddings, zero_shot

CLASSES = ["normal chest radiograph", "pneumonia", "hip implant"]
TEMPLATES = ["a photo of a {}.", "{}", "an X-ray that shows {}, {} indeed"]


def whole_clip(**options: object) -> CLIP:
    """Like ``tiny_clip``, with the vocabulary of CLIP's own tokenizer."""
    vision = {"layers": DEPTH, "width": WIDTH, "head_width": WIDTH // HEADS, "patch_size": PATCH}
    text = CLIPTextCfg(context_length=16, width=16, heads=2, layers=1)
    model = scramble(CLIP(16, CLIPVisionCfg(**vision, image_size=SIZE), text, **options))
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
    return model


@pytest.fixture(scope="module")
def clip() -> CLIP:
    return whole_clip()


def by_hand(clip: CLIP, image: Tensor) -> Tensor:
    """Radford et al.'s recipe, written out one prompt and one image at a time."""
    tokenize = open_clip.SimpleTokenizer(context_length=16)
    cosines = []
    with torch.no_grad():
        x = clip.encode_image(image[None])[0]
        for name in CLASSES:
            total = torch.zeros(16)
            for template in TEMPLATES:
                text = clip.encode_text(tokenize([name.join(template.split("{}"))]))[0]
                total += text / text.norm()
            cosines.append(x @ total / x.norm() / total.norm())
    return torch.stack(cosines)


def test_probabilities_equal_the_calculation_by_hand(clip, images):
    found = ttr.zero_shot(ttr.adapt(clip), images, CLASSES, templates=TEMPLATES, batch_size=2)
    assert found.shape == (5, 3)
    for row, image in zip(found, images, strict=True):
        odds = (torch.tensor(3.0).exp() * by_hand(clip, image)).exp()
        torch.testing.assert_close(row, odds / odds.sum(), rtol=1e-4, atol=1e-6)
    assert found.amax() - found.amin() > 0.05


def test_the_wrap_takes_part_and_the_text_does_not_change(clip, images):
    backbone = ttr.adapt(clip)
    bare = zero_shot(backbone, images, CLASSES)
    names = class_embeddings(backbone, CLASSES)
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone, 20)):
        wrapped = zero_shot(backbone, images, CLASSES)
        assert torch.equal(class_embeddings(backbone, CLASSES), names)
        alone = torch.cat([zero_shot(backbone, image[None], CLASSES) for image in images])
    assert (wrapped - bare).abs().max() > 0.01
    torch.testing.assert_close(wrapped, alone, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(names.norm(dim=-1), torch.ones(3))


def test_images_are_taken_a_batch_at_a_time(clip, images):
    taken = []

    def stream():
        for index, image in enumerate(images):
            taken.append(index)
            yield image

    backbone = ttr.adapt(clip)
    seen = []
    clip.visual.register_forward_pre_hook(lambda m, args: seen.append((len(args[0]), len(taken))))
    zero_shot(backbone, stream(), CLASSES, batch_size=2)
    assert seen == [(2, 2), (2, 4), (1, 5)]


def test_a_model_with_a_logit_bias_answers_each_class_by_itself(images):
    model = whole_clip(init_logit_bias=-2.0)
    bias = model.logit_bias.detach().clone()
    found = zero_shot(ttr.adapt(model), images, CLASSES, templates=TEMPLATES)
    logits = torch.tensor(3.0).exp() * torch.stack([by_hand(model, image) for image in images]) + bias
    torch.testing.assert_close(found, logits.sigmoid(), rtol=1e-4, atol=1e-6)
    assert (found.sum(dim=1) - 1).abs().max() > 0.1
    single = zero_shot(ttr.adapt(model), images, CLASSES[:1], templates=TEMPLATES)
    torch.testing.assert_close(single, found[:, :1])


def test_half_precision_weights_score_in_float32(images):
    clip = whole_clip()
    exact = zero_shot(ttr.adapt(clip), images, CLASSES)
    found = zero_shot(ttr.adapt(clip.bfloat16()), images, CLASSES)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0, atol=0.15)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(5))


def test_a_tokenizer_of_ones_own(clip, images):
    def tokenize(texts: list[str]) -> Tensor:
        return torch.tensor([[len(text) % 50, *[0] * 14, 99] for text in texts])

    backbone = ttr.adapt(scramble(tiny_clip()))
    with pytest.raises(ModelError, match="ids up to 49407 in rows of 8, but .* knows 100 ids in rows of 8"):
        zero_shot(backbone, images, CLASSES)
    with pytest.raises(ModelError, match="in rows of 16, but the text tower of open_clip CLIP knows 100"):
        zero_shot(backbone, images, CLASSES, tokenizer=tokenize)
    found = zero_shot(backbone, images, CLASSES, tokenizer=lambda texts: tokenize(texts)[:, 8:])
    assert found.shape == (5, 3)


def test_a_named_architecture_has_its_own_tokenizer():
    backbone = ttr.load("phantom-clip")
    assert class_embeddings(backbone, CLASSES).shape == (3, 128)
    named = _own_tokenizer(replace(backbone, name="open_clip:ViT-B-16/laion2b_s34b_b88k"))
    assert torch.equal(named(CLASSES), open_clip.get_tokenizer("ViT-B-16")(CLASSES))
    assert _own_tokenizer(backbone) is _own_tokenizer(backbone), "its table is read once"


def test_a_tokenizer_out_of_reach_is_refused_with_a_way_out(clip, monkeypatch):
    def unreachable(name: str) -> None:
        raise OSError(f"cannot reach the hub for {name}\nand more")

    monkeypatch.setattr(open_clip, "get_tokenizer", unreachable)
    backbone = replace(ttr.adapt(clip), name="open_clip:ViT-B-16-SigLIP/webli")
    with pytest.raises(ModelError, match=r"\(OSError: cannot reach the hub for ViT-B-16-SigLIP\); connect"):
        class_embeddings(backbone, CLASSES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["one"]}, "needed two or more names"),
        ({"classes": ["one", " "]}, "none blank"),
        ({"classes": ["one", "one"]}, "needed each name once"),
        ({"classes": "one,two"}, "lists of strings"),
        ({"templates": "a {}"}, "lists of strings"),
        ({"templates": []}, "needed one or more, each with {}"),
        ({"templates": ["a photo"]}, "needed one or more, each with {}"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_options_are_refused(clip, images, options, message):
    with pytest.raises(OptionError, match=message):
        zero_shot(ttr.adapt(clip), images, **{"classes": CLASSES, **options})


def test_models_without_text_and_no_images_are_refused(clip, images, phantom):
    for backbone in (phantom, ttr.adapt(clip.visual)):
        with pytest.raises(ModelError, match=r"no text tower; needed a whole CLIP model"):
            zero_shot(backbone, images, CLASSES)
    with pytest.raises(ImageError, match="no images"):
        zero_shot(ttr.adapt(clip), [], CLASSES)


@pytest.fixture
def folder(tmp_path):
    backbone = ttr.load("phantom-clip")
    ttr.RegisterNeurons.from_pairs(backbone.planted).save(tmp_path / "neurons.json")
    (tmp_path / "images").mkdir()
    for p in phantom_images(2):
        p.image.save(tmp_path / "images" / f"{p.name}.png")
    return tmp_path


def test_the_command_prints_and_writes_before_and_after(run, folder):
    call = ("zero-shot", "--backbone", "phantom-clip", "--neurons", folder / "neurons.json", "--quiet")
    call = (*call, "--classes", "rings, stripes", "--template", "{}", folder / "images")
    status, told, _ = run(*call, "--out", folder / "result.json")
    assert status == 0
    assert "It proves the instrument, not the biology" in told
    assert "phantom-0-0001" in told
    assert told.rstrip().endswith(f"open: {folder / 'result.json'}")
    result = json.loads((folder / "result.json").read_text())
    backbone = ttr.load("phantom-clip")
    images = [p.image for p in phantom_images(2)]
    expected = zero_shot(backbone, images, ["rings", "stripes"], templates=["{}"])
    assert "probability in per cent, change in points" in told
    assert f"{100 * expected[0, 0]:.1f}" in told
    with ttr.TestTimeRegisters(backbone, ttr.RegisterNeurons.from_pairs(backbone.planted)):
        wrapped = zero_shot(backbone, images, ["rings", "stripes"], templates=["{}"])
    torch.testing.assert_close(torch.tensor([i["before"] for i in result["images"]]), expected)
    torch.testing.assert_close(torch.tensor([i["after"] for i in result["images"]]), wrapped)
    assert not torch.equal(expected, wrapped)
    assert result["provenance"]["settings"]["templates"] == ["{}"]
    assert run(*call, "--out", folder / "result.csv")[0] == 0
    rows = list(csv.DictReader((folder / "result.csv").open()))
    assert [row["class"] for row in rows] == ["rings", "stripes"] * 2
    assert float(rows[1]["after"]) == pytest.approx(result["images"][0]["after"][1])


def test_the_command_refuses_in_one_line(run, folder):
    call = ("zero-shot", "--neurons", folder / "neurons.json", "--classes", "a,b", folder / "images")
    for arguments, message in (
        (("--backbone", "phantom-clip", "--out", folder / "r.txt"), "ending in .json or .csv"),
        (("--backbone", "phantom-clip", "--template", "a photo"), "each with {} for the class name"),
        (("--backbone", "phantom"), "no text tower"),
    ):
        status, _, err = run(*call, *arguments)
        assert status == 2
        assert message in err
        assert err.count("\n") == 1
