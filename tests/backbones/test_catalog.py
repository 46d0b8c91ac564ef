"""The catalog agrees with the libraries it names, and the presets with what was published."""

from __future__ import annotations

import json
from importlib import resources

import pytest
import torch

import ttr
from ttr.backbones.catalog import PRESETS, architecture, catalog, preset_for
from ttr.errors import ModelError, NeuronsError


def test_the_catalog_agrees_with_timm():
    import timm

    entries = [entry for entry in catalog().values() if entry.family == "timm"]
    assert len(entries) == 11
    for entry in entries:
        name = entry.loads.removeprefix("timm:")
        config = timm.get_pretrained_cfg(name)
        assert config.hf_hub_id == entry.hub
        assert config.input_size[1] == entry.image_size
        assert (list(config.mean), list(config.std)) == (
            entry.preprocessing["mean"],
            entry.preprocessing["std"],
        )
        assert (config.interpolation, config.crop_pct) == (entry.preprocessing["interpolation"], 1.0)
        assert config.license.casefold() == entry.licence.casefold().replace(" ", "-")
        with torch.device("meta"):
            model = timm.create_model(name)
        assert model.embed_dim == entry.embedding
        assert model.num_prefix_tokens == 1 + entry.registers
        assert model.patch_embed.patch_size == (entry.patch_size, entry.patch_size)


def test_the_catalog_agrees_with_open_clip():
    import open_clip

    entries = [entry for entry in catalog().values() if entry.family == "open_clip"]
    assert len(entries) == 4
    for entry in entries:
        name = entry.loads.removeprefix("open_clip:")
        schema, identifier = open_clip.factory.parse_model_name(name)
        if schema == "hf-hub":
            assert identifier == entry.hub
            continue
        name, tag = name.split("/")
        weights = open_clip.get_pretrained_cfg(name, tag)
        assert weights["hf_hub"].rstrip("/") == entry.hub
        assert list(weights["mean"]) == pytest.approx(entry.preprocessing["mean"])
        assert list(weights["std"]) == pytest.approx(entry.preprocessing["std"])
        assert weights.get("interpolation", "bicubic") == entry.preprocessing["interpolation"]
        config = open_clip.get_model_config(name)
        assert config["embed_dim"] == entry.embedding
        assert config["vision_cfg"]["image_size"] == entry.image_size
        assert config["vision_cfg"]["patch_size"] == entry.patch_size


def test_biomedclip_is_a_timm_tower_that_is_fetched_only_when_asked_for():
    """Its description, from the repository's README and open_clip_config.json, cannot be read offline."""
    from open_clip.timm_model import TimmModel

    entry = catalog()["biomedclip"]
    with torch.device("meta"):
        tower = TimmModel("vit_base_patch16_224", entry.embedding, image_size=224, pool="", proj="linear")
    backbone = ttr.adapt(tower)
    assert backbone.image_size == (entry.image_size, entry.image_size)
    assert backbone.patch_size == (entry.patch_size, entry.patch_size)
    assert (backbone.layout.cls, backbone.layout.registers) == (1, entry.registers)
    with pytest.raises(ModelError, match="described on the hub alone.*pretrained=True"):
        ttr.load("biomedclip")


def test_rad_dino_is_a_dinov2_base_of_transformers():
    import transformers

    entry = catalog()["rad-dino"]
    assert entry.loads == f"transformers:{entry.hub}"
    with torch.device("meta"):
        config = transformers.Dinov2Config(image_size=entry.image_size, patch_size=entry.patch_size)
        backbone = ttr.adapt(transformers.Dinov2Model(config))
    assert backbone.layout.grid == (37, 37)
    assert backbone.embed(torch.zeros(1, 3, 518, 518)).shape == (1, entry.embedding)
    assert architecture("rad-dino") == entry.loads
    # Neurons of earlier versions name a directory with the way to it.
    assert architecture("transformers:/home/me/models/own/") == architecture("transformers:own")
    with pytest.raises(ModelError, match="microsoft/rad-dino is no directory here.*pretrained=True"):
        ttr.load("rad-dino")


def test_short_names_load_and_names_are_compared_without_their_weights():
    backbone = ttr.load("dinov2-vit-s-14", image_size=224)
    assert backbone.name == "timm:vit_small_patch14_dinov2.lvd142m"
    assert str(backbone.weights) == "random (seed 0)"
    for names in (
        ("dinov2-vit-l-14", "timm:vit_large_patch14_dinov2", "timm:vit_large_patch14_dinov2.lvd142m"),
        ("clip-vit-b-16", "open_clip:ViT-B-16", "open_clip:ViT-B-16/laion2b_s34b_b88k"),
    ):
        assert len({architecture(name) for name in names}) == 1
        assert len({preset_for(name) for name in names}) == 1
    assert architecture("phantom") == "phantom"
    assert preset_for("phantom") is None
    assert preset_for("dinov2-vit-l-14-reg4") is None


@pytest.mark.parametrize(
    "name", ["open_clip:ViT-B-16/openai", "open_clip:ViT-B-16/datacomp_xl_s13b_b90k", "clip-vit-b-16-openai"]
)
def test_a_preset_is_not_given_to_other_weights_of_the_architecture(name):
    assert preset_for("clip-vit-b-16") == preset_for("open_clip:ViT-B-16") is not None
    assert preset_for(name) is None


def test_presets_are_what_was_published_and_say_so():
    sizes = {"clip-vit-b-16.json": 7, "dinov2-vit-l-14.json": 35, "dinov2-vit-l-14-natural.json": 45}
    assert sorted(path.name for path in PRESETS.glob("*.json")) == sorted(sizes)
    for name, count in sizes.items():
        neurons = ttr.RegisterNeurons.load(PRESETS / name)
        assert len(neurons) == len(neurons.ranking) == count
        assert all(layer <= neurons.provenance.top_layer for layer, _ in neurons.pairs)
        scores = [row.score for row in neurons.ranking]
        assert scores == sorted(scores, reverse=True)
        for words in ("Published", "image set", "blocks 0..", "resolution", "your own images is better"):
            assert words in neurons.message
    assert ttr.RegisterNeurons.load(PRESETS / "clip-vit-b-16.json").pairs[0] == (5, 599)
    for entry in catalog().values():
        assert entry.preset is None or (PRESETS / entry.preset).is_file()


@pytest.mark.slow
def test_a_preset_belongs_to_its_model_and_resolution():
    neurons = ttr.RegisterNeurons.load(preset_for("clip-vit-b-16"))
    with ttr.TestTimeRegisters(ttr.load("clip-vit-b-16"), neurons):
        pass
    with pytest.raises(NeuronsError, match="found for backbone open_clip:ViT-B-16, but this is timm"):
        ttr.TestTimeRegisters(ttr.load("timm:vit_base_patch16_224"), neurons)
    with pytest.raises(NeuronsError, match="resolution 224x224"):
        ttr.TestTimeRegisters(ttr.load("clip-vit-b-16", image_size=240), neurons)


def test_what_is_cached_is_seen(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    entry = catalog()["dinov2-vit-s-14"]
    assert not entry.is_cached()
    folder = tmp_path / f"models--{entry.hub.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "model.safetensors").write_bytes(b"")
    assert entry.is_cached()
    assert not catalog()["dinov2-vit-b-14"].is_cached()


def test_the_catalog_is_plain_data():
    rows = json.loads(resources.files("ttr.backbones").joinpath("catalog.json").read_text())
    assert [row["name"] for row in rows] == list(catalog())
