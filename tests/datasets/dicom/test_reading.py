"""DICOM pixels against a computation of our own, and that nothing of the patient comes out anywhere."""

from __future__ import annotations

import io
import logging
import struct

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from tests.tools.dicom_files import COLOUR, RAMP, dicom, lookup_table, with_syntax, write
from tests.tools.hostile_files import after_meta
from ttr.datasets.base import Item, make_dataset
from ttr.datasets.dicom.radiograph import Window
from ttr.datasets.dicom.reading import read_dicom
from ttr.datasets.dicom.tags import TAGS
from ttr.datasets.image_folder import CARD
from ttr.datasets.registry import folder_images, list_images, open_dataset, open_image
from ttr.errors import ImageError, ImageWarning


def grey(path):
    pixels = np.asarray(open_image(path))
    assert (pixels[..., 0] == pixels[..., 2]).all()
    return pixels[..., 0].astype(int)


def expected(values, low, high):
    return np.round(255 * ((values.astype(float) - low) / (high - low)).clip(0, 1)).astype(int)


def by_the_standard(values, center, width, curve):
    """Return what PS3.3, C.11.2.1.2 and .3 say in so many words, from 0 to 255."""
    x, c, w = values.astype(float), float(center), float(width)
    if curve == "SIGMOID":
        return 255 / (1 + np.exp(-4 * (x - c) / w))
    least, most = (
        (c - w / 2, c + w / 2) if curve == "LINEAR_EXACT" else (c - 0.5 - (w - 1) / 2, c - 0.5 + (w - 1) / 2)
    )
    return np.where(x <= least, 0, np.where(x > most, 255, (x - least) / (most - least) * 255))


SIGNED = RAMP.astype(np.int16) - 1900
RESCALED = [
    (RAMP, -10, 3000),
    (RAMP, 2, -1024),
    (SIGNED, -0.5, 7),
    ((RAMP // 15).astype(np.uint8), -10, 3000),
]


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("curve", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("stored", range(len(RESCALED)))
def test_slopes_of_either_sign_in_every_window_are_the_standards(stored, curve, kind, tmp_path):
    pixels, slope, intercept = RESCALED[stored]
    values = pixels * float(slope) + intercept
    center, width = round(values.mean()) + 3, round(np.ptp(values) / 3)
    tags = {"RescaleSlope": slope, "RescaleIntercept": intercept, "PhotometricInterpretation": kind}
    own = expected(values, values.min(), values.max())
    window = {"WindowCenter": center, "WindowWidth": width, "VOILUTFunction": curve}
    shown, plain = (
        grey(write(tmp_path / "a.dcm", pixels, **tags, **window)),
        grey(write(tmp_path / "b.dcm", pixels, **tags)),
    )
    wanted = by_the_standard(values, center, width, curve)
    if kind == "MONOCHROME1":
        own, wanted = 255 - own, 255 - wanted
    assert np.abs(plain - own).max() <= 1
    assert np.abs(shown - wanted).max() <= 1
    assert np.ptp(shown) > 200
    typed = read_dicom(tmp_path / "b.dcm").image(Window("typed", center, width))
    if curve == "LINEAR":
        assert np.array_equal(np.asarray(typed)[..., 0], shown)


def test_a_voi_table_is_looked_up(tmp_path):
    table = lookup_table(np.arange(4096)[::-1] * 16)
    shown = grey(write(tmp_path / "a.dcm", VOILUTSequence=[table]))
    assert np.abs(shown - expected(4095 - RAMP.astype(int), 0, 4095)).max() <= 1


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("slope", [1, -1])
def test_tables_of_any_depth_from_any_first_value_are_looked_up(bits, slope, tmp_path):
    """The first value of negative ones is written as the unsigned number of the same bits by many."""
    values = SIGNED.astype(int) * slope
    entries = np.linspace(0, 2**bits - 1, 2000).round()
    rescale = {"RescaleSlope": slope, "RescaleIntercept": -1900 * slope}
    wanted = entries[(values + 1000).clip(0, 1999)] / (2**bits - 1) * 255
    for first in (-1000, 64536):
        table = lookup_table(entries, first, bits)
        assert (
            np.abs(grey(write(tmp_path / "a.dcm", VOILUTSequence=[table, table], **rescale)) - wanted).max()
            <= 1
        )
        shown = grey(
            write(
                tmp_path / "b.dcm",
                SIGNED,
                ModalityLUTSequence=[table],
                RescaleSlope="",
                BitsStored=16,
                HighBit=15,
            )
        )
        places = entries[(SIGNED.astype(int) + 1000).clip(0, 1999)]
        assert np.abs(shown - expected(places, places.min(), places.max())).max() <= 1


#: Tags that are empty, zero or words: what is shown, as (low, high) of the stored values, and what is said.
ODD = {
    "empty rescale": ({"RescaleSlope": "", "RescaleIntercept": ""}, None, ""),
    "empty window": ({"WindowCenter": "", "WindowWidth": ""}, None, ""),
    "no width": ({"WindowCenter": 400}, None, ""),
    "width 0": (
        {"WindowCenter": 0, "WindowWidth": 0},
        None,
        "centre 0 and width 0; its own range is shown instead",
    ),
    "second": (
        {"WindowCenter": [0, 2000], "WindowWidth": [0, 1001]},
        (1499.5, 2499.5),
        "centre 0 and width 0; 2000 / 1001 is shown first",
    ),
    "more centres": ({"WindowCenter": [2000, 5, 6], "WindowWidth": [1001, 7]}, (1499.5, 2499.5), ""),
    "words": ({"WindowCenter": ("LO", "WIDE"), "WindowWidth": 400}, None, "window is no pair of numbers"),
    "nan": ({"WindowCenter": ("LO", "nan"), "WindowWidth": 400}, None, "window is no pair of numbers"),
    "huge": ({"WindowCenter": "1e300", "WindowWidth": "400"}, None, "centre 1e+300 and width 400"),
    "slope 0": (
        {"RescaleSlope": 0, "RescaleIntercept": -7, "WindowCenter": 40, "WindowWidth": 80},
        None,
        "rescale slope of 0 makes all of its values equal; they are shown as stored",
    ),
    "aside": (
        {"WindowCenter": -9000, "WindowWidth": 80},
        None,
        "window -9000 / 80 shows all of its values (0 to 3780)",
    ),
    "flat table": (
        {"VOILUTSequence": [lookup_table(np.full(4096, 9), bits=8)]},
        None,
        "VOI table shows all of its",
    ),
    "flat meaning": (
        {"ModalityLUTSequence": [lookup_table(np.full(4096, 9))]},
        None,
        "modality table makes all",
    ),
    "all padding": (
        {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095},
        None,
        "calls all of its pixels padding",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_cannot_be_followed_is_left_out_and_said(name, tmp_path):
    tags, ends, says = ODD[name]
    path = write(tmp_path / "a.dcm", **tags)
    assert np.abs(grey(path) - expected(RAMP, *(ends or (0, RAMP.max())))).max() <= 1
    notes = open_image(path).info.get("notes", ())
    assert len(notes) == bool(says)
    assert says in " ".join(notes)


def test_a_constant_image_is_no_fault_of_its_window(tmp_path):
    path = write(tmp_path / "a.dcm", np.full((8, 8), 7, np.uint16), WindowCenter=400, WindowWidth=80)
    assert not open_image(path).info
    path = write(tmp_path / "b.dcm", np.zeros((8, 8), np.uint16), PixelPaddingValue=0)
    assert not open_image(path).info


def test_what_is_said_is_said_under_the_images_name(tmp_path):
    write(tmp_path / "Muster" / "Erika.dcm", WindowCenter=-9000, WindowWidth=80)
    for anonymous, name in ((False, "Muster/Erika.dcm"), (True, "image 1")):
        with pytest.warns(ImageWarning) as said:
            list(folder_images(tmp_path, anonymous=anonymous))
        (message,) = {str(each.message) for each in said}
        assert message.startswith(f"{name}: The file's window -9000 / 80 shows all of its values (0 to 3780)")
    item = Item("Muster/Erika.dcm", "a", "train", tmp_path / "Muster" / "Erika.dcm")
    with pytest.warns(ImageWarning, match=r"^Muster/Erika.dcm: The file's window"):
        make_dataset("set", [item], CARD).open(item)


@pytest.mark.parametrize(
    "keyword", ["RescaleSlope", "RescaleIntercept", "Rows", "BitsStored", "PixelRepresentation"]
)
def test_words_in_place_of_a_number_that_decides_are_refused_by_the_tags_name(keyword, tmp_path):
    path = write(tmp_path / "a.dcm", **{keyword: ("LO", "Muster^Erika")})
    with pytest.raises(
        ImageError, match=rf"a.dcm has no single number as its {keyword}; needed one: correct it"
    ) as said:
        open_image(path)
    assert "Muster" not in str(said.value)


def test_padding_of_either_sign_and_in_a_range_counts_for_nothing(tmp_path):
    pixels = SIGNED.copy()
    pixels[0], pixels[1] = -2000, -1990
    inside = expected(pixels[2:], pixels[2:].min(), pixels[2:].max())
    for value in (-2000, 63536):
        content = dicom(pixels, BitsStored=16, HighBit=15, PixelPaddingValue=1, PixelPaddingRangeLimit=2)
        for number, tag in ((value, 0x120), (-1990, 0x121)):
            place = content.index(struct.pack("<HH", 0x28, tag)) + 8
            content = content[:place] + struct.pack("<H", number % 65536) + content[place + 2 :]
        (tmp_path / "a.dcm").write_bytes(content)
        shown = grey(tmp_path / "a.dcm")
        assert (shown[:2] == 0).all()
        assert np.array_equal(shown[2:], inside)
    unsigned = RAMP.copy()
    unsigned[0] = 65535
    path = write(tmp_path / "b.dcm", unsigned, BitsStored=16, HighBit=15, PixelPaddingValue=65535)
    assert np.array_equal(grey(path)[1:], expected(RAMP[1:], RAMP[1:].min(), RAMP.max()))


def test_padding_that_the_stored_bits_cannot_hold_blackens_no_valid_pixel(tmp_path):
    """63536 of 12 bits would be 2096, and 65535 the brightest pixel."""
    pixels = RAMP.copy()
    pixels[0] = 2096
    pixels[7] = 4095
    plain = grey(write(tmp_path / "a.dcm", pixels))
    for value in (63536, 65535):
        assert np.array_equal(grey(write(tmp_path / "b.dcm", pixels, PixelPaddingValue=value)), plain)


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
@pytest.mark.parametrize("highest", [12, 15])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_pixels_that_are_not_aligned_right_are_shifted(kind, highest, syntax, tmp_path):
    """What lies in the bits beside them (overlays of old devices) is no part of them."""
    values = (RAMP // 2).astype(kind) - (900 if kind is np.int16 else 0)
    wanted = grey(write(tmp_path / "a.dcm", values))
    field = (values.view(np.uint16) & 0xFFF) << (highest - 11)
    noise = np.uint16(0xFFFF ^ (0xFFF << (highest - 11)))
    field = np.where(np.arange(64).reshape(8, 8) % 3, field | noise, field).astype(np.uint16).view(kind)
    tags = {"BitsStored": 12, "HighBit": highest}
    found = read_dicom(write(tmp_path / "b.dcm", field, syntax=syntax, **tags))
    assert np.array_equal(found.values, values)
    assert np.array_equal(grey(tmp_path / "b.dcm"), wanted)
    padded = read_dicom(write(tmp_path / "c.dcm", field, PixelPaddingValue=int(values[0, 5]), **tags))
    assert padded.padding.sum() == 1


@pytest.mark.parametrize("highest", [10, 16, -1])
def test_a_highest_bit_that_no_pixel_can_have_is_refused(highest, tmp_path):
    content = dicom(RAMP)
    place = content.index(struct.pack("<HH", 0x28, 0x102)) + 8
    content = content[:place] + struct.pack("<H", highest % 65536) + content[place + 2 :]
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(ImageError, match="needed a HighBit from 11 to 15"):
        open_image(tmp_path / "a.dcm")


def test_padding_does_not_set_the_range_and_is_black(tmp_path):
    pixels = RAMP.copy()
    pixels[0] = 4095
    path = write(tmp_path / "a.dcm", pixels, PixelPaddingValue=4095, PhotometricInterpretation="MONOCHROME1")
    shown = grey(path)
    assert (shown[0] == 0).all()
    assert np.array_equal(shown[1:], 255 - expected(RAMP[1:], RAMP[1:].min(), RAMP.max()))


def test_colour_stays_colour(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 4, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(open_image(write(tmp_path / "a.dcm", pixels, **COLOUR))), pixels)


def test_several_frames_reports_and_nonsense_are_refused_by_name(tmp_path):
    frames = write(tmp_path / "many.dcm", np.stack([RAMP, RAMP]))
    with pytest.raises(ImageError, match=r"many.dcm holds 2 frames; needed a single image"):
        open_image(frames)
    (tmp_path / "text.dcm").write_text("hello")
    with pytest.raises(ImageError, match=r"text.dcm is no DICOM file"):
        open_image(tmp_path / "text.dcm")
    cut = write(tmp_path / "cut.dcm")
    cut.write_bytes(cut.read_bytes()[:-40])
    with pytest.raises(ImageError, match=r"cut.dcm cannot be decoded"):
        open_image(cut)
    report = write(tmp_path / "report.dcm", PixelData=None)
    with pytest.raises(ImageError, match=r"report.dcm holds no pixels"):
        open_image(report)
    write(report, PixelData=None, FloatPixelData=RAMP.astype(np.float32).tobytes())
    with pytest.raises(
        ImageError, match=r"report.dcm holds pixels that are no whole numbers; export it in 8"
    ):
        open_image(report)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("name", ["IM0001", "a.dcm"])
def test_files_without_preamble_or_without_meta_header_are_read(name, syntax, tmp_path):
    whole, plain = dicom(syntax=syntax), grey(write(tmp_path / "plain.dcm"))
    without_meta = whole[after_meta(whole) :]
    for content in (without_meta, whole[132:], with_syntax(whole, ""), whole[:132] + without_meta):
        path = tmp_path / "b" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        assert list_images(tmp_path / "b") == [path]
        assert np.array_equal(grey(path), plain)


def test_nothing_of_the_patient_is_held_shown_or_logged(tmp_path, capfd, monkeypatch, recwarn):
    held = []
    original = pydicom.dcmread

    def watch(*args, **kwargs):
        held.append(original(*args, **kwargs))
        return held[-1]

    monkeypatch.setattr(pydicom, "dcmread", watch)
    path = write(tmp_path / "a.dcm", PatientBirthDate="no date of Erika", PatientID="x" * 80)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(path.read_bytes()[:-40])
    logged = io.StringIO()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(logged)])
    root.setLevel(logging.DEBUG)
    recwarn.clear()
    try:
        image = open_image(path)
        with pytest.raises(ImageError) as refusal:
            open_image(cut)
        root.debug("heard")
    finally:
        root.setLevel(logging.WARNING)
    assert "heard" in logged.getvalue()
    out, err = capfd.readouterr()
    said = " ".join([logged.getvalue(), out, err, str(refusal.value), *(str(w.message) for w in recwarn)])
    assert "Muster" not in said
    assert "Erika" not in said
    assert not image.info
    assert len(held) == 1, "what is cut short is refused before a parser sees it"
    assert {element.keyword for element in held[0]} <= set(TAGS)


def test_folders_of_dicom_files_are_sets_too(tmp_path):
    for label in ("a", "b"):
        for number in range(10):
            write(tmp_path / label / f"IM{number:04d}")
    Image.new("L", (4, 4)).save(tmp_path / "a" / "also.png")
    (tmp_path / "a" / "notes").write_text("no image")
    assert len(list_images(tmp_path)) == 21
    dataset = open_dataset("folder", tmp_path)
    assert dataset.open(dataset.items[0]).size == (8, 8)
