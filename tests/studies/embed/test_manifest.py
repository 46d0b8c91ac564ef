"""The proof: whatever is lost, doubled, cut off, swapped or added is found and named."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torchvision import transforms

import ttr
from tests.tools.tiny_models import tiny_vit
from ttr.datasets.places.opening import images_at
from ttr.errors import DataError, OutputError
from ttr.run import Run
from ttr.studies.embed.settings import EmbedSettings

SETTINGS = EmbedSettings(shard_size=2, patch_tokens=True)
RUN = Run(batch_size=2, workers=1)
FIRST, SECOND, LAST = (f"shard-0000{number}-of-00003" for number in range(3))


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    steps = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    return ttr.adapt(tiny_vit(), preprocess=steps)


@pytest.fixture(scope="module")
def made(backbone, tmp_path_factory):
    """Five pictures and a folder of three shards, whole."""
    root, draw = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    (root / "pictures").mkdir()
    for number in range(5):
        pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "pictures" / f"{number}.png")
    ttr.embed_images(backbone, root / "pictures", root / "out", settings=SETTINGS, run=RUN)
    return root


@pytest.fixture
def folder(made, tmp_path):
    """A copy that may be damaged."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy" / "out"


def test_a_whole_folder_has_no_fault_and_says_what_it_holds(made):
    found = ttr.verify_embeddings(str(made / "out"), images_at(made / "pictures"))
    assert (found.images, found.errors, found.shards, found.faults) == (5, 0, 3, ())
    manifest = json.loads((made / "out" / "manifest.json").read_text())
    assert [shard["rows"] for shard in manifest["shards"]] == [2, 2, 1]
    assert manifest["provenance"]["disclaimer"]
    assert set(manifest["files"]) | {"manifest.json"} == {path.name for path in (made / "out").iterdir()}


def flip(path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def rewrite(path, change) -> None:
    """Write a shard's rows anew, changed, with the words that the file said of itself."""
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def renamed(table: pyarrow.Table) -> pyarrow.Table:
    return table.set_column(0, "image", pyarrow.array(["0.png", "0.png"]))


DAMAGE = {
    "lost": (lambda f: (f / f"{SECOND}.parquet").unlink(), f"{SECOND}.parquet: it is not there"),
    "cut off": (
        lambda f: (f / f"{LAST}.parquet").write_bytes((f / f"{LAST}.parquet").read_bytes()[:-40]),
        f"{LAST}.parquet: it is not there, cut off",
    ),
    "a bit": (lambda f: flip(f / f"{FIRST}.parquet", 300), f"{FIRST}.parquet"),
    "a bit of the patches": (lambda f: flip(f / f"{FIRST}.patches.safetensors", -3), "its patch tokens"),
    "patches lost": (lambda f: (f / f"{LAST}.patches.safetensors").unlink(), f"{LAST}.parquet: it is not"),
    "another in its place": (
        lambda f: shutil.copy(f / f"{FIRST}.parquet", f / f"{SECOND}.parquet"),
        f"{SECOND}.parquet: it is not there, cut off, or of another run",
    ),
    "doubled": (
        lambda f: shutil.copy(f / f"{FIRST}.parquet", f / "shard-00003-of-00003.parquet"),
        "shard-00003-of-00003.parquet is no shard of this folder",
    ),
    "a row doubled": (lambda f: rewrite(f / f"{FIRST}.parquet", renamed), f"{FIRST}.parquet is not what"),
    "a row lost": (lambda f: rewrite(f / f"{FIRST}.parquet", lambda t: t[:1]), f"{FIRST}.parquet"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_whatever_is_wrong_is_found_by_name(folder, name):
    damage, complaint = DAMAGE[name]
    damage(folder)
    faults = ttr.verify_embeddings(folder).faults
    assert faults
    assert any(complaint in fault for fault in faults), faults


@pytest.mark.parametrize("name", ["lost", "cut off", "patches lost", "another in its place", "a row lost"])
def test_run_again_it_is_made_whole_and_is_the_same(backbone, folder, made, name):
    DAMAGE[name][0](folder)
    ttr.embed_images(backbone, made / "pictures", folder, settings=SETTINGS, run=RUN)
    assert ttr.verify_embeddings(folder).faults == ()
    for path in folder.iterdir():
        assert path.read_bytes() == (made / "out" / path.name).read_bytes(), path.name


def test_a_shard_that_was_damaged_before_the_proof_is_not_vouched_for(backbone, folder, made):
    (folder / "manifest.json").unlink()
    flip(folder / f"{FIRST}.parquet", 300)
    with pytest.raises(OutputError, match=rf"{FIRST}\.parquet cannot be used .*remove it and run again"):
        ttr.embed_images(backbone, made / "pictures", folder, settings=SETTINGS, run=RUN)
    rewrite(folder / f"{FIRST}.parquet", renamed)
    with pytest.raises(OutputError, match="hold other images than were listed"):
        ttr.embed_images(backbone, made / "pictures", folder, settings=SETTINGS, run=RUN)
    assert not (folder / "manifest.json").exists()


def test_an_image_that_was_added_renamed_or_changed_is_noticed(backbone, made, folder):
    pictures = folder.parent / "pictures"
    (pictures / "4.png").rename(pictures / "5.png")
    (fault,) = ttr.verify_embeddings(folder, images_at(pictures)).faults
    assert "other names or sizes" in fault
    shutil.copy(pictures / "5.png", pictures / "6.png")
    (fault,) = ttr.verify_embeddings(folder, images_at(pictures)).faults
    assert "5 images were listed, and 6 are there now" in fault
    with pytest.raises(OutputError, match="source images was 5 and is 6"):
        ttr.embed_images(backbone, pictures, folder, settings=SETTINGS, run=RUN)


def test_a_run_that_has_not_ended_is_no_proof(folder):
    (folder / "manifest.json").unlink()
    (folder / f"{SECOND}.parquet").unlink()
    faults = ttr.verify_embeddings(folder).faults
    assert "run ttr embed again as before" in faults[0]
    assert faults[1] == "1 of 3 shards missing"


@pytest.mark.parametrize("file", ["plan.json", "manifest.json"])
def test_a_plan_that_was_changed_counts_for_nothing(folder, file):
    said = json.loads((folder / file).read_text())
    said["source"]["images"] = 4
    (folder / file).write_text(json.dumps(said))
    if file == "plan.json":
        with pytest.raises(DataError, match="was changed"):
            ttr.verify_embeddings(folder)
    else:
        assert ttr.verify_embeddings(folder).faults
    for content in ("[]", "{}", "no JSON", "null"):
        (folder / file).write_text(content)
        if file == "plan.json":
            with pytest.raises(DataError, match="cannot be used"):
                ttr.verify_embeddings(folder)
        else:
            assert "cannot be used" in ttr.verify_embeddings(folder).faults[0]


def test_what_is_no_folder_of_shards_is_refused(tmp_path):
    for place, complaint in ((tmp_path, "plan.json cannot be used"), (tmp_path / "x", "is not a folder")):
        with pytest.raises(DataError, match=complaint):
            ttr.verify_embeddings(place)
