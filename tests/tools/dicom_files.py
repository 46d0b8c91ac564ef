"""DICOM files as devices write them, and as nobody should: the one writer of every test.

A patient is in each of them, so that what reads one can be asked whether it holds, shows or logs a name.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from tests.tools.hostile_files import saved

RAMP = np.arange(64, dtype=np.uint16).reshape(8, 8) * 60
PATIENT = {"PatientName": "Muster^Erika", "PatientID": "4711", "PatientBirthDate": "19700101"}
BYTE = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
COLOUR = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, **BYTE}


def dicom(
    pixels: np.ndarray = RAMP,
    syntax: str = ExplicitVRLittleEndian,
    packed: Sequence[bytes] | None = None,
    **tags: Any,
) -> bytes:
    """Return a DICOM file; 16 bits are said to hold 12, as a detector's do.

    Args:
        pixels: [H, W], or frames [N, H, W]; colours have a last dimension of 3.
        syntax: transfer syntax; RLE is packed here.
        packed: the frames as they are compressed, in place of the pixels' own bytes.
        tags: further elements; None takes one out, and a tuple is a value with its kind before it.
    """
    packs_itself = syntax == RLELossless and packed is None
    meta = _meta(ExplicitVRLittleEndian if packs_itself else syntax)
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.3.4"
    frames = pixels.ndim - 2 - (pixels.shape[-1] == 3 and pixels.ndim > 2)
    data.Rows, data.Columns = pixels.shape[frames : frames + 2]
    if frames:
        data.NumberOfFrames = len(pixels)
    bits = 8 * pixels.itemsize
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored = bits, 12 if bits == 16 else bits
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes() + bytes(pixels.nbytes % 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a file must not say is what is tested
        for name, value in {**PATIENT, **tags}.items():
            if value is None:
                data.pop(name, None)
            elif isinstance(value, tuple):
                data.add_new(name, *value)
            else:
                setattr(data, name, value)
        if packs_itself:
            data.compress(RLELossless)
        elif packed is not None:
            data.PixelData = encapsulate(list(packed))
            data["PixelData"].is_undefined_length = True
        if "PixelData" in data:
            data["PixelData"].VR = "OW" if bits == 16 and packed is None else "OB"
        stream = io.BytesIO()
        data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _meta(syntax: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    meta.TransferSyntaxUID = syntax
    return meta


def with_syntax(content: bytes, syntax: str) -> bytes:
    """Return a file that says of itself another transfer syntax than it is written in; "" for none."""
    start = content.index(b"\2\0\x10\0UI")
    (length,) = struct.unpack_from("<H", content, start + 6)
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    said = b"\2\0\x10\0UI" + struct.pack("<H", len(value)) + value if syntax else b""
    (whole,) = struct.unpack_from("<L", content, 140)
    whole += len(said) - 8 - length
    return (
        content[:140] + struct.pack("<L", whole) + content[144:start] + said + content[start + 8 + length :]
    )


def write(path: Path, pixels: np.ndarray = RAMP, **options: Any) -> Path:
    """Write a file as :func:`dicom` makes it, its folders too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dicom(pixels, **options))
    return path


def lookup_table(entries: np.ndarray, first: int = 0, bits: int = 16) -> Dataset:
    """Return an item of a lookup table's sequence."""
    item = Dataset()
    item.add_new(0x00283002, "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype(np.uint16).tobytes())
    return item


def honest_dicoms() -> dict[str, bytes]:
    """Return radiographs of 24 x 24 pixels: in every kind of window, table, colour and compression."""
    pixels = (np.arange(576, dtype=np.uint16).reshape(24, 24) * 7) % 4096
    picture = np.stack([pixels // 16] * 3, axis=-1).astype(np.uint8)
    tables = {"ModalityLUTSequence": [lookup_table(np.arange(4096), bits=12)]}
    tables["VOILUTSequence"] = [lookup_table(np.arange(4096)[::-1], bits=12)]
    window = {"WindowCenter": [500, 900], "WindowWidth": [300, 50]}
    window["WindowCenterWidthExplanation"] = ["A", "B"]
    found = {
        "plain": dicom(pixels),
        "windowed": dicom(
            pixels, **window, RescaleSlope="-1.5", RescaleIntercept="1000", PixelSpacing=[0.2, 0.4]
        ),
        "inverse": dicom(pixels, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0, Modality="CT"),
        "tables": dicom(pixels, **tables),
        "colours": dicom(picture, **COLOUR),
        "palette": dicom(pixels, **palette([[0, 1, 9, 1, 199, 60_000]] * 3, segmented=True)),
        "deflated": dicom(pixels, DeflatedExplicitVRLittleEndian),
        "rle": dicom(pixels, RLELossless),
    }
    for kind, syntax in (("JPEG", JPEGBaseline8Bit), ("JPEG2000", JPEG2000Lossless)):
        found[kind] = dicom(picture[..., 0], syntax, [saved(Image.fromarray(picture[..., 0]), kind)])
    # Of a decoder that writes nothing itself.
    for name in ("MR_small_jpeg_ls_lossless", "SC_rgb_jpeg_gdcm") if find_spec("gdcm") else ():
        found[name] = Path(get_testdata_file(f"{name}.dcm", download=False)).read_bytes()
    return found


HOLDERS = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "PixelMeasuresSequence": ("PixelSpacing",),
}


def said_of_frames(
    each: Sequence[Mapping[str, Any]], shared: Mapping[str, Any] | None = None
) -> dict[str, list[Dataset]]:
    """Return the sequences in which an enhanced file says of its frames what others say of the file."""
    return {
        "SharedFunctionalGroupsSequence": [_group(shared or {})],
        "PerFrameFunctionalGroupsSequence": [_group(tags) for tags in each],
    }


def _group(tags: Mapping[str, Any]) -> Dataset:
    item, comment = Dataset(), Dataset()
    comment.FrameComments = PATIENT["PatientName"]
    item.FrameContentSequence = [comment]
    for holder, keywords in HOLDERS.items():
        inner = Dataset()
        for keyword in filter(tags.__contains__, keywords):
            setattr(inner, keyword, tags[keyword])
        if len(inner):
            setattr(item, holder, [inner])
    return item


def films() -> dict[str, bytes]:
    """Return files of three frames of 24 x 24 pixels: plain, deflated, compressed with their places told."""
    frames = (np.arange(3 * 576, dtype=np.uint16).reshape(3, 24, 24) * 7) % 256
    pictures = [saved(Image.fromarray(frame.astype(np.uint8)), "JPEG") for frame in frames]
    return {
        "plain": dicom(frames),
        "enhanced": dicom(frames, **said_of_frames([{"WindowCenter": 90, "WindowWidth": 99}] * 3)),
        "bytes": dicom(frames.astype(np.uint8)),
        "deflated": dicom(frames, DeflatedExplicitVRLittleEndian),
        "rle": dicom(frames, RLELossless),
        "jpeg": dicom(frames.astype(np.uint8), JPEGBaseline8Bit, pictures),
    }


def palette(
    entries: Any, first: int = 0, bits: int = 16, kind: str = "<u2", *, segmented: bool = False
) -> dict[str, Any]:
    """Return the tags of a palette of three curves of 200 entries."""
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, curve in zip(("Red", "Green", "Blue"), entries, strict=True):
        name = f"{colour}PaletteColorLookupTable"
        tags[f"{name}Descriptor"] = ("SS" if first < 0 else "US", [200, first, bits])
        tags[f"{'Segmented' * segmented}{name}Data"] = ("OW", np.asarray(curve).astype(kind).tobytes())
    return tags
