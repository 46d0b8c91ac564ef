"""DICOM files as devices write them, and as nobody should: the one writer of every test.

A patient is in each of them, so that what reads one can be asked whether it holds, shows or logs a name.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    RLELossless,
)

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
        tags: further elements; the value None takes one out.
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
            setattr(data, name, value)
            if value is None:
                delattr(data, name)
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
    """Return radiographs of 24 x 24 pixels: plain, windowed, with tables, deflated, run-length encoded."""
    pixels = (np.arange(576, dtype=np.uint16).reshape(24, 24) * 7) % 4096
    window = {"WindowCenter": [500, 900], "WindowWidth": [300, 50]}
    window["WindowCenterWidthExplanation"] = ["A", "B"]
    return {
        "plain": dicom(pixels),
        "windowed": dicom(
            pixels, **window, RescaleSlope="-1.5", RescaleIntercept="1000", PixelSpacing=[0.2, 0.4]
        ),
        "inverse": dicom(pixels, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0, Modality="CT"),
        "deflated": dicom(pixels, DeflatedExplicitVRLittleEndian),
        "rle": dicom(pixels, RLELossless),
    }
