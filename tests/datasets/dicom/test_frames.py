"""Files of several frames are their frames, in order, each read alone."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from tests.datasets.dicom.test_reading import expected, grey
from tests.tools.dicom_files import BYTE, COLOUR, RAMP, dicom, said_of_frames, write
from tests.tools.hostile_files import saved
from ttr.datasets.audit import audit
from ttr.datasets.dicom import elements, files
from ttr.datasets.dicom.frames import single_frame
from ttr.datasets.limits import image_file
from ttr.datasets.registry import folder_images, given_images, list_images, open_dataset, open_image
from ttr.errors import ImageError

FRAMES = np.stack([RAMP, RAMP[::-1], RAMP.T, 3780 - RAMP])
SMALL = np.random.default_rng(0).integers(0, 255, (5, 7, 9), dtype=np.uint8)


def frames_of(path, count):
    return [np.asarray(open_image(f"{path}#{number}")) for number in range(1, count + 1)]


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless],
)
def test_each_frame_is_the_file_of_that_frame_alone(syntax, tmp_path):
    window = {"WindowCenter": 2000, "WindowWidth": 1001, "PixelPaddingValue": 60}
    path = write(tmp_path / "a.dcm", FRAMES, syntax=syntax, **window)
    for number, pixels in enumerate(FRAMES, start=1):
        alone = write(tmp_path / f"{number}.dcm", pixels, **window)
        assert np.array_equal(grey(f"{path}#{number}"), grey(alone))


@pytest.mark.parametrize(("frames", "tags"), [(SMALL, BYTE), (np.stack([SMALL] * 3, axis=-1), COLOUR)])
def test_frames_of_an_odd_number_of_bytes_are_told_apart(frames, tags, tmp_path):
    path = write(tmp_path / "a.dcm", frames, **tags)
    for shown, pixels in zip(frames_of(path, 5), frames, strict=True):
        grey_of_it = pixels if pixels.ndim == 2 else pixels[..., 0]
        low, high = (0, 255) if pixels.ndim == 3 else (grey_of_it.min(), grey_of_it.max())
        assert np.array_equal(shown[..., 0], expected(grey_of_it, low, high))


def packed(kind, split=0):
    """Return smooth frames, and each as a compressed picture in one fragment or more."""
    rows = np.add.outer(np.arange(16), np.arange(20))
    frames = np.stack([rows + 30 * number for number in range(4)]).astype(np.uint8)
    options = {"no_jp2": True} if kind == "JPEG2000" else {"quality": 95}
    pictures = [saved(Image.fromarray(frame), kind, **options) for frame in frames]
    return frames, [part for each in pictures for part in ([each[:90], each[90:]] if split else [each])]


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize("split", [0, 1])
@pytest.mark.parametrize("offsets", ["table", "no table", "extended"])
def test_compressed_frames_are_found_by_table_by_number_and_by_their_ends(offsets, split, kind, tmp_path):
    frames, parts = packed(kind, split)
    syntax = JPEGBaseline8Bit if kind == "JPEG" else JPEG2000Lossless
    tags = {**BYTE, "WindowCenter": 128, "WindowWidth": 256}
    content = dicom(frames, syntax, parts, **tags)
    content = told(content, parts, split, offsets)
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    for shown, pixels in zip(frames_of(path, 4), frames, strict=True):
        assert np.abs(shown[..., 0].astype(int) - pixels).max() <= 4


def told(content, parts, split, offsets):
    """Return a file whose table of places is right, empty, or one of eight bytes each before the pixels."""
    step = 2 if split else 1
    places = np.cumsum([0, *(8 + len(part) + len(part) % 2 for part in parts)])[:-1:step]
    start = content.index(b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff")
    (length,) = struct.unpack_from("<L", content, start + 16)
    rest = content[start + 20 + length :]
    table = struct.pack(f"<{len(places)}L", *places) if offsets == "table" else b""
    extended = struct.pack(f"<{len(places)}Q", *places)
    extended = b"\xe0\x7f\x01\0OV\0\0" + struct.pack("<L", len(extended)) + extended
    before = content[:start] + (extended if offsets == "extended" else b"")
    return before + content[start : start + 16] + struct.pack("<L", len(table)) + table + rest


def test_frames_that_cannot_be_told_apart_are_refused(tmp_path):
    frames, parts = packed("JPEG")
    for given, said in ((parts[:3], 4), (parts, 3), (parts[:2], 1), ([*parts, parts[0][:50]], 4)):
        content = dicom(frames, JPEGBaseline8Bit, given, **BYTE, NumberOfFrames=said)
        content = told(content, given, 0, "no table")
        says = rf"a.dcm(#2)? holds {len(given)} compressed parts and says that it has {said} frames?"
        path = tmp_path / "a.dcm"
        path.write_bytes(content)
        with pytest.raises(ImageError, match=says):
            open_image(f"{path}#2" if said > 1 else path)
    for count, said in ((3, 4), (4, 3), (3, 1)):
        path = write(tmp_path / "b.dcm", FRAMES[:count], NumberOfFrames=said)
        with pytest.raises(
            ImageError, match="of the 128 bytes of its pixels|says that it has . frames? of 128"
        ):
            open_image(f"{path}#2" if said > 1 else path)
    path = write(tmp_path / "c.dcm", FRAMES)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ImageError, match="the file ends within its pixels or tags; get it again"):
        open_image(f"{path}#1")


def test_a_file_of_several_frames_is_refused_with_what_to_name(tmp_path):
    path = write(tmp_path / "a.dcm", FRAMES)
    says = (
        "a.dcm holds 4 frames; needed a single image: add #1 to #4 to its name, or export the frame you mean"
    )
    with pytest.raises(ImageError, match=says):
        open_image(path)
    for frame in (5, 10_000):
        with pytest.raises(
            ImageError, match=rf"a.dcm#{frame} is no frame of its file, which holds 4; needed 1 to 4"
        ):
            open_image(f"{path}#{frame}")
    for name in ("a.dcm#0", "a.dcm#x", "a.dcm#", "b.dcm#1"):
        with pytest.raises(ImageError, match=f"image .*{name} does not exist; check the path"):
            open_image(tmp_path / name)
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a.png#1 names a frame, which only a DICOM file has; leave #1 out"):
        open_image(tmp_path / "a.png#1")
    write(tmp_path / "one.dcm")
    assert np.array_equal(grey(tmp_path / "one.dcm#1"), grey(tmp_path / "one.dcm"))
    write(tmp_path / "IM#2")  # a file that is called so is that file
    assert np.array_equal(grey(tmp_path / "IM#2"), grey(tmp_path / "one.dcm"))


def test_folders_list_frames_in_order_and_name_them(tmp_path):
    write(tmp_path / "b.dcm", np.concatenate([FRAMES] * 3))
    write(tmp_path / "a.dcm")
    Image.new("L", (9, 9)).save(tmp_path / "c.png")
    names = ["a.dcm", *(f"b.dcm#{number}" for number in range(1, 13)), "c.png"]
    assert [path.name for path in list_images(tmp_path)] == names
    found = folder_images(tmp_path)
    assert (found.names, len(found)) == (names, 14)
    hashes = found.hashes()
    assert (len(set(hashes)), hashes[1], hashes[2]) == (6, hashes[5], hashes[6])
    assert len(folder_images(tmp_path, limit=5)) == 5
    assert folder_images(tmp_path, anonymous=True).names[12:] == ["image 13", "image 14"]
    assert [np.asarray(image).shape for image in found][12] == (8, 8, 3)


def test_named_files_give_all_frames_one_of_each_or_the_one_that_is_named(tmp_path):
    path, single = write(tmp_path / "b.dcm", FRAMES), write(tmp_path / "a.dcm")
    every = ["b.dcm#1", "b.dcm#2", "b.dcm#3", "b.dcm#4"]
    assert given_images([path, single]).names == [*every, "a.dcm"]
    assert given_images([tmp_path]).names == ["a.dcm", *every]
    assert given_images([tmp_path / "b.dcm#3", path], frame=None).names == [
        "b.dcm#3",
        "b.dcm#1",
        "b.dcm#2",
        "b.dcm#3 (2)",
        "b.dcm#4",
    ]
    assert given_images([tmp_path], frame=2).names == ["a.dcm#2", "b.dcm#2"]
    with pytest.raises(ImageError, match=r"a.dcm#2 is no frame of its file, which holds 1"):
        list(given_images([single], frame=2))
    with pytest.raises(ImageError, match=r"image .*none.dcm#1 does not exist"):
        given_images([tmp_path / "none.dcm#1"])


def test_frames_of_a_file_stay_on_one_side_of_a_split(tmp_path):
    draw = np.random.default_rng(0)
    for label in "ab":
        for number in range(8):
            write(tmp_path / label / f"{number}.dcm", draw.integers(0, 4095, (3, 24, 24)).astype(np.uint16))
    found = open_dataset("folder", tmp_path)
    assert len(found.items) == 48
    splits = {}
    for item in found.items:
        splits.setdefault(item.group, set()).add(item.split)
    assert {len(each) for each in splits.values()} == {1}
    assert audit(found).causes == ()
    assert found.open(found.items[0]).size == (24, 24)


def test_a_table_names_frames(tmp_path):
    write(tmp_path / "a.dcm", np.concatenate([FRAMES] * 5))
    rows = [
        f"a.dcm#{number},{'ab'[number % 2]},{split}"
        for number, split in enumerate(["train"] * 10 + ["val", "test"] * 4, 1)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split", *rows]))
    found = open_dataset("csv", tmp_path / "t.csv")
    assert np.array_equal(
        np.asarray(found.open(found.select("train")[0])), np.asarray(open_image(tmp_path / "a.dcm#1"))
    )


def test_a_frame_is_read_without_the_others(tmp_path, monkeypatch):
    path = write(tmp_path / "a.dcm", np.zeros((300, 64, 64), np.uint16), PatientComments="x" * 3000)
    read = []
    original = elements.FileView.__getitem__

    def watch(self, part):
        read.append(len(found := original(self, part)))
        return found

    monkeypatch.setattr(elements.FileView, "__getitem__", watch)
    assert len(files.frame_paths(path)) == 300
    assert sum(read) < 3000
    read.clear()
    with image_file(path) as stream:
        content = single_frame("a", elements.FileView(stream), 299)
    assert sum(read) < 2 * 64 * 64 + 4000
    assert 2 * 64 * 64 < len(content) < 2 * 64 * 64 + 1000
    assert b"Muster" not in content


def test_the_count_of_frames_is_bounded_and_never_believed(tmp_path):
    path = write(tmp_path / "a.dcm", NumberOfFrames=2_000_000_000)
    assert list_images(tmp_path) == [path]
    with pytest.raises(ImageError, match="holds 2,000,000,000 frames; needed 10,000 at most: export fewer"):
        open_image(f"{path}#7")
    path.write_bytes(path.read_bytes()[:300])
    assert list_images(tmp_path) == [path]
    write(path, NumberOfFrames=("LO", "many"))
    assert list_images(tmp_path) == [path]
    write(path, NumberOfFrames="")
    assert np.array_equal(grey(path), expected(RAMP, 0, 3780))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [False, True])
def test_what_an_enhanced_file_says_of_a_frame_holds_for_it(undefined, syntax, tmp_path):
    shared = {"PixelSpacing": [2, 1], "RescaleSlope": 1, "RescaleIntercept": 0}
    each = [
        {
            "WindowCenter": 1000 * number,
            "WindowWidth": 900,
            "RescaleSlope": 1 - number,
            "RescaleIntercept": 99,
        }
        for number in range(2, 5)
    ]
    sequences = said_of_frames(each, shared)
    for item in itertools.chain(*sequences.values()) if undefined else ():
        item.is_undefined_length_sequence_item = True
    path = write(tmp_path / "a.dcm", FRAMES[:3], syntax=syntax, **sequences)
    for number, (pixels, tags) in enumerate(zip(FRAMES, each, strict=False), start=1):
        alone = write(tmp_path / f"{number}.dcm", pixels, **shared | tags)
        assert np.array_equal(np.asarray(open_image(f"{path}#{number}")), np.asarray(open_image(alone)))
    assert open_image(f"{path}#1").size == (8, 16)
    assert b"Muster" not in files.image_bytes(tmp_path / "a.dcm#2")
    single = write(tmp_path / "s.dcm", FRAMES[0], syntax=syntax, **said_of_frames(each[:1], shared))
    assert np.array_equal(grey(single), grey(f"{path}#1"))
