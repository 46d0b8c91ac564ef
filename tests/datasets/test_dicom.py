"""DICOM pixels against a computation of our own, and that nothing of the patient comes out anywhere."""

from __future__ import annotations

import logging

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.tools.dicom_files import COLOUR, RAMP, lookup_table, write
from ttr.datasets.dicom import TAGS
from ttr.datasets.registry import list_images, open_dataset, open_image
from ttr.errors import ImageError


def grey(path):
    pixels = np.asarray(open_image(path))
    assert (pixels[..., 0] == pixels[..., 2]).all()
    return pixels[..., 0].astype(int)


def expected(values, low, high):
    return np.round(255 * ((values.astype(float) - low) / (high - low)).clip(0, 1)).astype(int)


def test_without_a_window_the_images_own_range_is_shown(tmp_path):
    assert np.array_equal(grey(write(tmp_path / "a.dcm")), expected(RAMP, 0, RAMP.max()))


def test_a_window_is_the_standards_linear_function(tmp_path):
    centre, width = 2000, 1000
    shown = grey(write(tmp_path / "a.dcm", WindowCenter=[centre, 5], WindowWidth=[width, 9]))
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    assert np.abs(shown - expected(RAMP, low, high)).max() <= 1
    assert (shown.min(), shown.max()) == (0, 255)


def test_rescale_comes_before_the_window(tmp_path):
    options = {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 500, "WindowWidth": 2001}
    shown = grey(write(tmp_path / "a.dcm", **options))
    assert np.abs(shown - expected(RAMP.astype(int) * 2 - 1024, -500.5, 1499.5)).max() <= 1


def test_monochrome1_is_inverted(tmp_path):
    plain, inverted = (
        grey(write(tmp_path / f"{kind}.dcm", PhotometricInterpretation=kind))
        for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    assert np.array_equal(plain, 255 - inverted)


def test_a_voi_table_is_looked_up(tmp_path):
    table = lookup_table(np.arange(4096)[::-1] * 16)
    shown = grey(write(tmp_path / "a.dcm", VOILUTSequence=[table]))
    assert np.abs(shown - expected(4095 - RAMP.astype(int), 0, 4095)).max() <= 1


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


def test_nothing_of_the_patient_is_held_shown_or_logged(tmp_path, caplog, capfd, monkeypatch, recwarn):
    held = []
    original = pydicom.dcmread

    def watch(*args, **kwargs):
        held.append(original(*args, **kwargs))
        return held[-1]

    monkeypatch.setattr(pydicom, "dcmread", watch)
    path = write(tmp_path / "a.dcm", PatientBirthDate="no date of Erika", PatientID="x" * 80)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(path.read_bytes()[:-40])
    with caplog.at_level(logging.DEBUG):
        recwarn.clear()
        caplog.clear()
        image = open_image(path)
        with pytest.raises(ImageError) as refusal:
            open_image(cut)
    out, err = capfd.readouterr()
    said = " ".join([caplog.text, out, err, str(refusal.value), *(str(w.message) for w in recwarn)])
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
