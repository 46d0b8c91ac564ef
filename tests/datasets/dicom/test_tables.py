"""Colours of every kind are right, against the parser's own and by hand, or refused by name."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_color_lut
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from tests.tools.dicom_files import COLOUR, RAMP, dicom, lookup_table, palette
from ttr.datasets.registry import open_image
from ttr.errors import ImageError

DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 255, (6, 4, 3), dtype=np.uint8)
PLACES = DRAW.integers(0, 250, (6, 4), dtype=np.uint8)
CURVES = [DRAW.integers(0, 2**16, 200), DRAW.integers(0, 2**16, 200), np.arange(200) * 300]


def opened(**options):
    return np.asarray(open_image("a.dcm", dicom(**options))).astype(int)


@pytest.mark.parametrize("first", [0, 30])
@pytest.mark.parametrize(("bits", "kind"), [(16, "<u2"), (8, "<u2"), (8, "u1")])
def test_palettes_are_looked_up(first, bits, kind):
    entries = [curve if bits == 16 else curve // 256 for curve in CURVES]
    options = {"pixels": PLACES, **palette(entries, first, bits, kind)}
    whole = 65535 if bits == 16 else 255
    by_hand = np.stack([curve[(PLACES.astype(int) - first).clip(0, 199)] for curve in entries], axis=-1)
    assert np.abs(opened(**options) - by_hand * (255 / whole)).max() <= 1
    parsers = apply_color_lut(PLACES, pydicom.dcmread(io.BytesIO(dicom(**options))))
    assert np.abs(opened(**options) - parsers.astype(float) * (255 / whole)).max() <= 1


def test_palettes_that_say_16_bits_of_8_are_not_black():
    assert np.ptp(opened(pixels=PLACES, **palette([curve // 256 for curve in CURVES]))) > 200


def test_palettes_of_12_bits_are_as_bright_as_others():
    entries = [curve // 16 for curve in CURVES]
    by_hand = np.stack([curve[PLACES.astype(int).clip(0, 199)] for curve in entries], axis=-1)
    shown = opened(pixels=PLACES, **palette(entries, bits=12))
    assert np.abs(shown - by_hand * (255 / 4095)).max() <= 1


def test_palettes_in_segments_are_drawn_out():
    segments = [
        [0, 3, 100, 50, 7000, 1, 150, 60_000, 0, 1, 9, 1, 46, 9],
        [0, 2, 5, 6, 1, 198, 65535],
        [0, 1, 0, 1, 199, 1000],
    ]
    options = {"pixels": PLACES, **palette(segments, segmented=True)}
    parsers = apply_color_lut(PLACES, pydicom.dcmread(io.BytesIO(dicom(**options))))
    assert np.abs(opened(**options) - parsers.astype(float) * (255 / 65535)).max() <= 1


BAD = {
    "refers": ([[0, 1, 7, 2, 9, 0, 0, 0]] * 3, "has a palette whose segments refer to others"),
    "line first": ([[1, 200, 7]] * 3, "has a palette whose segments refer to others"),
    "short": ([[0, 1, 7, 1, 50, 9]] * 3, "has a lookup table of 200 entries that ends early"),
    "empty": ([[]] * 3, "has a lookup table of 200 entries that ends early"),
}


@pytest.mark.parametrize("name", BAD)
def test_palettes_that_lead_nowhere_are_refused(name):
    segments, says = BAD[name]
    with pytest.raises(ImageError, match=f"a.dcm {says}"):
        opened(pixels=PLACES, **palette(segments, segmented=True))


def test_a_palette_of_endless_segments_is_drawn_out_no_further_than_its_length():
    """Each of a million lines may be 65,535 entries long."""
    segments = np.tile([1, 65535, 0], 600_000)
    segments[:3] = 0, 1, 5
    assert opened(pixels=PLACES, **palette([segments] * 3, segmented=True)).shape == (6, 4, 3)


@pytest.mark.parametrize("syntax", [pydicom.uid.ExplicitVRLittleEndian, RLELossless])
def test_colours_by_pixel_and_by_plane_are_the_same(syntax):
    planes = np.moveaxis(PIXELS, -1, 0).copy()
    assert np.array_equal(opened(pixels=PIXELS, syntax=syntax, **COLOUR), PIXELS)
    by_plane = {**COLOUR, "PlanarConfiguration": 1, "PixelData": planes.tobytes()}
    if syntax != RLELossless:
        assert np.array_equal(opened(pixels=PIXELS, **by_plane), PIXELS)
        assert np.array_equal(opened(pixels=PIXELS, **{**COLOUR, "PlanarConfiguration": ""}), PIXELS)


def rgb_of(y, b, r):
    """Return what PS3.3, C.7.6.3.1.2 says of YBR_FULL."""
    y, b, r = (each.astype(float) for each in (y, b, r))
    red, blue = y + 1.402 * (r - 128), y + 1.772 * (b - 128)
    return np.stack([red, y - 0.344136 * (b - 128) - 0.714136 * (r - 128), blue], axis=-1).clip(0, 255)


def test_luminance_and_chrominance_become_colours():
    wanted = rgb_of(*np.moveaxis(PIXELS, -1, 0))
    ybr = {**COLOUR, "PhotometricInterpretation": "YBR_FULL"}
    assert np.abs(opened(pixels=PIXELS, **ybr) - wanted).max() <= 1
    half = np.zeros((6, 2, 4), np.uint8)
    half[..., 0], half[..., 1] = PIXELS[:, 0::2, 0], PIXELS[:, 1::2, 0]
    half[..., 2:] = PIXELS[:, ::2, 1:]
    ybr["PhotometricInterpretation"] = "YBR_FULL_422"
    pairs = np.repeat(PIXELS[:, ::2, 1:], 2, axis=1)
    wanted = rgb_of(PIXELS[..., 0], pairs[..., 0], pairs[..., 1])
    assert np.abs(opened(pixels=PIXELS, **{**ybr, "PixelData": half.tobytes()}) - wanted).max() <= 1
    whole = opened(pixels=PIXELS, **ybr)  # as some writers leave it
    assert np.array_equal(whole, opened(pixels=PIXELS, **{**ybr, "PhotometricInterpretation": "YBR_FULL"}))


def test_deep_colours_keep_their_hue():
    deep = DRAW.integers(500, 4000, (6, 4, 3)).astype(np.uint16)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    assert np.abs(opened(pixels=deep, **tags) - deep * (255 / 4095)).max() <= 1


REFUSED = {
    **{
        said: (said, 3, f"has colours of the kind {said} that is not read here")
        for said in ("HSV", "YBR_PARTIAL_422")
    },
    **{said: (said, 4, f"has colours of the kind {said} that is not read here") for said in ("CMYK", "ARGB")},
    "partial": ("YBR_PARTIAL_420", 3, "has colours of the kind YBR_PARTIAL_420"),
    "ict": ("YBR_ICT", 3, "has colours of JPEG 2000 and is not compressed so; export it as RGB"),
    "rct": ("YBR_RCT", 3, "has colours of JPEG 2000 and is not compressed so; export it as RGB"),
    "grey of three": ("MONOCHROME2", 3, "says MONOCHROME2 of 3 values a pixel"),
    "colour of one": ("RGB", 1, "says RGB of 1 values a pixel"),
    "unsaid": ("", 1, "does not say what its values show"),
    "unknown": ("MUSTER", 1, "has colours of a kind that is not read here"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_colours_are_refused_by_name(name):
    said, samples, says = REFUSED[name]
    tags = {**COLOUR, "PhotometricInterpretation": ("CS", said), "SamplesPerPixel": samples}
    with pytest.raises(ImageError, match=f"a.dcm {says}") as refused:
        opened(pixels=PIXELS, **tags)
    assert "MUSTER" not in str(refused.value)


def test_deep_chrominance_is_refused():
    tags = {
        **COLOUR,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PhotometricInterpretation": "YBR_FULL",
    }
    with pytest.raises(ImageError, match="has YBR colours of 16 bits; needed 8 bits, or RGB"):
        opened(pixels=PIXELS.astype(np.uint16), **tags)


def test_big_endian_tables_and_words_are_read(tmp_path):
    plain = opened(VOILUTSequence=[lookup_table(np.arange(4096)[::-1], bits=12)])
    table = lookup_table(np.arange(4096)[::-1].astype(np.uint16).byteswap(), bits=12)
    data = pydicom.dcmread(io.BytesIO(dicom(RAMP.byteswap(), VOILUTSequence=[table])))
    data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(tmp_path / "b.dcm", data, little_endian=False, implicit_vr=False, force_encoding=True)
    assert np.array_equal(plain, np.asarray(open_image(tmp_path / "b.dcm")))
