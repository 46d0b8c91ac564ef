"""Folders of shards: what they hold, and that killed runs and several processes come to the same bytes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision import transforms

import ttr
from tests.tools.tiny_models import tiny_vit
from ttr.analysis.faithfulness import record_with_faithfulness
from ttr.analysis.reference import refer
from ttr.datasets.places.opening import images_at
from ttr.datasets.registry import open_image
from ttr.errors import ImageError, ModelError, OutputError
from ttr.norms import outlier_threshold
from ttr.run import Run
from ttr.studies.embed import write
from ttr.studies.embed.settings import EmbedSettings

COUNT, SHARD, BATCH = 11, 4, 2
SETTINGS = EmbedSettings(shard_size=SHARD)
RUN = Run(batch_size=BATCH, workers=1)
SKIP = Run(batch_size=BATCH, workers=1, on_error="skip")
EVERYTHING = EmbedSettings(shard_size=SHARD, outlier_share=True, faithfulness=True, patch_tokens=True)
NEURONS = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 7)])


def adapted(model):
    steps = [transforms.Resize((32, 32)), transforms.ToTensor(), transforms.Normalize(0.5, 0.5)]
    return ttr.adapt(model, preprocess=transforms.Compose(steps))


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return adapted(tiny_vit())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Eleven pictures of noise: three shards, the last one shorter."""
    folder, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(COUNT):
        pixels = draw.integers(0, 256, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def with_bad(pictures, tmp_path):
    """The same, of which the fourth, a whole batch and a whole shard cannot be read."""
    folder = tmp_path / "with-bad"
    folder.mkdir()
    for path in pictures.iterdir():
        bad = path.stem in ("03", "04", "05", "08", "09", "10")
        (folder / path.name).write_bytes(b"no picture" if bad else path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def undisturbed(backbone, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = ttr.embed_images(backbone, pictures, out, settings=SETTINGS, run=RUN)
    assert done == write.Embedded(out, COUNT, 0, 3, 0)
    return out


@pytest.fixture(scope="module")
def with_everything(backbone, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("with-everything") / "out"
    ttr.embed_images(backbone, pictures, out, settings=EVERYTHING, run=RUN)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def table(folder: Path):
    return pyarrow.parquet.read_table([*sorted(folder.glob("shard-*.parquet"))])


def column(folder: Path, name: str) -> np.ndarray:
    return np.array(table(folder).column(name).to_pylist(), dtype=np.float64)


def batches(backbone, folder: Path):
    """Yield what a plain loop gives the model."""
    listing = images_at(folder)
    images = [backbone.preprocess(open_image(folder / x.name)) for x in listing.entries(0, COUNT)]
    yield from torch.stack(images).split(BATCH)


def test_the_rows_are_those_of_a_plain_loop_in_order(backbone, pictures, undisturbed):
    plain = torch.cat([backbone.embed(batch) for batch in batches(backbone, pictures)])
    found = table(undisturbed)
    assert found.column_names == ["image", "embedding", "error"]
    assert found.schema.field("embedding").type == pyarrow.list_(pyarrow.float32(), plain.shape[1])
    assert found.column("image").to_pylist() == [f"{number:02}.png" for number in range(COUNT)]
    assert np.allclose(column(undisturbed, "embedding"), plain.numpy(), atol=1e-6)
    assert [len(pyarrow.parquet.read_table(x)) for x in sorted(undisturbed.glob("*.parquet"))] == [4, 4, 3]


@pytest.mark.parametrize("neurons", [None, NEURONS], ids=["bare", "wrapped"])
def test_whatever_else_is_kept_is_of_the_same_pass_bare_or_wrapped(backbone, pictures, tmp_path, neurons):
    ttr.embed_images(backbone, pictures, tmp_path / "out", neurons=neurons, settings=EVERYTHING, run=RUN)
    wrap = ttr.TestTimeRegisters(backbone, neurons) if neurons else None
    expected: dict[str, list[torch.Tensor]] = {}
    for batch in batches(backbone, pictures):
        if wrap:
            wrap.install()
        seen, trust = record_with_faithfulness(backbone, batch, reference=refer(backbone))
        amounts = torch.tensor([each.amount for each in trust])
        embedding, tokens = backbone.embed_with_tokens(batch)
        if wrap:
            wrap.remove()
        norms = seen.layout.select(seen.norms[-2], "patches")
        share = (norms > outlier_threshold(norms)[:, None]).float().mean(dim=1)
        found = {"embedding": embedding, "outlier_share": share, "faithfulness": amounts}
        for name, value in {**found, "patches": tokens.patches}.items():
            expected.setdefault(name, []).append(value)
    for name in ("embedding", "outlier_share", "faithfulness"):
        assert np.allclose(column(tmp_path / "out", name), torch.cat(expected[name]).numpy(), atol=1e-5), name
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    patches = torch.cat([load_file(path)["patches"] for path in files])
    assert torch.allclose(patches, torch.cat(expected["patches"]), atol=1e-5)
    bare = torch.cat([backbone.embed(batch) for batch in batches(backbone, pictures)])
    assert np.allclose(column(tmp_path / "out", "embedding"), bare.numpy(), atol=1e-5) == (neurons is None)


def test_pooling_and_storage_are_as_asked_for(backbone, pictures, tmp_path):
    settings = EmbedSettings(shard_size=SHARD, pooling="patches", storage="float16")
    ttr.embed_images(backbone, pictures, tmp_path / "out", settings=settings, run=RUN)
    plain = torch.cat([backbone.embed(batch, pooling="patches") for batch in batches(backbone, pictures)])
    assert table(tmp_path / "out").schema.field("embedding").type.value_type == pyarrow.float16()
    assert np.array_equal(column(tmp_path / "out", "embedding"), plain.half().double().numpy())


# -- bad images --------------------------------------------------------------------------------------------


def test_a_bad_image_ends_the_run_by_name_and_what_came_before_stays(backbone, with_bad, pictures, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ImageError, match=r"^03\.png is not an image.*--on-error skip$"):
        ttr.embed_images(backbone, with_bad, out, settings=SETTINGS, run=RUN)
    assert [path.name for path in out.iterdir()] == ["plan.json"]
    (with_bad / "03.png").write_bytes((pictures / "03.png").read_bytes())
    with pytest.raises(OutputError, match="source listing was .* and is"):
        ttr.embed_images(backbone, with_bad, out, settings=SETTINGS, run=RUN)


def test_skipped_it_has_a_row_with_the_reason_and_the_others_have_theirs(
    backbone, with_bad, tmp_path, undisturbed
):
    out = tmp_path / "out"
    done = ttr.embed_images(backbone, with_bad, out, settings=EVERYTHING, run=SKIP)
    assert (done.images, done.errors, done.missing) == (COUNT, 6, 0)
    found, plain = table(out), table(undisturbed)
    bad = [3, 4, 5, 8, 9, 10]
    reasons = found.column("error").to_pylist()
    assert [row for row, reason in enumerate(reasons) if reason] == bad
    assert all(f"{row:02}.png" in reasons[row] for row in bad)
    for name in ("embedding", "outlier_share", "faithfulness"):
        assert [row for row, each in enumerate(found.column(name).to_pylist()) if each is None] == bad
    good = [row for row in range(COUNT) if row not in bad]
    rows = [np.array(each.column("embedding").take(good).to_pylist()) for each in (found, plain)]
    assert np.allclose(*rows, atol=1e-5)
    patches = torch.cat([load_file(path)["patches"] for path in sorted(out.glob("*.safetensors"))])
    assert [row for row in range(COUNT) if not patches[row].any()] == bad
    assert ttr.verify_embeddings(out).faults == ()
    with pytest.raises(ImageError, match=r"03\.png.*--on-error skip"):
        ttr.embed_images(backbone, with_bad, out, settings=EVERYTHING, run=RUN)


def test_an_embedding_that_is_no_finite_number_is_an_error_and_no_row(pictures, tmp_path):
    model = tiny_vit()
    with torch.no_grad():
        model.norm.weight.mul_(1e6)  # beyond what float16 holds
    backbone = adapted(model)
    half = EmbedSettings(shard_size=SHARD, storage="float16")
    with pytest.raises(ImageError, match=r"no finite embedding of it that float16 holds.*\(00\.png\)"):
        ttr.embed_images(backbone, pictures, tmp_path / "out", settings=half, run=RUN)
    done = ttr.embed_images(backbone, pictures, tmp_path / "out", settings=half, run=SKIP)
    assert done.errors == COUNT
    assert set(table(tmp_path / "out").column("embedding").to_pylist()) == {None}


def test_names_can_be_left_out_of_all_that_is_written(backbone, with_bad, tmp_path):
    out = tmp_path / "out"
    ttr.embed_images(backbone, with_bad, out, settings=SETTINGS, run=SKIP, anonymous=True)
    assert table(out).column("image").to_pylist() == [f"image {number + 1}" for number in range(COUNT)]
    assert not any(b".png" in content for content in contents(out).values())
    assert ttr.verify_embeddings(out).faults == ()


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are texts elsewhere")
def test_a_name_that_is_no_text_is_written_as_one(backbone, pictures, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    os.link(pictures / "00.png", os.fsencode(folder) + b"/k\xff\n.png")
    ttr.embed_images(backbone, folder, tmp_path / "out", settings=SETTINGS, run=RUN)
    assert table(tmp_path / "out").column("image").to_pylist() == ["k\\xff\n.png"]
    assert ttr.verify_embeddings(tmp_path / "out", images_at(folder)).faults == ()


# -- killed, gone on with, and in several processes --------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "moment", ["before the first", "in the second", "in the patches", "before the proof"]
)
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(
    backbone, pictures, tmp_path, monkeypatch, with_everything, moment
):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        count, real = 0, pyarrow.parquet.write_table

        def write_table(table, where, **options):
            nonlocal count
            real(table, where, **options)
            count += 1
            if count == {"before the first": 1, "in the second": 2}.get(moment, 99):
                raise Killed

        def save_file(tensors, path):
            Path(path).write_bytes(b"half of it")
            raise Killed

        def write_manifest(*given):
            raise Killed

        patch.setattr(pyarrow.parquet, "write_table", write_table)
        if moment == "in the patches":
            patch.setattr("safetensors.torch.save_file", save_file)
        if moment == "before the proof":
            patch.setattr(write, "write_manifest", write_manifest)
        with pytest.raises(Killed):
            ttr.embed_images(backbone, pictures, out, settings=EVERYTHING, run=RUN)
    there = {"before the first": 0, "in the second": 1, "in the patches": 0, "before the proof": 3}[moment]
    assert len(list(out.glob("shard-*.parquet"))) == there
    assert not (out / "manifest.json").exists()
    said: list[str] = []
    again = Run(batch_size=BATCH, workers=1, say=said.append)
    ttr.embed_images(backbone, pictures, out, settings=EVERYTHING, run=again)
    assert said == ([f"embedding: resuming, {there} of 3 shards are there"] if there else [])
    assert contents(out) == contents(with_everything)


def test_a_whole_folder_is_left_as_it_is(backbone, pictures, undisturbed):
    times = {path: path.stat().st_mtime_ns for path in undisturbed.iterdir()}
    done = ttr.embed_images(backbone, pictures, undisturbed, settings=SETTINGS, run=RUN)
    assert done.missing == 0
    assert times == {path: path.stat().st_mtime_ns for path in undisturbed.iterdir()}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_processes_write_what_one_writes_and_the_last_one_the_proof(
    backbone, pictures, tmp_path, monkeypatch, undisturbed, order
):
    missing = []
    for rank in order:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        done = ttr.embed_images(backbone, pictures, tmp_path / "out", settings=SETTINGS, run=RUN)
        missing.append(done.missing)
        assert (tmp_path / "out" / "manifest.json").exists() == (done.missing == 0)
    assert missing == [1 if order[0] == 0 else 2, 0]
    assert contents(tmp_path / "out") == contents(undisturbed)


def test_another_number_of_processes_may_go_on(backbone, pictures, tmp_path, monkeypatch, undisturbed):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    ttr.embed_images(backbone, pictures, tmp_path / "out", settings=SETTINGS, run=RUN)
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    ttr.embed_images(backbone, pictures, tmp_path / "out", settings=SETTINGS, run=RUN)
    assert contents(tmp_path / "out") == contents(undisturbed)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"settings": EmbedSettings(shard_size=5)}, "shard_size was 4 and is 5"),
        ({"settings": EmbedSettings(shard_size=4, pooling="patches")}, "pooling was own and is patches"),
        ({"run": Run(batch_size=3, workers=1)}, "batch_size was 2 and is 3"),
        ({"neurons": NEURONS}, "neurons was .* num_registers was 0 and is 1"),
    ],
)
def test_another_setting_is_refused_with_what_differs(backbone, pictures, undisturbed, given, complaint):
    with pytest.raises(OutputError, match=complaint):
        ttr.embed_images(backbone, pictures, undisturbed, **{"settings": SETTINGS, "run": RUN, **given})


def test_other_weights_are_refused(pictures, undisturbed):
    torch.manual_seed(1)
    with pytest.raises(OutputError, match="weights was .* and is"):
        ttr.embed_images(adapted(tiny_vit()), pictures, undisturbed, settings=SETTINGS, run=RUN)


def test_a_folder_of_something_else_is_left_alone(backbone, pictures, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="none of ttr embed's"):
        ttr.embed_images(backbone, pictures, tmp_path, settings=SETTINGS, run=RUN)
    with pytest.raises(OutputError, match="is a file"):
        ttr.embed_images(backbone, pictures, tmp_path / "thesis.txt", settings=SETTINGS, run=RUN)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_faithfulness_of_a_model_without_cls_is_refused_before_anything_is_written(pictures, tmp_path):
    backbone = adapted(tiny_vit(class_token=False, global_pool="avg"))
    with pytest.raises(ModelError, match="no CLS token"):
        ttr.embed_images(backbone, pictures, tmp_path / "out", settings=EVERYTHING, run=RUN)
    assert not (tmp_path / "out").exists()
