"""The audit of sets that the test writes, each with one thing wrong, and the pair search against a loop."""

from __future__ import annotations

import dataclasses
import itertools
import json

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from ttr.datasets import likeness
from ttr.datasets.audit import KINDS, audit
from ttr.datasets.base import make_dataset
from ttr.datasets.likeness import near_pairs, perceptual_hash, thumbnail
from ttr.datasets.phantom_set import phantom_set
from ttr.datasets.registry import open_dataset, open_image, sample_paths


def picture(seed, size=96):
    """Return an image with detail of its own, unlike that of any other seed."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(size, size, 3)), (2, 2, 0))
    return Image.fromarray((128 + 60 * noise / noise.std()).clip(0, 255).astype(np.uint8))


class Table:
    """A CSV set that grows a row at a time."""

    def __init__(self, folder):
        self.folder, self.rows, self.drawn = folder, ["path,label,patient,split,mask"], 0

    def add(self, name, label, split, patient="", mask="", image=None):
        self.drawn += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        (image or picture(self.drawn)).save(self.folder / name)
        self.rows.append(f"{name},{label},{patient},{split},{mask}")
        return self.folder / name

    def write(self):
        path = self.folder / "set.csv"
        path.write_text("\n".join(self.rows))
        return path

    def audit(self, **options):
        return audit(open_dataset("csv", self.write()), **options)


@pytest.fixture
def table(tmp_path):
    """A set with nothing wrong: 2 images a class in each split, each of another patient."""
    table = Table(tmp_path / "set")
    for split, label, number in itertools.product(("train", "val", "test"), "ab", "12"):
        name = f"{split}-{label}{number}.png"
        table.add(name, label, split, f"patient of {name}")
    return table


def names(entry):
    return [item.name for item in entry.items]


def test_a_set_with_nothing_wrong(table):
    found = table.audit()
    assert found.findings == {}
    assert found.causes == ()
    assert found.counts == {split: {"a": 2, "b": 2} for split in ("train", "val", "test")}
    assert found.imbalance == 1
    assert not found.to_json()["misleads"]


def test_missing_and_damaged_images_are_all_named(table):
    cut = table.folder / "train-a1.png"
    cut.write_bytes(cut.read_bytes()[:3000])
    (table.folder / "test-b2.png").unlink()
    found = table.audit()
    assert found.causes == ("unreadable",)
    said = {names(entry)[0]: entry.detail for entry in found.findings["unreadable"]}
    assert said.keys() == {"train-a1.png", "test-b2.png"}
    assert "damaged or truncated" in said["train-a1.png"]
    assert "cannot be read (No such file" in said["test-b2.png"]


@pytest.mark.parametrize(
    ("of", "split", "label", "kinds"),
    [
        ("train-a1", "test", "a", {"test-duplicate"}),
        ("val-a1", "test", "a", {"test-duplicate"}),
        ("train-a1", "test", "b", {"test-duplicate", "conflicting-labels"}),
        ("train-a1", "train", "b", {"conflicting-labels"}),
        ("train-a1", "train", "a", {"duplicate"}),
        ("train-a1", "val", "a", {"duplicate"}),
        ("test-a1", "test", "a", {"duplicate"}),
    ],
)
@pytest.mark.parametrize("saved_anew", [False, True])
def test_duplicates_are_judged_by_their_splits_and_labels(table, of, split, label, kinds, saved_anew):
    original = table.folder / f"{of}.png"
    if saved_anew:
        image = open_image(original)
        table.add("copy.jpg", label, split, image=image.resize((144, 144)))
        kinds = {kind.replace("duplicate", "near-duplicate") for kind in kinds}
    else:
        table.add("copy.jpg", label, split)
        (table.folder / "copy.jpg").write_bytes(original.read_bytes())
    found = table.audit()
    assert found.findings.keys() == kinds
    assert set(found.causes) == {kind for kind in kinds if kind not in {"duplicate", "near-duplicate"}}
    for entries in found.findings.values():
        assert [set(names(entry)) for entry in entries] == [{f"{of}.png", "copy.jpg"}]
        assert (entries[0].correlation is not None) == saved_anew
        assert not saved_anew or (entries[0].correlation > 0.95 and entries[0].distance <= 40)


def test_a_patient_in_two_splits(table):
    table.add("more-1.png", "a", "train", "P7")
    table.add("more-2.png", "a", "test", "P7")
    table.add("more-3.png", "a", "train", "P8")
    table.add("more-4.png", "b", "train", "P8")
    found = table.audit()
    assert found.causes == tuple(found.findings) == ("shared-group",)
    (entry,) = found.findings["shared-group"]
    assert entry.detail == "P7 in train, test"
    assert names(entry) == ["more-1.png", "more-2.png"]


def test_small_classes_missing_splits_and_masks_are_warnings(tmp_path):
    table = Table(tmp_path)
    for number, split in enumerate(["train"] * 3 + ["test"] * 2 + ["val"]):
        table.add(f"{number}.png", "a", split, mask=f"mask{number}.png")
        Image.new("L", (96, 96 - (number == 2))).save(tmp_path / f"mask{number}.png")
    (tmp_path / "mask1.png").unlink()
    (tmp_path / "mask3.png").write_text("no image")
    table.add("b.png", "b", "train")
    dataset = open_dataset("csv", table.write())
    left = [item for item in dataset.items if item.split != "val"]
    found = audit(make_dataset("csv", left, dataset.card, masks=dataset.masks))
    assert found.causes == ()
    details = {kind: [entry.detail for entry in entries] for kind, entries in found.findings.items()}
    assert details.keys() == {"missing-split", "rare-class", "mask"}
    assert details["missing-split"] == ["val"]
    assert details["rare-class"] == ["b: 1 in train", "b: 0 in test"]
    assert found.imbalance == 3
    said = {names(entry)[0]: entry.detail for entry in found.findings["mask"]}
    assert said.keys() == {"1.png", "2.png", "3.png"}
    assert "the mask of 1.png does not exist" in said["1.png"]
    assert said["2.png"] == "the mask of 2.png is 96x95 px, the image 96x96"
    assert "the mask of 3.png is not an image" in said["3.png"]


def test_the_phantom_set_raises_no_alarm_and_processes_find_the_same():
    dataset = phantom_set(counts={"train": 60, "val": 12, "test": 60})
    found = audit(dataset)
    assert found.causes == ()
    assert found.findings.keys() <= {"look-alike"}
    assert audit(dataset, workers=2) == found


def test_everything_is_json_and_every_kind_is_explained(table):
    table.add("copy.png", "b", "test", image=open_image(table.folder / "train-a1.png"))
    values = json.loads(json.dumps(table.audit().to_json()))
    assert values["schema"] == "ttr.audit/1"
    assert values["misleads"]
    assert values["images"] == 13
    assert values["causes"] == ["test-duplicate", "conflicting-labels"]
    case = values["findings"]["test-duplicate"]["cases"][0]
    group = "patient of train-a1.png"
    assert case["images"] == [
        {"name": "train-a1.png", "split": "train", "label": "a", "group": group},
        {"name": "copy.png", "split": "test", "label": "b", "group": None},
    ]
    assert list(KINDS) == sorted(KINDS, key=lambda kind: not KINDS[kind][0]), "causes come first"


def edits(image):
    yield image.resize([side // 2 for side in image.size])
    yield Image.fromarray((np.asarray(image) * 0.8).astype(np.uint8))
    yield image.rotate(1, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("name", sample_paths())
def test_edited_medical_images_are_recognised_and_mirrored_ones_are_not(name):
    image = open_image(sample_paths()[name])
    found = [next(near_pairs([thumbnail(image), thumbnail(copy)])) for copy in edits(image)]
    assert min(pair.correlation for pair in found[:2]) >= likeness.SAME
    assert found[2].correlation > 0.85
    assert list(near_pairs([thumbnail(image), thumbnail(ImageOps.mirror(image))])) == []
    width, height = image.size
    cropped = image.crop((width // 100, height // 100, width - width // 100, height - height // 100))
    (pair,) = near_pairs([thumbnail(image), thumbnail(cropped)])
    assert likeness.ALIKE <= pair.correlation < likeness.SAME, "a known blind spot: a warning, not a finding"


def test_two_samples_and_images_without_detail_are_no_pairs():
    thumbs = [thumbnail(open_image(path)) for path in sample_paths().values()]
    flat = [np.full((64, 64), shade, dtype=np.uint8) for shade in (0, 0, 90)]
    assert list(near_pairs([*thumbs, *flat])) == []
    assert list(near_pairs([])) == list(near_pairs(flat[:1])) == []


@settings(max_examples=20, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 3), min_size=2, max_size=9),
    distance=st.integers(0, 140),
    correlation=st.floats(-1, 0.99),
    block=st.integers(1, 4),
)
def test_the_search_finds_what_a_loop_over_all_pairs_finds(seeds, distance, correlation, block):
    noise = np.random.default_rng(9)
    thumbs = [
        (np.asarray(picture(seed, 64).convert("L")) + noise.integers(0, 20, (64, 64))).clip(0, 255)
        for seed in seeds
    ]
    thumbs = [thumb.astype(np.uint8) for thumb in thumbs]
    expected = {}
    for i, j in itertools.combinations(range(len(thumbs)), 2):
        one, two = (thumbs[place].astype(float) for place in (i, j))
        bits = imagehash.phash(Image.fromarray(thumbs[i]), 16) - imagehash.phash(
            Image.fromarray(thumbs[j]), 16
        )
        fine = [(pixels - gaussian_filter(pixels, likeness.BLUR)).ravel() for pixels in (one, two)]
        agreement = np.corrcoef(*fine)[0, 1]
        if bits <= distance and agreement >= correlation:
            expected[i, j] = (int(bits), pytest.approx(agreement, abs=1e-9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likeness, "BLOCK", block)
        found = list(near_pairs(thumbs, distance=distance, correlation=correlation))
    assert {(p.first, p.second): (p.distance, p.correlation) for p in found} == expected
    assert len(found) == len(expected)


def test_a_hash_has_256_bits_and_a_thumbnail_64_pixels_a_side():
    thumb = thumbnail(picture(0, 200))
    assert (thumb.shape, thumb.dtype) == ((64, 64), np.uint8)
    assert perceptual_hash(thumb).shape == (256,)


def test_groups_that_are_no_patients_leave_leakage_between_them_unchecked(table):
    labelled = open_dataset("csv", table.write())
    assert audit(labelled).unchecked == ""
    found = audit(dataclasses.replace(labelled, groups="lesions"))
    assert "between patients was not checked (the set names none, its groups are lesions)" in found.unchecked
    assert found.to_json()["without_group"] == len(labelled.items)
