"""What is compressed in a DICOM file is decoded as it was, or refused with what is lacking."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from tests.tools.dicom_files import BYTE, COLOUR, RAMP, dicom, with_syntax
from tests.tools.hostile_files import saved
from ttr.datasets.dicom.compressed import DECODERS
from ttr.datasets.registry import open_image
from ttr.errors import ImageError

SMOOTH = np.add.outer(np.arange(32), 3 * np.arange(40)).astype(np.uint8)
PICTURE = np.stack([SMOOTH, SMOOTH[::-1], SMOOTH[:, ::-1]], axis=-1)


def opened(**options):
    return np.asarray(open_image("a.dcm", dicom(**options))).astype(int)


def shipped(name):
    return open_image(get_testdata_file(name, download=False))


@pytest.mark.parametrize("subsampling", [0, 1])
def test_jpeg_colours_are_what_they_were(subsampling):
    frame = saved(Image.fromarray(PICTURE), "JPEG", quality=98, subsampling=subsampling)
    for said in ("YBR_FULL_422", "RGB"):  # many say RGB of what is compressed as luminance and chrominance
        tags = {**COLOUR, "PhotometricInterpretation": said}
        shown = opened(pixels=PICTURE, syntax=JPEGBaseline8Bit, packed=[frame], **tags)
        assert np.abs(shown - PICTURE).mean() < 4


def test_jpeg_2000_is_what_it_was():
    frame = saved(Image.fromarray(PICTURE), "JPEG2000", irreversible=False, no_jp2=True)
    boxed = saved(Image.fromarray(PICTURE), "JPEG2000", irreversible=False, mct=1)
    assert frame[:4] == b"\xff\x4f\xff\x51" != boxed[:4]
    for said in ("RGB", "YBR_RCT"):
        for packed in (frame, boxed):
            tags = {**COLOUR, "PhotometricInterpretation": said}
            shown = opened(pixels=PICTURE, syntax=JPEG2000Lossless, packed=[packed], **tags)
            assert np.array_equal(shown, PICTURE)
    grey = saved(Image.fromarray(RAMP), "JPEG2000", no_jp2=True)
    plain = opened(pixels=RAMP)
    assert np.array_equal(
        opened(pixels=RAMP, syntax=JPEG2000Lossless, packed=[grey], BitsStored=16, HighBit=15), plain
    )


#: A file whose compression needs a decoder of the extra, and one of the same pixels that does not.
PAIRS = {
    "JPEG-LS": ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
    "JPEG lossless": ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm"),
    "JPEG 2000": ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_extras_decoders_give_the_very_pixels(name):
    for module in ("gdcm", "pylibjpeg", "openjpeg"):
        pytest.importorskip(module)
    packed, plain = (np.asarray(shipped(each)) for each in PAIRS[name])
    assert np.array_equal(packed, plain)
    assert np.ptp(packed) > 200


def test_colours_and_loss_of_the_extras_decoders_are_right():
    pytest.importorskip("gdcm")
    plain = np.asarray(shipped("SC_rgb_rle.dcm")).astype(int)
    for name in ("SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm"):
        assert np.abs(np.asarray(shipped(name)) - plain).max() < 12


LACKING = {
    JPEGLSLossless: "JPEG-LS Lossless Image Compression",
    JPEGLosslessSV1: "JPEG Lossless, Non-Hierarchical",
    HTJ2KLossless: "High-Throughput JPEG 2000",
}
HEADERS = {
    JPEGLSLossless: b"\xff\xd8\xff\xf7\0\x0b\x0c\0\x08\0\x08\x01\x01\x11\0" + bytes(30) + b"\xff\xd9",
    JPEGLosslessSV1: b"\xff\xd8\xff\xc3\0\x0b\x0c\0\x08\0\x08\x01\x01\x11\0" + bytes(30) + b"\xff\xd9",
    HTJ2KLossless: saved(Image.fromarray(RAMP), "JPEG2000", no_jp2=True),
}


@pytest.mark.parametrize("syntax", LACKING)
def test_without_a_decoder_the_refusal_names_the_compression_and_the_extra(syntax, monkeypatch):
    decoder = type(pydicom.pixels.get_decoder(syntax))
    monkeypatch.setattr(decoder, "available_plugins", property(lambda _: ()))
    says = (
        rf"a.dcm is compressed as {LACKING[syntax]}.*\({syntax}\), and nothing that decodes it is installed; "
    )
    with pytest.raises(
        ImageError, match=says + r"pip install '\.\[dicom\]' in ttr's checkout, or export it unc"
    ):
        opened(syntax=syntax, packed=[HEADERS[syntax]], BitsStored=16, HighBit=15)


def test_what_nothing_decodes_is_refused_without_wrong_advice():
    twelve = b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x08\0\x08\x01\x01\x11\0" + bytes(30) + b"\xff\xd9"
    for syntax, frame, says in (
        (
            JPEGExtended12Bit,
            twelve,
            r"JPEG Extended \(.*\) in 12 bits, and nothing that decodes it is installed; export",
        ),
        (
            MPEG2MPML,
            b"\0\0\1\xb3" + bytes(40),
            r"compressed as MPEG2 .* \(.*\), which is not decoded here; needed JPEG",
        ),
        ("1.2.3.4.5", bytes(40), "compressed as an unknown syntax, which is not decoded here"),
    ):
        with pytest.raises(ImageError, match=says) as said:
            opened(syntax=syntax, packed=[frame])
        assert "pip install" not in str(said.value)


def test_the_decoder_under_the_gpl_is_never_asked_for():
    assert "libjpeg" not in str(DECODERS.values()).replace("pylibjpeg", "")
    assert all(
        plugin in ("pillow", "gdcm", "pylibjpeg", "pydicom") for each in DECODERS.values() for plugin in each
    )


GREY = saved(Image.fromarray(SMOOTH), "JPEG")
WAVES = saved(Image.fromarray(SMOOTH), "JPEG2000", no_jp2=True)


@pytest.mark.parametrize(("syntax", "frame"), [(JPEGBaseline8Bit, GREY), (JPEG2000Lossless, WAVES)])
def test_a_picture_that_ends_early_or_is_another_is_refused(syntax, frame):
    def refused(says, frame, **tags):
        with pytest.raises(ImageError, match=f"a.dcm {says}"):
            opened(pixels=SMOOTH, syntax=syntax, packed=[frame], **{**BYTE, **tags})

    assert opened(pixels=SMOOTH, syntax=syntax, packed=[frame]).shape == (32, 40, 3)
    for length in (len(frame) // 2, len(frame) - 40):
        refused("cannot be decoded: what is compressed in it ends early; get it again", frame[:length])
    refused("cannot be decoded: what is compressed in it is no JPEG", b"\xff\xd8\xff\xe0" + bytes(60))
    refused("says that it has 40 × 33 pixels, and 40 × 32 are compressed in it", frame, Rows=33)
    colours = saved(Image.fromarray(PICTURE), "JPEG" if syntax == JPEGBaseline8Bit else "JPEG2000")
    refused("says that it holds 1 values of 8 bits a pixel, and 3 of 8 are compressed in it", colours)


def test_what_is_not_compressed_as_it_says_is_refused():
    with pytest.raises(
        ImageError, match=r"says that it is compressed as JPEG Baseline .*, and its pixels are not"
    ):
        open_image("a.dcm", with_syntax(dicom(), JPEGBaseline8Bit))
    packed = dicom(pixels=SMOOTH, syntax=JPEGBaseline8Bit, packed=[GREY])
    for said in ("", ExplicitVRLittleEndian):
        with pytest.raises(
            ImageError, match="holds compressed pixels and does not say how they are compressed"
        ):
            open_image("a.dcm", with_syntax(packed, said))
    with pytest.raises(ImageError, match="cannot be decoded: it holds no compressed pixels"):
        opened(pixels=SMOOTH, syntax=JPEGBaseline8Bit, packed=[])
