"""What comes out of a DICOM file is bounded, and its own words are never repeated."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from tests.datasets.dicom.test_reading import expected, grey
from tests.tools.dicom_files import BYTE, RAMP, lookup_table, write
from tests.tools.hostile_files import ITEM, ITEM_WITHOUT_END, SEQUENCE, after_meta, deflated, rle, saved
from ttr.datasets.dicom import elements
from ttr.datasets.dicom.reading import read_dicom
from ttr.datasets.registry import open_image
from ttr.errors import ImageError

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value")  # what the files are made of
#: JPEG 2000 that says of itself 8 x 8 pixels of so many values, of so many bits.
WAVES = {
    (values, bits): b"\xff\x4f\xff\x51"
    + struct.pack(">HH8LH", 38 + 3 * values, 0, 8, 8, 0, 0, 8, 8, 0, 0, values)
    + struct.pack("3B", bits - 1, 1, 1) * values
    for values, bits in ((16_384, 8), (1, 38))
}
LOSSLESS = b"\xff\xd8\xff\xf7" + struct.pack(">HBHHB", 11, 8, 60_000, 50_000, 1) + bytes(40)


def inserted(path, elements, **tags):
    """Write a DICOM file with the bytes of further elements before all others."""
    content = write(path, **tags).read_bytes()
    place = after_meta(content)
    path.write_bytes(content[:place] + elements + content[place:])
    return path


def table(length):
    """Return a sequence of a table that says it has so many entries, and has a hundred."""
    item = lookup_table(np.zeros(100))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        item.add_new(0x00283002, "UL", [length, 0, 16])
    return [item]


@pytest.fixture
def undecoded(monkeypatch):
    """Fail where pixels are decoded."""

    def reached(*args, **kwargs):
        raise AssertionError("too late: a decoder was reached")

    monkeypatch.setattr(pydicom.pixels, "pixel_array", reached)


@pytest.fixture
def unparsed(monkeypatch, undecoded):
    """Fail where the parser is reached."""
    write_before = pydicom.dcmread

    def reached(*args, **kwargs):
        raise AssertionError("too late: the parser was reached")

    monkeypatch.setattr(pydicom, "dcmread", reached)
    return write_before


#: name: tags, and what is said.
SAID = {
    "frames": ({"NumberOfFrames": 2_000_000_000}, "holds 2,000,000,000 frames; needed 10,000 at most"),
    "pixels": ({"Rows": 40_000, "Columns": 40_000}, r"too many pixels to open safely \(40,000 × 40,000\)"),
    "strip": (
        {"Rows": 2, "Columns": 60_000},
        "60,000 × 2 pixels, one side 30,000 times the other; needed 50",
    ),
    "none": ({"Rows": 0}, "has 8 × 0 pixels; needed 1 on each side"),
    "samples": ({"SamplesPerPixel": 60_000}, "holds 60,000 values of 16 bits a pixel; needed grey or three"),
    "spacing": (
        {"PixelSpacing": [1, 1000]},
        "pixels are 1,000 times as long as wide; needed 10 times at most",
    ),
    "palette": (
        {"PhotometricInterpretation": "PALETTE COLOR"},
        "has a lookup table without its RedPaletteColorLookupTableDescriptor",
    ),
    "table": ({"VOILUTSequence": table(4_000_000_000)}, "lookup table of 4,000,000,000 entries of 16 bits"),
    "short": ({"VOILUTSequence": table(4096)}, "lookup table of 4,096 entries that ends early"),
    "native": ({"Rows": 800, "Columns": 900}, "holds 128 of the 1,440,000 bytes of its pixels; get it again"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_a_file_says_of_itself_is_checked_before_it_is_decoded(name, tmp_path, undecoded):
    tags, says = SAID[name]
    with pytest.raises(ImageError, match=says):
        open_image(write(tmp_path / "a.dcm", **tags))


def test_stretching_to_the_pixel_spacing_is_bounded(tmp_path, undecoded):
    path = write(tmp_path / "a.dcm", np.zeros((30, 40), np.uint16), PixelSpacing=[10, 1])
    with pytest.raises(
        ImageError, match=r"stretched to its pixel spacing, has too many pixels .*\(40 × 300\)"
    ):
        open_image(path, most_pixels=10_000)


COMPRESSED = {
    "rle pixels": (rle(b"\x81\0" * 9, b"\x81\0" * 9), RLELossless, {"Rows": 40_000, "Columns": 40_000}),
    "rle long": (rle(b"\x81\0" * 90_000, b"\x81\0" * 90_000), RLELossless, {}),
    "rle short": (rle(b"\xf0\0", b"\x81\0"), RLELossless, {}),
    "rle overlaps": (struct.pack("<16L", 2, 64, 0, *[0] * 13) + b"\x81\0" * 90_000, RLELossless, {}),
    "rle parts": (rle(*[b"\0"] * 15), RLELossless, {}),
    "j2k": (saved(Image.new("L", (500, 400)), "JPEG2000"), JPEG2000Lossless, BYTE),
    "jpeg-ls": (LOSSLESS, JPEGLSLossless, BYTE),
    "jpeg lossless": (LOSSLESS.replace(b"\xff\xf7", b"\xff\xc3"), JPEGLosslessSV1, BYTE),
    "j2k values": (WAVES[16_384, 8], JPEG2000Lossless, BYTE),
    "j2k bits": (WAVES[1, 38], HTJ2KLossless, BYTE),
    "j2k nothing": (b"\xff\x4f\xff\x51" + bytes(9), JPEG2000Lossless, BYTE),
}
SAYS = {
    "rle pixels": r"too many pixels to open safely \(40,000 × 40,000\)",
    "rle long": "a compressed part that unpacks to more than 128 bytes; needed 64",
    "rle short": "a compressed part that unpacks to no more than 17 bytes; needed 64",
    "rle overlaps": "a compressed part that unpacks to",
    "rle parts": "is compressed in 15 parts; needed 2",
    "j2k": "says that it has 8 × 8 pixels, and 500 × 400 are compressed in it",
    "jpeg-ls": "says that it has 8 × 8 pixels, and 50,000 × 60,000 are compressed in it",
    "jpeg lossless": "says that it has 8 × 8 pixels, and 50,000 × 60,000 are compressed in it",
    "j2k values": "holds 1 values of 8 bits a pixel, and 16,384 of 8 are compressed in it",
    "j2k bits": "holds 1 values of 8 bits a pixel, and 1 of 38 are compressed in it",
    "j2k nothing": "cannot be decoded: what is compressed in it is no JPEG 2000",
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_what_is_compressed_is_measured_before_it_is_decoded(name, tmp_path, undecoded):
    frame, syntax, tags = COMPRESSED[name]
    path = write(tmp_path / "a.dcm", packed=[frame], syntax=syntax, **tags)
    with pytest.raises(ImageError, match=SAYS[name]):
        open_image(path)


def test_whole_rle_and_deflated_files_are_read(tmp_path):
    plain = write(tmp_path / "a.dcm")
    high, low = (RAMP.astype(">u2").tobytes()[place::2] for place in (0, 1))
    packed = rle(bytes([63]) + high + b"\x80", bytes([63]) + low + b"\x80")
    assert np.array_equal(grey(plain), grey(write(tmp_path / "b.dcm", packed=[packed], syntax=RLELossless)))
    (tmp_path / "c.dcm").write_bytes(deflated(plain.read_bytes()))
    assert np.array_equal(grey(plain), grey(tmp_path / "c.dcm"))


SH = b"".join(struct.pack("<HH2sH", 9, number, b"SH", 0) for number in range(60_000))
ELEMENTS = {
    "items": (SEQUENCE + ITEM * 101_000, "holds more than 100,000 elements or 32 nests of them"),
    "elements": (
        SEQUENCE + ITEM_WITHOUT_END + SH + SH,
        "holds more than 100,000 elements or 32 nests of them",
    ),
    "nests": ((SEQUENCE + ITEM_WITHOUT_END) * 50, "holds more than 100,000 elements or 32 nests of them"),
    "numbers": (
        b"\x28\0\x50\x10UN\0\0" + struct.pack("<L", 100_000) + b"1\\" * 50_000,
        r"holds 100,000 bytes in its element \(0028,1050\); needed 4,096 at most",
    ),
    "length": (
        b"\x28\0\x50\x10UN\0\0\xf0\xff\xff\xff",
        "the file ends within its pixels or tags; get it again",
    ),
    "open": (SEQUENCE, "the file ends within its pixels or tags; get it again"),
}


@pytest.mark.parametrize("name", ELEMENTS)
def test_elements_without_end_are_refused_before_they_are_parsed(name, tmp_path, unparsed):
    elements, says = ELEMENTS[name]
    with pytest.raises(ImageError, match=says):
        open_image(inserted(tmp_path / "a.dcm", elements))


def test_deflated_files_are_inflated_no_further_than_an_image_goes(tmp_path, unparsed, monkeypatch):
    monkeypatch.setattr(elements, "MOST_BEFORE_PIXELS", 2**20)
    content = write(tmp_path / "a.dcm").read_bytes()
    pixels = b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<L", 3_000_000_000)
    private = b"\x09\0\x10\x10OB\0\0" + struct.pack("<L", 2 * 2**20)
    for data, says in (
        (bytes(2 * 2**20), "holds more than 100,000 elements"),
        (pixels + bytes(2 * 2**20), "inflates from 0.0 MB to 3,000; needed 541 MB at most"),
        (private + bytes(2 * 2**20), "inflates to more than 1 MB before its pixels"),
    ):
        (tmp_path / "a.dcm").write_bytes(deflated(content, data))
        with pytest.raises(ImageError, match=says):
            open_image(tmp_path / "a.dcm")
    whole = deflated(content)
    (tmp_path / "a.dcm").write_bytes(whole[: after_meta(whole)] + b"\xff" * 9)
    with pytest.raises(ImageError, match="its deflated part is damaged"):
        open_image(tmp_path / "a.dcm")


def test_every_cut_of_a_file_is_refused_in_a_sentence(tmp_path):
    whole = write(tmp_path / "a.dcm", WindowCenter=40, WindowWidth=400).read_bytes()
    for content in (whole, deflated(whole)):
        for length in range(0, len(content) - 1, 7):
            with pytest.raises(ImageError, match="a.dcm (is no DICOM|cannot be decoded|holds no pixels)"):
                open_image(tmp_path / "a.dcm", content[:length])


@pytest.mark.parametrize("slope", ["nan", "inf", "1e400"])
def test_a_rescale_that_makes_no_numbers_is_refused(slope, tmp_path):
    path = write(tmp_path / "a.dcm", RescaleSlope="1.00", RescaleIntercept="0")
    path.write_bytes(path.read_bytes().replace(b"DS\x04\x001.00", b"DS\x06\x00" + slope.ljust(6).encode()))
    with pytest.raises(ImageError, match="has no single number as its RescaleSlope; needed one"):
        open_image(path)


@pytest.mark.parametrize("curve", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_are_the_standards_functions(curve, tmp_path):
    """Against the parser's own windowing, which this reader no longer needs."""
    tags = {"WindowCenter": 2000, "WindowWidth": 1001, "VOILUTFunction": curve}
    path = write(tmp_path / "a.dcm", **tags)
    shown = pydicom.pixels.apply_windowing(RAMP, pydicom.dcmread(path))
    assert np.abs(grey(path) - expected(shown, 0, 4095)).max() <= 1


def test_a_window_of_width_one_is_a_threshold(tmp_path):
    path = write(tmp_path / "a.dcm", WindowCenter=1200, WindowWidth=1)
    assert np.array_equal(grey(path), 255 * (RAMP > 1199.5))


def test_a_files_words_are_never_repeated(tmp_path):
    """A person's name may stand in any text: what is shown of a window is its numbers and words of ours."""
    name = "Muster^Erika"
    said = {"Modality": name, "WindowCenterWidthExplanation": [name, "LUNG", "Soft Tissue"]}
    path = write(tmp_path / "a.dcm", WindowCenter=[40, -600, 50], WindowWidth=[400, 1500, 350], **said)
    found = read_dicom(path)
    assert [window.name for window in found.windows] == [
        "40 / 400",
        "lung -600 / 1500",
        "soft tissue 50 / 350",
    ]
    assert name not in repr(vars(found))
    assert found.modality == ""
    for tag in ("PhotometricInterpretation", "VOILUTFunction", "Rows", "RescaleSlope"):
        content = write(tmp_path / "b.dcm", WindowCenter=40, WindowWidth=400, RescaleIntercept=0).read_bytes()
        element = pydicom.datadict.tag_for_keyword(tag)
        place = after_meta(content)
        text = struct.pack("<HH2sH", element >> 16, element & 0xFFFF, b"LO", len(name)) + name.encode()
        tail = content.index(b"\xe0\x7f\x10\x00")
        (tmp_path / "b.dcm").write_bytes(content[:place] + content[place:tail] + text + content[tail:])
        with pytest.raises(ImageError) as refused:
            open_image(tmp_path / "b.dcm")
        assert "Muster" not in str(refused.value)
