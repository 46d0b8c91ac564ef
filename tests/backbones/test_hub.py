"""Published weights through the libraries' own loaders, from a hub on loopback: what works, and refusals."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save

import ttr
from tests.tools.tiny_models import scramble
from ttr.errors import ModelError

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0}
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 24, "head_width": 12, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 100, "width": 16, "heads": 2, "layers": 1},
}
TIMM, OPEN_CLIP = "timm:hf-hub:lab/vit", "open_clip:hf-hub:lab/clip"


@pytest.fixture(scope="module")
def vit():
    return scramble(timm.create_model("vit_tiny_patch16_224", **TINY))


@pytest.fixture(scope="module")
def clip():
    return scramble(open_clip.CLIP(**CLIP))


def weights_of(model: torch.nn.Module) -> bytes:
    return save({key: value.contiguous() for key, value in model.state_dict().items()})


@pytest.fixture
def published(hub, vit, clip):
    config = {"architecture": "vit_tiny_patch16_224", "model_args": TINY, "pretrained_cfg": {}}
    files = {"config.json": json.dumps(config).encode(), "model.safetensors": weights_of(vit)}
    hub.publish("lab/vit", files)
    files = {"open_clip_config.json": json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}}).encode()}
    hub.publish("lab/clip", {**files, "open_clip_model.safetensors": weights_of(clip)})
    return hub


def same(backbone: ttr.Backbone, model: torch.nn.Module) -> bool:
    ours, theirs = backbone.model.state_dict(), model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def without(hub, repository: str, suffix: str, **more: bytes) -> None:
    """Publish a repository anew without its files of a suffix, and with others."""
    kept = {k: v for k, v in hub.repositories[repository].items() if not k.endswith(suffix)}
    hub.publish(repository, {**kept, **{name.replace("__", "."): data for name, data in more.items()}})


@pytest.mark.parametrize("name", [TIMM, OPEN_CLIP])
def test_published_weights_are_fetched_once_and_say_where_from(published, vit, clip, name):
    repository = name.partition("hf-hub:")[2]
    backbone = ttr.load(name, pretrained=True)
    assert same(backbone, vit if name == TIMM else clip)
    commit = published.commit(repository)[:12]
    assert str(backbone.weights) == f"pretrained ({repository}, commit {commit})"
    assert len(published.transfers()) == 2
    published.requests.clear()
    assert same(ttr.load(name, pretrained=True), vit if name == TIMM else clip)
    assert published.requests
    assert published.transfers() == []


def test_a_tag_of_timm_comes_from_its_repository(hub):
    model = scramble(timm.create_model("vit_tiny_patch16_224"))
    hub.publish("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", {"model.safetensors": weights_of(model)})
    backbone = ttr.load("timm:vit_tiny_patch16_224", pretrained=True)
    assert same(backbone, model)
    assert "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k, commit" in str(backbone.weights)
    assert ttr.load("timm:vit_tiny_patch16_224", pretrained=True, image_size=64).image_size == (64, 64)


@pytest.fixture
def tagged(published, tmp_path, monkeypatch):
    """Two tags of a small open_clip architecture, one with a file name of its own."""
    (tmp_path / "tiny-clip.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    sources = {"ours": {"hf_hub": "lab/clip/"}, "odd": {"hf_hub": "lab/odd/weights.bin"}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-clip", sources)
    yield published
    open_clip.factory._MODEL_CONFIGS.pop("tiny-clip")
    open_clip.factory._MODEL_CONFIG_PATHS.remove(tmp_path / "tiny-clip.json")


def test_a_tag_of_open_clip_comes_from_its_repository(tagged, clip, tmp_path):
    assert same(ttr.load("open_clip:tiny-clip/ours", pretrained=True), clip)
    torch.save({"epoch": 3, "state_dict": clip.state_dict()}, tmp_path / "w.bin")
    tagged.publish("lab/odd", {"weights.bin": (tmp_path / "w.bin").read_bytes()})
    assert same(ttr.load("open_clip:tiny-clip/odd", pretrained=True), clip)
    for asked in ({"pretrained": True}, {}):
        with pytest.raises(ModelError, match="unknown tag 'other'; write .*/TAG with one of: ours, odd"):
            ttr.load("open_clip:tiny-clip/other", **asked)


def test_a_text_tower_of_the_hub_needs_its_config_alone(published, tmp_path):
    text = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 16, "vocab_size": 50, "max_position_embeddings": 8}
    published.publish("lab/text", {"config.json": json.dumps(text).encode()})
    config = {**CLIP, "custom_text": True, "text_cfg": {"hf_model_name": "lab/text"}}
    config["text_cfg"] |= {
        "hf_tokenizer_name": "lab/text",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "mean_pooler",
    }
    (tmp_path / "lab-text-clip.json").write_text(json.dumps(config))
    published.publish("lab/clip", {"open_clip_config.json": json.dumps({"model_cfg": config}).encode()})
    with pytest.raises(ModelError, match=r"lab/clip on the hub has no open_clip_model.safetensors"):
        ttr.load(OPEN_CLIP, pretrained=True)
    model = scramble(ttr.load(OPEN_CLIP).model)
    without(published, "lab/clip", ".safetensors", open_clip_model__safetensors=weights_of(model))
    assert same(ttr.load(OPEN_CLIP, pretrained=True), model)


def test_a_transfer_that_breaks_is_resumed_and_whole(published, vit, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    published.cuts = [20_000, 30_500]
    assert same(ttr.load(TIMM, pretrained=True), vit)
    ranges = [request.range for request in published.transfers() if request.path.startswith("storage")]
    assert ranges == ["", "bytes=20000-", "bytes=50000-"]


@pytest.mark.parametrize("name", [TIMM, OPEN_CLIP])
def test_a_transfer_that_breaks_off_leaves_nothing_half(published, vit, clip, name, monkeypatch, tmp_path):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    published.cuts = [1000] + 20 * [0]
    with pytest.raises(
        ModelError, match=r"the transfer of lab/\w+/\w*model.safetensors broke off \(.*try again"
    ):
        ttr.load(name, pretrained=True)
    blobs = [
        path for path in (tmp_path / "hub-cache").rglob("*") if path.is_file() and path.stat().st_size > 900
    ]
    assert blobs == []
    published.cuts = []
    assert same(ttr.load(name, pretrained=True), vit if name == TIMM else clip)


@pytest.mark.parametrize("name", [TIMM, OPEN_CLIP])
def test_content_that_is_not_what_was_published_is_refused(published, vit, clip, name):
    published.damaged = True
    for _ in range(2):
        with pytest.raises(
            ModelError, match="is damaged: the hub published SHA-256 .*; remove .*/blobs/"
        ) as refusal:
            ttr.load(name, pretrained=True)
    published.damaged = False
    Path(str(refusal.value).partition("remove ")[2].partition(" and load")[0]).unlink()
    assert same(ttr.load(name, pretrained=True), vit if name == TIMM else clip)


def test_a_cache_that_keeps_no_hash_is_taken_as_it_is(published, vit, monkeypatch):
    """Where links are not to be had, the cache holds plain files under their own names."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS", True)
    for _ in range(2):
        assert same(ttr.load(TIMM, pretrained=True), vit)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("RepoNotFound", r"the hub shows no repository lab/(vit|clip): check the name"),
        ("GatedRepo", r"lab/(vit|clip) is gated: accept its terms at http.*/lab/(vit|clip) and log in"),
        ("RevisionNotFound", r"has no such revision"),
        ("Down", r"the hub http.* refused \(HfHubHTTPError: .*503.*not in the cache .*: try again later"),
    ],
)
@pytest.mark.parametrize("name", [TIMM, OPEN_CLIP])
def test_what_the_hub_refuses_is_said(published, name, code, says):
    published.refused["lab/vit"] = published.refused["lab/clip"] = code
    with pytest.raises(ModelError, match=says + r".* or give a local file with weights=") as refusal:
        ttr.load(name, pretrained=True)
    assert "\n" not in str(refusal.value)
    assert len(published.requests) == 1


@pytest.mark.parametrize(
    ("name", "suffix", "says"),
    [
        (TIMM, ".safetensors", "lab/vit on the hub has no model.safetensors or pytorch_model.bin"),
        (TIMM, ".json", "lab/vit on the hub has no config.json"),
        (OPEN_CLIP, ".safetensors", "lab/clip on the hub has no open_clip_model.safetensors or open_clip_py"),
        (OPEN_CLIP, ".json", "lab/clip on the hub has no open_clip_config.json"),
    ],
)
def test_a_repository_without_the_file_is_named_with_it(published, name, suffix, says):
    without(published, name.partition("hf-hub:")[2], suffix)
    with pytest.raises(ModelError, match=says):
        ttr.load(name, pretrained=True)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:hf-hub:lab/vit/more", "'lab/vit/more' is no repository of the hub: write OWNER/NAME"),
        ("timm:hf-hub:lab/vit@then", "lab/vit has no such revision: check what stands behind the @"),
        (
            "timm:vit_tiny_patch16_224.imagined",
            "no pretrained weights .*; tags of .*: augreg_in21k, augreg_in21k_ft",
        ),
        ("timm:vit_large_patch14_224", "tags of vit_large_patch14_224: none published"),
        ("open_clip:ViT-B-16", r"without a tag; write open_clip:ViT-B-16/TAG .*laion2b_s34b_b88k"),
    ],
)
def test_names_that_cannot_be_published(published, name, says):
    with pytest.raises(ModelError, match=says):
        ttr.load(name, pretrained=True)


def test_a_config_that_is_none_is_refused(published):
    without(published, "lab/vit", ".json", config__json=b"<html>")
    with pytest.raises(ModelError, match="config.json is no JSON object; remove"):
        ttr.load(TIMM, pretrained=True)
    without(published, "lab/vit", ".json", config__json=b'{"model_type": "dinov2"}')
    with pytest.raises(
        ModelError, match="could not be loaded .*check that they are published for this library"
    ):
        ttr.load(TIMM, pretrained=True)


@pytest.mark.parametrize("how", ["switched off", "closed", "silent"])
def test_a_hub_out_of_reach_is_said_at_once_and_a_cache_is_enough(published, vit, how, monkeypatch):
    ttr.load(TIMM, pretrained=True)
    if how == "switched off":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        says = "HF_HUB_OFFLINE is set and lab/clip is not in the cache .*hub-cache: unset it to fetch once"
    else:
        if how == "closed":
            published.close()
        published.silent = True
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.3)
        says = "the hub http.* is out of reach .* and lab/clip is not in the cache .*hub-cache: connect once"
    before = len(published.requests)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits to ask again"))
    assert same(ttr.load(TIMM, pretrained=True), vit)
    with pytest.raises(ModelError, match=says):
        ttr.load(OPEN_CLIP, pretrained=True)
    asked = [each.path for each in published.requests[before:]]
    assert len(asked) == len(set(asked)), "no file is asked for twice"


@pytest.mark.parametrize("code", ["GatedRepo", "RepoNotFound", "Down"])
def test_a_cache_outlives_a_refusal(published, vit, code):
    ttr.load(TIMM, pretrained=True)
    published.refused["lab/vit"] = code
    assert same(ttr.load(TIMM, pretrained=True), vit)


def test_nothing_is_asked_of_the_hub_unless_pretrained(published, vit):
    ttr.load("timm:vit_tiny_patch16_224")
    ttr.load("timm:vit_tiny_patch16_224.augreg_in21k")
    ttr.load("open_clip:ViT-B-32/openai")
    for name in (TIMM, OPEN_CLIP, "open_clip:roberta-ViT-B-32"):
        with pytest.raises(ModelError, match="could not be built|described on the hub alone"):
            ttr.load(name)
    assert published.requests == []
    ttr.load(TIMM, pretrained=True)
    published.requests.clear()
    assert str(ttr.load(TIMM).weights) == "random (seed 0)"
    assert same(ttr.load(TIMM, weights=vit.state_dict()), vit)
    assert published.requests == []


class Exploit:
    """Leaves a trace when it is unpickled by code that executes what it reads."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.fixture
def trace(published, tmp_path):
    """Pickles that would leave this file when executed lie where the weights were."""
    trace = tmp_path / "executed"
    evil = pickle.dumps(Exploit(trace), protocol=2)
    without(published, "lab/vit", ".safetensors", pytorch_model__bin=evil)
    without(published, "lab/clip", ".safetensors", open_clip_pytorch_model__bin=evil)
    yield trace
    assert not trace.exists()
    pickle.loads(evil).close()
    assert trace.exists()


@pytest.mark.parametrize("name", [TIMM, OPEN_CLIP])
def test_a_pickle_from_the_hub_is_never_executed(trace, name):
    with pytest.raises(ModelError, match=r"pytorch_model.bin is no checkpoint that can be read safely"):
        ttr.load(name, pretrained=True)


def test_the_libraries_themselves_do_not_execute_pickles(trace):
    with pytest.raises(RuntimeError, match="weights_only=True blocked loading this checkpoint"):
        timm.create_model("hf-hub:lab/vit", pretrained=True)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        open_clip.create_model("hf-hub:lab/clip")


def test_the_hub_of_these_tests_serves_whole_repositories(published, tmp_path):
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download("lab/clip"))
    for name, content in published.repositories["lab/clip"].items():
        assert (folder / name).read_bytes() == content


@pytest.mark.slow  # the sentences are held beside it, in this process
def test_the_command_says_it_in_one_line(published, tmp_path):
    """Through the client's own settings, in a process of its own."""
    published.refused["lab/vit"] = "GatedRepo"
    command = [
        sys.executable,
        "-m",
        "ttr",
        "detect",
        "--backbone",
        TIMM,
        "--pretrained",
        "--images",
        "datasets/samples",
    ]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "n.json")],
        env={**os.environ, "HF_ENDPOINT": published.endpoint, "HF_HOME": str(tmp_path), "HF_TOKEN": ""},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(ttr.__file__).parent.parent,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ttr: lab/vit is gated: accept its terms at http://127.0.0.1")
    assert len(done.stderr.splitlines()) == 1
