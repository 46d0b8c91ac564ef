"""Uploads are read safely, or refused in a sentence."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.tools import hostile_files
from tests.tools.dicom_files import dicom
from tests.tools.hostile_files import after_meta
from ttr.apps.image.intake import NOT_SAID, take_in, take_in_bytes
from ttr.errors import ImageError


def png(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, "PNG")
    return held.getvalue()


def test_uploads_are_read_or_refused_in_a_sentence_without_a_path(tmp_path):
    good = png(Image.new("RGB", (300, 200), (9, 90, 200)))
    assert take_in_bytes(good).image.size == (300, 200)
    bomb = hostile_files.png(20_000, 20_000)
    hostile = {
        "page.png": b"<html><script>alert(1)</script></html>",
        "half.png": good[: len(good) // 2],
        "empty.png": b"",
        "small.png": png(Image.new("RGB", (3, 3))),
        "bomb.png": bomb,
        "half.dcm": bytes(128) + b"DICM" + b"\x02\x00",
    }
    for name, content in hostile.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError) as refused:
            take_in(tmp_path / name)
        assert str(tmp_path) not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_what_a_window_hides_is_said_beside_the_picture():
    pixels = np.tile(np.arange(32, dtype=np.uint16) * 100, (32, 1))
    taken = take_in_bytes(dicom(pixels, WindowCenter=[-9000, 1500], WindowWidth=[80, 3000]))
    own = "The file's window -9000 / 80 shows all of its values (0 to 3100) as one grey; "
    assert taken.notes == (NOT_SAID, f"{own}its own range is shown instead.")
    assert np.ptp(np.asarray(taken.image)) == 255
    hidden, shown = (taken.in_window(window) for window in taken.windows)
    blank = "In this window all of its values (0 to 3100) are one grey; choose another to see the image."
    assert hidden.notes == (NOT_SAID, blank)
    assert np.ptp(np.asarray(hidden.image)) == 0
    assert shown.notes == (NOT_SAID,)
    assert shown.in_window(None).notes == taken.notes
    assert (
        take_in_bytes(dicom(pixels, RescaleSlope=0))
        .notes[1]
        .startswith("The file's rescale slope of 0 makes")
    )


def test_a_film_is_refused_in_a_sentence_and_a_file_without_preamble_is_read():
    with pytest.raises(
        ImageError, match=r"^this file holds 2 frames; needed a single image: open it in the tab Compare"
    ):
        take_in_bytes(dicom(np.zeros((2, 32, 32), np.uint16)))
    whole = dicom(np.tile(np.arange(32, dtype=np.uint16), (32, 1)))
    assert take_in_bytes(whole[after_meta(whole) :]).kind == "DICOM"
