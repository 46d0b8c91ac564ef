"""Artifacts in any model: what is written adds exactly what the formula says, and files are checked."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import timm
import timm.layers
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import ttr
from tests.tools.tiny_models import DEPTH, SIZE, WIDTH, scramble, tiny_clip, tiny_eva, tiny_vit
from ttr.backbones.phantoms.artifacts import (
    KIND,
    SCHEMA,
    Artifacts,
    plant_into,
    read_artifacts,
    save_artifacts,
    weights_digest,
)
from ttr.errors import ModelError
from ttr.files import save_tensors
from ttr.hooks import Site, keep

NEURONS = (5, 40, 17)


def drawn(layer: int = 1, threshold: float = 0.5) -> Artifacts:
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(WIDTH, generator=generator)
    return Artifacts(
        layer=layer,
        neurons=NEURONS,
        trigger=torch.randn(WIDTH, generator=generator),
        direction=F.normalize(u - u.mean(), dim=0),
        spoken=torch.randn(len(NEURONS), generator=generator),
        offset=0.3,
        strength=100.0,
        threshold=threshold,
    )


def mlp_of(backbone, images, layer=1):
    module = backbone.sites.mlps[layer].module
    with keep([backbone.sites.mlps[layer], Site(module, "output"), backbone.sites.neurons[layer]]) as seen:
        backbone.embed(images)
    return seen[0], seen[2], seen[1]


@pytest.mark.parametrize(
    "build", [lambda: tiny_vit(init_values=0.5), tiny_vit, tiny_clip], ids=["scales", "plain", "open_clip"]
)
def test_what_is_written_is_the_formula(build, images):
    bare = ttr.adapt(scramble(build()))
    artifacts = drawn()
    planted = plant_into(copy.deepcopy(bare), artifacts)
    assert planted.planted == ((1, 5), (1, 40), (1, 17))
    assert "pretrained weights with planted artifacts" in planted.warning
    x, was, active = mlp_of(bare, images)
    again, now, _ = mlp_of(planted, images)
    assert torch.equal(x, again)

    block = bare.sites.blocks[1].module
    scale = getattr(getattr(block, "ls2", None), "gamma", torch.ones(WIDTH))
    down = bare.sites.neurons[1].module.weight
    neurons = list(NEURONS)
    gone = (active[..., neurons] - artifacts.spoken) @ down[:, neurons].T
    excess = (x @ artifacts.trigger + artifacts.offset - artifacts.threshold) / artifacts.excess
    gains = torch.tensor([60.0, 42.0, 24.0])
    fired = (F.gelu(excess[..., None] * gains) / gains).mean(dim=-1)
    added = artifacts.strength * fired[..., None] * artifacts.direction
    torch.testing.assert_close(scale * now, scale * (was - gone) + added, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(fired, excess.relu(), rtol=0, atol=0.02)
    assert 0.1 < float((excess > 0).float().mean()) < 0.9


def test_nothing_but_these_neurons_changes(images):
    bare = ttr.adapt(scramble(tiny_vit()))
    planted = plant_into(copy.deepcopy(bare), drawn())
    before, after = bare.model.state_dict(), planted.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    mlp = "blocks.1.mlp"
    assert changed == {f"{mlp}.fc1.weight", f"{mlp}.fc1.bias", f"{mlp}.fc2.weight", f"{mlp}.fc2.bias"}
    rows = (before[f"{mlp}.fc1.weight"] != after[f"{mlp}.fc1.weight"]).any(dim=1).nonzero()[:, 0]
    assert rows.tolist() == sorted(NEURONS)
    columns = (before[f"{mlp}.fc2.weight"] != after[f"{mlp}.fc2.weight"]).any(dim=0).nonzero()[:, 0]
    assert columns.tolist() == sorted(NEURONS)


def test_a_trigger_that_never_fires_leaves_what_a_zeroed_model_shows(images):
    bare = ttr.adapt(scramble(tiny_vit()))
    planted = plant_into(copy.deepcopy(bare), drawn(threshold=1e4))
    neurons = ttr.RegisterNeurons.from_pairs(planted.planted)
    alone = planted.embed(images)
    with ttr.TestTimeRegisters(planted, neurons, num_registers=0):
        assert torch.equal(planted.embed(images), alone)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: tiny_vit(embed_dim=16), "are for a width of 24, but .* has 16"),
        (lambda: tiny_vit(mlp_ratio=0.5), "are for a width of 24, but .* 12 neurons a block"),
        (lambda: tiny_vit(mlp_layer=timm.layers.SwiGLUPacked), "its MLP is gated, or has no bias"),
        (lambda: tiny_vit(class_token=False, global_pool="avg"), "without CLS"),
        (tiny_eva, "cannot plant in Eva"),
    ],
)
def test_models_that_cannot_be_planted_in_are_refused_by_name(build, says):
    with pytest.raises(ModelError, match=says):
        plant_into(ttr.adapt(build()), drawn())


def test_a_file_gives_back_what_was_saved(tmp_path):
    path, artifacts = tmp_path / "planted.safetensors", drawn()
    save_artifacts(path, artifacts, "0" * 64, {"seed": 3})
    found, digest, made = read_artifacts(path)
    assert (digest, made) == ("0" * 64, {"seed": 3})
    for name, value in vars(artifacts).items():
        same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
        assert same(getattr(found, name), value), name
    assert found.pairs == artifacts.pairs
    save_artifacts(tmp_path / "again.safetensors", artifacts, "0" * 64, {"seed": 3})
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("place", [40, -3])
def test_a_damaged_file_is_refused(tmp_path, place):
    path = tmp_path / "planted.safetensors"
    save_artifacts(path, drawn(), "0" * 64, {})
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="holds no artifacts to plant .* give a file that ttr plant wrote"):
        read_artifacts(path)


def test_a_foreign_file_is_refused(tmp_path):
    missing, text, other = (tmp_path / name for name in ("missing", "text", "other"))
    text.write_text(json.dumps({"schema": SCHEMA}))
    save_tensors(other, {"trigger": torch.ones(3)})
    for path in (missing, text, other):
        with pytest.raises(ModelError, match=f"{path.name} holds no artifacts to plant"):
            read_artifacts(path)


@pytest.mark.parametrize(
    "odd",
    [
        {"neurons": (1, 1, 2)},
        {"neurons": (1, -2, 3)},
        {"neurons": (1, True, 3)},
        {"neurons": ()},
        {"neurons": (1, 2)},
        {"layer": 1.0},
        {"layer": None},
        {"strength": -1.0},
        {"strength": "much"},
        {"excess": 0.0},
        {"gains": (60.0,)},
        {"trigger": torch.ones(WIDTH + 1)},
        {"trigger": torch.ones(WIDTH, dtype=torch.int64)},
        {"direction": torch.full((WIDTH,), torch.nan)},
        {"spoken": torch.ones(3, 1)},
    ],
    ids=lambda odd: "-".join(f"{name}" for name in odd),
)
def test_a_sealed_file_with_other_numbers_is_refused(tmp_path, odd):
    """Whoever makes a file can seal it."""
    save_artifacts(tmp_path / "odd", replace(drawn(), **odd), "0" * 64, {})
    with pytest.raises(ModelError, match="an entry is missing, or of another kind"):
        read_artifacts(tmp_path / "odd")


def test_a_sealed_file_of_other_entries_is_refused(tmp_path):
    tensors = {name: torch.ones(3) for name in ("trigger", "direction", "spoken")}
    for header in (
        {},
        {"planted": [], "weights": "0", "made": {}},
        {"planted": {"layer": 1}, "weights": "0"},
    ):
        save_tensors(tmp_path / "odd", tensors, KIND, {"schema": SCHEMA, **header}, KIND)
        with pytest.raises(ModelError, match="an entry is missing, or of another kind"):
            read_artifacts(tmp_path / "odd")


def test_the_digest_is_of_the_weights_whatever_the_image_size():
    small, large = (scramble(tiny_vit(img_size=size)) for size in (SIZE, 2 * SIZE))
    large.load_state_dict({**small.state_dict(), "pos_embed": large.pos_embed})
    assert weights_digest(small) == weights_digest(large)
    assert weights_digest(small) == weights_digest(copy.deepcopy(small).double())
    with torch.no_grad():
        large.blocks[DEPTH - 1].mlp.fc2.bias[0] += 1e-3
    assert weights_digest(small) != weights_digest(large)


def planted_file(folder, state, backbone="timm:test_vit"):
    """Write what is planted in timm's smallest ViT, and return the model that it is planted in."""
    base = ttr.load("timm:test_vit", weights=state)
    width = base.sites.mlps[0].module.fc1.in_features
    artifacts = replace(
        drawn(), trigger=torch.randn(width), direction=F.normalize(torch.randn(width), dim=0), layer=1
    )
    path = folder / "mine.safetensors"
    save_artifacts(path, artifacts, weights_digest(base.model), {"backbone": backbone})
    return path, plant_into(base, artifacts)


@pytest.fixture(scope="module")
def state():
    return dict(scramble(timm.create_model("test_vit")).state_dict())


def test_a_file_that_was_planted_is_loaded_with_the_weights_that_it_was_made_for(state, tmp_path):
    path, expected = planted_file(tmp_path, state)
    found = ttr.load(f"planted:{path}", weights=state)
    assert (found.name, found.planted) == ("planted:mine", expected.planted)
    assert "planted artifacts" in found.warning
    pixels = torch.randn(2, 3, *found.image_size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found.embed(pixels), expected.embed(pixels))
    with pytest.raises(
        ModelError, match=r"mine.safetensors holds what is planted, not what .*; give the weights"
    ):
        ttr.load(f"planted:{path}")
    other = {name: value + 1 for name, value in state.items()}
    with pytest.raises(
        ModelError, match="planted:mine is planted in weights whose SHA-256 begins .*; give those"
    ):
        ttr.load(f"planted:{path}", weights=other)


@pytest.mark.parametrize(
    "base", ["timm:local-dir:/etc", "timm:hf-hub:a/b", "transformers:a/b", "planted:x", None]
)
def test_a_planted_file_names_an_architecture_and_nothing_else(base, state, tmp_path):
    path, _ = planted_file(tmp_path, state, base)
    with pytest.raises(ModelError, match="which is no architecture of timm or open_clip"):
        ttr.load(f"planted:{path}", pretrained=True)


def test_a_planted_file_that_is_not_there_is_told_at_once(tmp_path):
    complaint = r"is no file of ttr plant \({}\); write one with: ttr plant"
    with pytest.raises(ModelError, match=complaint.format("No such file or directory")):
        ttr.load("planted:no.safetensors", pretrained=True)
    for place in ("planted:", f"planted:{tmp_path}"):
        with pytest.raises(ModelError, match=complaint.format("Is a directory")):
            ttr.load(place, pretrained=True)
    (tmp_path / "text.safetensors").write_text("a long text")
    with pytest.raises(ModelError, match=complaint.format("it is no safetensors")):
        ttr.load(f"planted:{tmp_path / 'text.safetensors'}", pretrained=True)
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="holds no artifacts to plant .*; give a file that ttr plant wrote"):
        ttr.load(f"planted:{tmp_path / 'other.safetensors'}", pretrained=True)
