"""A picture for the browser's viewer: its values come back as the file has them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.tools.dicom_files import lookup_table, write
from ttr.apps.image.intake import Picture, sample, take_in
from ttr.apps.image.plate import MOST_PIXELS, plate_of
from ttr.datasets.dicom.radiograph import Window


def png(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def values_of(plate):
    """Return the values as a viewer reads them, padding as NaN."""
    found = png(plate.values.png).astype(np.float64)
    numbers = plate.values.low + plate.values.step * (256 * found[..., 0] + found[..., 1])
    return np.where(found[..., 2] > 0, np.nan, numbers)


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(0).integers(0, 4000, (40, 60), dtype=np.uint16)


def test_a_ct_is_sent_in_hounsfield_units_to_the_last(tmp_path, counts):
    ct = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024, "PixelSpacing": [0.5, 0.5]}
    picture = take_in(write(tmp_path / "a.dcm", counts, WindowCenter=40, WindowWidth=400, **ct))
    plate = plate_of(picture)
    np.testing.assert_array_equal(values_of(plate), counts.astype(float) - 1024)
    assert (plate.values.unit, plate.values.window, plate.reduced) == ("HU", (40.0, 400.0), 1)
    assert plate.spacing == (0.5, 0.5)
    np.testing.assert_array_equal(png(plate.png), np.asarray(picture.image)[..., 0])
    other = plate_of(picture.in_window(Window("own", 0, 100)))
    assert other.values.window == (0, 100)
    assert other.identity != plate.identity
    np.testing.assert_array_equal(values_of(other), values_of(plate))


def test_broken_values_and_padding_come_within_a_step(tmp_path, counts):
    fields = {"Modality": "PT", "RescaleSlope": 0.37, "RescaleIntercept": 0.1, "PixelPaddingValue": 0}
    counts = counts.copy()
    counts[:5] = 0
    plate = plate_of(take_in(write(tmp_path / "a.dcm", counts, **fields)))
    found, true = values_of(plate), 0.37 * counts + 0.1
    assert np.isnan(found[counts == 0]).all()
    inside = counts != 0
    np.testing.assert_allclose(found[inside], true[inside], atol=0.51 * plate.values.step)
    assert plate.values.step == pytest.approx((true[inside].max() - true[inside].min()) / 65535)
    assert plate.values.unit == ""
    middle = (true[inside].max() + true[inside].min()) / 2
    assert plate.values.window == pytest.approx((middle, true[inside].max() - true[inside].min()))


def test_values_between_whole_numbers_have_windows_of_their_size(tmp_path, counts):
    """As of a map of shares; in steps of 1 a window of one's own was all black."""
    picture = take_in(write(tmp_path / "a.dcm", counts, RescaleSlope="0.00001", RescaleIntercept="0"))
    low, high = counts.min() / 1e5, counts.max() / 1e5
    assert plate_of(picture).values.window == pytest.approx(((low + high) / 2, high - low))
    shown = np.asarray(picture.in_window(Window("own", 0.02, 0.01)).image)[..., 0]
    wanted = 255 * ((counts / 1e5 - 0.015) / 0.01).clip(0, 1)
    np.testing.assert_allclose(shown, wanted, atol=1)


def test_what_is_no_straight_window_is_said_so(tmp_path, counts):
    table = {"VOILUTSequence": [lookup_table(np.arange(4096)[::-1], bits=12)]}
    curve = {"VOILUTFunction": "SIGMOID", "WindowCenter": 1000, "WindowWidth": 800}
    straight = {"WindowCenter": 1000, "WindowWidth": 800}
    says = ("the file's own table of greys", "1000 / 800 along the file's curve", "")
    for fields, said in zip((table, curve, straight), says, strict=True):
        picture = take_in(write(tmp_path / "a.dcm", counts, **fields))
        assert plate_of(picture).values.own == said
        assert plate_of(picture.in_window(Window("own", 900, 700))).values.own == ""


def test_pixels_that_are_no_squares_keep_their_values_and_their_millimetres(tmp_path, counts):
    plate = plate_of(take_in(write(tmp_path / "a.dcm", counts, PixelSpacing=[2, 1], Modality="MR")))
    assert plate.size == (60, 80)
    np.testing.assert_array_equal(values_of(plate), np.repeat(counts, 2, axis=0))
    assert plate.spacing == pytest.approx((1, 1))


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({"PixelSpacing": [0.2, 0.2]}, True),
        ({"ImagerPixelSpacing": [0.2, 0.2]}, False),
        ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2]}, False),
        ({"PixelSpacing": [0.18, 0.18], "ImagerPixelSpacing": [0.2, 0.2]}, True),
        ({"PixelAspectRatio": ["1", "1"]}, False),
        ({"PixelSpacing": [0, 0]}, False),
        ({"PixelSpacing": [500, 500]}, False),
    ],
)
def test_a_length_is_known_where_the_file_knows_it_in_the_patient(tmp_path, counts, fields, known):
    """A detector's own spacing is not that of what lies ahead of it."""
    plate = plate_of(take_in(write(tmp_path / "a.dcm", counts, Modality="DX", **fields)))
    assert (plate.spacing is not None) == known


def test_colours_stay_and_grey_is_one_channel():
    pixels = np.random.default_rng(0).integers(0, 255, (30, 20, 3), dtype=np.uint8)
    plate = plate_of(Picture(Image.fromarray(pixels), "PNG", "0" * 64))
    np.testing.assert_array_equal(png(plate.png), pixels)
    assert (plate.values, plate.spacing) == (None, None)
    assert png(plate_of(sample("chest")).png).ndim == 2


def test_a_large_picture_is_reduced_to_means(tmp_path):
    counts = np.random.default_rng(0).integers(0, 4000, (1300, 1400), dtype=np.uint16)
    assert counts.size > MOST_PIXELS
    plate = plate_of(take_in(write(tmp_path / "a.dcm", counts, Modality="DX", PixelSpacing=[0.1, 0.1])))
    assert (plate.reduced, plate.size, plate.spacing) == (2, (1400, 1300), (0.1, 0.1))
    means = counts.reshape(650, 2, 700, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(values_of(plate), means, atol=plate.values.step)
    assert png(plate.png).shape == (650, 700)
