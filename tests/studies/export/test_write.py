"""An exported file does what the wrapped model does, without ttr, or it does not get its name."""

from __future__ import annotations

import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import onnxruntime
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor

import ttr
from tests.backbones.test_contract import hook_count, neurons_of
from tests.tools.tiny_models import FAMILIES, SIZE, scramble, tiny_clip, tiny_vit
from ttr.datasets.phantom import phantom_images
from ttr.errors import ModelError, NeuronsError, OptionError, OutputError
from ttr.studies.export import formats, place, write

TOLERANCE = {"rtol": 1e-4, "atol": 2e-4}
EVERY = [(family, r) for family in ("timm-vit", "eva-dinov3", "open-clip", "phantom") for r in (0, 1, 3)]
#: One block instead of three, or two: what an exporter takes grows with each.
SHALLOW = {
    "timm-vit, one block": partial(tiny_vit, depth=1),
    "open-clip, two blocks": partial(tiny_clip, layers=2),
}


def cases(family: str, registers: int):
    """A shallow family, and with -m slow all families at their depth and all numbers of registers."""
    return [(family, registers), *(pytest.param(*case, marks=pytest.mark.slow) for case in EVERY)]


def build(family: str) -> ttr.Backbone:
    if family == "phantom":
        return ttr.load("phantom")
    return ttr.adapt(scramble({**FAMILIES, **SHALLOW}[family]()))


def neurons_for(backbone: ttr.Backbone) -> ttr.RegisterNeurons:
    planted = backbone.planted
    return ttr.RegisterNeurons.from_pairs(planted) if planted else neurons_of(backbone, 20)


def some_images(backbone: ttr.Backbone, count: int) -> Tensor:
    if backbone.planted and backbone.preprocess_image is not None:
        return torch.stack([backbone.preprocess(p.image) for p in phantom_images(count, seed=9)])
    return torch.randn(count, 3, *backbone.image_size, generator=torch.Generator().manual_seed(9))


def outputs_of(file: Path):
    if file.suffix == ".pt2":
        return torch.no_grad()(torch.export.load(file).module())
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda images: [torch.from_numpy(x) for x in session.run(None, {"images": images.numpy()})]


def eager(backbone: ttr.Backbone, images: Tensor) -> tuple[Tensor, Tensor]:
    return backbone.embed(images), backbone.tokens(images).patches


def check_file(file: Path, backbone: ttr.Backbone, registers: int, batches=(1, 2, 5), changes=0.01) -> None:
    """The file equals eager wrapped, for any batch; and eager bare is something else."""
    run = outputs_of(file)
    wrap = ttr.TestTimeRegisters(backbone, neurons_for(backbone), num_registers=registers)
    for count in batches:
        images = some_images(backbone, count)
        bare = eager(backbone, images)
        with wrap:
            wrapped = eager(backbone, images)
        for found, expected, before in zip(run(images), wrapped, bare, strict=True):
            torch.testing.assert_close(found, expected, **TOLERANCE)
            assert (found - before).abs().max() > changes


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Export a family once for all tests that look at its file: (backbone, what export returned, file)."""

    @cache
    def export(family: str, registers: int, format: str):
        backbone = build(family)
        hooks = hook_count(backbone.model)
        file = tmp_path_factory.mktemp("exported") / "new" / f"model.{format}"
        made = ttr.export(backbone, neurons_for(backbone), file, format=format, num_registers=registers)
        assert hook_count(backbone.model) == hooks
        assert [p.name for p in file.parent.iterdir()] == [file.name]
        return backbone, made, file

    return export


@pytest.mark.parametrize(("family", "registers"), cases("timm-vit, one block", 3))
def test_onnx_equals_eager_for_any_batch(family, registers, exported):
    backbone, made, file = exported(family, registers, "onnx")
    assert made.max_difference < 1e-4 < 0.01 < made.moved
    check_file(file, backbone, registers)


@pytest.mark.slow  # an exported program is held to eager in tests/backbones/test_contract.py
@pytest.mark.parametrize(("family", "registers"), cases("open-clip, two blocks", 1))
def test_pt2_equals_eager_for_any_batch(family, registers, exported):
    backbone, made, file = exported(family, registers, "pt2")
    assert made.shapes["patches"][0] == backbone.layout.patches
    assert made.moved > 0.01
    check_file(file, backbone, registers)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open_clip:ViT-B-16", "timm:vit_large_patch14_dinov2"])
@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_full_size_models_at_224_px_agree_bare_and_wrapped(name, format, tmp_path):
    model = ttr.load(name, image_size=224).model
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("gamma"):
                parameter.fill_(0.3)  # DINOv2 starts at 1e-5, at which no block has any effect
    backbone = ttr.plant(model)
    nothing = ttr.RegisterNeurons.from_pairs([])
    images = some_images(backbone, 2)
    for neurons, registers in ((nothing, 0), (neurons_for(backbone), 1)):
        file = tmp_path / f"model.{format}"
        ttr.export(backbone, neurons, file, format=format, num_registers=registers)
        with ttr.TestTimeRegisters(backbone, neurons, num_registers=registers):
            expected = eager(backbone, images)
        for found, wanted in zip(outputs_of(file)(images), expected, strict=True):
            assert (found - wanted).abs().max() < 1e-3
    check_file(file, backbone, 1, batches=(1, 2))


@pytest.fixture(scope="module")
def vit() -> ttr.Backbone:
    return build("timm-vit, one block")


RUN_WITHOUT_TTR = """
import json, sys
sys.modules.update(dict.fromkeys({blocked!r}))  # importing one of them raises ImportError
import numpy
images = numpy.zeros((4, 3, {size}, {size}), numpy.float32)
{body}
metadata = json.loads(metadata)
known = metadata["backbone"]["weights_hash"], metadata["settings"]["num_registers"]
print(embedding.shape[0], patches.shape[1], *known)
"""
ONNX_BODY = """
import onnxruntime
session = onnxruntime.InferenceSession({file!r})
embedding, patches = session.run(["embedding", "patches"], {{"images": images}})
metadata = session.get_modelmeta().custom_metadata_map["ttr"]
"""
PT2_BODY = """
import torch
extra = {{"ttr.json": ""}}
embedding, patches = torch.export.load({file!r}, extra_files=extra).module()(torch.from_numpy(images))
metadata = extra["ttr.json"]
"""


@pytest.mark.parametrize(
    ("family", "registers", "format", "body", "blocked"),
    [
        ("timm-vit, one block", 3, "onnx", ONNX_BODY, ["ttr", "torch", "timm"]),
        pytest.param("timm-vit", 2, "pt2", PT2_BODY, ["ttr", "timm"], marks=pytest.mark.slow),
    ],
)
def test_the_file_runs_without_ttr_and_knows_where_it_comes_from(
    exported, family, registers, format, body, blocked
):
    backbone, made, file = exported(family, registers, format)
    code = RUN_WITHOUT_TTR.format(blocked=blocked, size=SIZE, body=body.format(file=str(file)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["4", str(backbone.layout.patches), backbone.weights_hash, str(registers)]
    assert made.metadata["ttr"] == ttr.__version__
    assert made.metadata["settings"]["neurons"] == neurons_for(backbone).pairs
    assert made.metadata["input"]["shape"] == ["batch", 3, SIZE, SIZE]
    assert b"site-packages" not in file.read_bytes()


def test_only_the_image_tower_of_clip_travels(exported):
    names = torch.export.load(exported("open-clip, two blocks", 1, "pt2")[2]).state_dict
    assert names
    assert all(name.startswith("tower.") for name in names)


def test_preprocessing_is_told_as_mean_and_deviation():
    own = PreprocessCfg(size=SIZE)
    transform = image_transform_v2(own, is_train=False)
    described = write._preprocessing(ttr.adapt(FAMILIES["timm-vit"](), preprocess=transform))
    assert described["mean"] == pytest.approx(own.mean, abs=1e-5)
    assert described["std"] == pytest.approx(own.std, abs=1e-5)
    assert described["steps"][0].startswith(f"Resize(size={SIZE}, interpolation=bicubic")
    assert write._preprocessing(build("timm-vit")) is None


@pytest.mark.parametrize("format", [pytest.param("onnx", marks=pytest.mark.slow), "pt2"])
def test_a_file_that_differs_from_the_model_is_refused_and_not_left_behind(format, tmp_path, monkeypatch):
    backbone = build("timm-vit, one block")
    faithful = write._trace

    def faulty(given):
        program = faithful(given)
        bias = "tower.blocks.0.mlp.fc1.bias"
        program.state_dict[bias] = torch.nn.Parameter(program.state_dict[bias].detach() + 0.1)
        return program

    monkeypatch.setattr(write, "_trace", faulty)
    file = tmp_path / f"model.{format}"
    file.write_text("an earlier result")
    with pytest.raises(
        ModelError, match=r"differs from the model by .*more than 0\.001; nothing was written"
    ):
        ttr.export(backbone, neurons_for(backbone), file, format=format)
    assert [p.name for p in tmp_path.iterdir()] == [file.name]
    assert file.read_text() == "an earlier result"
    assert hook_count(backbone.model) == 0


def test_a_file_without_the_wrap_is_refused(tmp_path, monkeypatch):
    """The images of the check make the register neurons fire, with no register to show it too."""
    backbone = ttr.load("phantom", image_size=64)
    bare = write._trace(backbone)
    monkeypatch.setattr(write, "_trace", lambda backbone: bare)
    for registers in (0, 1):
        with pytest.raises(ModelError, match="differs from the model"):
            ttr.export(
                backbone, neurons_for(backbone), tmp_path / "m.pt2", format="pt2", num_registers=registers
            )
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_an_onnx_form_is_refused(vit, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise torch.onnx.OnnxExporterError("no decomposition for aten.strange")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(
        ModelError, match=r"no ONNX form \(no decomposition for aten.strange\); choose format pt2"
    ):
        ttr.export(vit, neurons_for(vit), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    assert hook_count(vit.model) == 0


def test_a_disk_that_is_full_is_an_error_and_not_the_end_of_the_process(tmp_path):
    """PyTorch's own writer of archives aborts where a write fails."""
    model = torch.nn.Linear(400, 400)
    program = torch.export.export(model, (torch.ones(1, 400),))
    with pytest.raises(OSError, match="No space left"):
        formats.FORMATS["pt2"][0](program, Path("/dev/full"), "{}")


def test_nan_and_another_shape_count_as_a_difference():
    one, nan = torch.zeros(1), torch.full((1,), torch.nan)
    assert write._largest_difference([[one]], [[one + 0.5]]) == 0.5
    assert write._largest_difference([[nan]], [[one]]) == float("inf")
    assert write._largest_difference([[one]], [[torch.zeros(2)]]) == float("inf")


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("model.bin", {"format": "torchscript"}, OptionError, "format='torchscript'; needed one of 'onnx'"),
        ("model.pt2", {}, OptionError, r"model\.pt2'; a file of format onnx needs a name ending in \.onnx"),
        ("model.onnx", {"num_registers": -1}, OptionError, "num_registers=-1"),
        ("folder.pt2", {"format": "pt2"}, OutputError, "cannot be written"),
        ("file/model.pt2", {"format": "pt2"}, OutputError, "cannot be written"),
    ],
)
def test_what_cannot_succeed_is_refused_before_the_work(
    vit, name, options, error, message, tmp_path, monkeypatch
):
    (tmp_path / "folder.pt2").mkdir()
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(write, "_trace", lambda backbone: pytest.fail("the work began"))
    with pytest.raises(error, match=message):
        ttr.export(vit, neurons_for(vit), tmp_path / name, **options)
    assert sorted(tmp_path.rglob("*")) == before


def test_models_that_do_not_fit_are_refused(vit, tmp_path, monkeypatch):
    half = ttr.adapt(scramble(FAMILIES["timm-vit"]()).bfloat16())
    with pytest.raises(ModelError, match="in float32 alone, but VisionTransformer is bfloat16; load it in"):
        ttr.export(half, neurons_for(half), tmp_path / "model.onnx")
    with pytest.raises(OptionError, match="pooling='mean'; needed one of 'own', 'cls', 'patches'"):
        ttr.export(vit, neurons_for(vit), tmp_path / "model.onnx", pooling="mean")
    with pytest.raises(NeuronsError, match="does not exist"):
        ttr.export(vit, ttr.RegisterNeurons.from_pairs([(99, 0)]), tmp_path / "model.onnx")
    monkeypatch.setattr(write, "ONNX_BYTES", 1000)
    with pytest.raises(ModelError, match="GiB of weights; one ONNX file holds .* choose format pt2"):
        ttr.export(vit, neurons_for(vit), tmp_path / "model.onnx")
    monkeypatch.setattr(place, "ONNX_PACKAGES", ("onnx", "nothing_of_that_name"))
    with pytest.raises(OptionError, match=r"needs nothing_of_that_name, .*'\.\[onnx\]'"):
        ttr.export(vit, neurons_for(vit), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_embedding_of_a_file_is_what_the_models_own_head_takes(tmp_path):
    """In bfloat16, which pt2 keeps; and with another pooling it is that."""
    model = scramble(tiny_vit(depth=1, global_pool="avg", num_classes=5)).bfloat16()
    backbone, file = ttr.adapt(model), tmp_path / "model.pt2"
    neurons = ttr.RegisterNeurons.from_pairs([(0, 1), (0, 5)])
    made = ttr.export(backbone, neurons, file, format="pt2").metadata["backbone"]
    assert (made["pooling"], made["dtype"]) == ("avg", "bfloat16")
    images = some_images(backbone, 2).bfloat16()
    embedding, _ = outputs_of(file)(images)
    assert embedding.dtype == torch.bfloat16
    with torch.no_grad(), ttr.TestTimeRegisters(backbone, neurons):
        torch.testing.assert_close(model.head(embedding), model(images), rtol=0.05, atol=0.05)
        pooled, patches = write._Embedder(backbone.with_pooling("patches"))(images)
    torch.testing.assert_close(pooled, patches.float().mean(dim=1).bfloat16())


def test_a_model_that_cannot_be_traced_is_refused_by_name(tmp_path):
    model = scramble(FAMILIES["timm-vit"]())
    model.norm_pre.register_forward_pre_hook(lambda m, args: args if float(args[0].sum()) else None)
    backbone = ttr.adapt(model)
    with pytest.raises(ModelError, match="VisionTransformer cannot be traced"):
        ttr.export(backbone, neurons_for(backbone), tmp_path / "model.pt2", format="pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_as_good_as_its_backbone(vit, tmp_path):
    neurons = ttr.RegisterNeurons.from_pairs([(0, 1)])
    exported = ttr.export(vit.model, neurons, tmp_path / "model.pt2", format="pt2")
    assert exported.max_difference <= 1e-5
