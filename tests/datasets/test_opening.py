"""What comes out of a picture file is bounded, and known before anything of it is decoded."""

from __future__ import annotations

import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from tests.tools.hostile_files import (
    EPS,
    TIFF_TAGS,
    chunk,
    directory,
    jpeg,
    number_tiff,
    overlapping,
    png,
    saved,
    tiff,
)
from ttr.datasets.base import Item
from ttr.datasets.limits import MOST_BYTES, check_resized, file_bytes
from ttr.datasets.mask_files import open_numbers
from ttr.datasets.registry import open_image
from ttr.errors import ImageError

GREY = Image.new("L", (32, 32), 9)
MANY = {"save_all": True, "append_images": [Image.new("L", (32, 32), 99), Image.new("L", (32, 32), 199)]}
#: name of a file: its bytes, and what is said of it.
HOSTILE = {
    "thin.png": (png(16, 2_500_000), "has 16 × 2,500,000 pixels, one side 156,250 times the other"),
    "wide.png": (png(2_500_000, 16), "has 2,500,000 × 16 pixels, one side 156,250 times the other"),
    "large.png": (png(10_000, 10_000), r"too many pixels to open safely \(10,000 × 10,000\); needed 90"),
    "huge.png": (png(60_000, 60_000), r"too many pixels to open safely \(3,600,000,000\); needed 90 million"),
    "pages.tif": (saved(GREY, "TIFF", **MANY), "holds 3 pages; needed a single image: save the page"),
    "moving.png": (saved(GREY, "PNG", **MANY), "holds 3 pages; needed a single image"),
    "complex.tif": (tiff((258, 3, 1, 64), (339, 3, 1, 6)), "holds complex numbers; needed grey or colours"),
    "tile.tif": (
        tiff((322, 4, 1, 60_000), (323, 4, 1, 60_000)),
        "tiles of 60,000 × 60,000 pixels; needed 90",
    ),
    "tags.tif": (
        tiff(*((40_000 + number, 1, 9000, 8) for number in range(900)), content=bytes(9000)),
        "its tags claim 8,100,000 bytes, and there are",
    ),
    "exif.jpg": (jpeg(overlapping(500, 90_000)), "its tags claim 45,000,000 bytes, and there are 96,014"),
    "profile.png": (
        png(32, 32, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(2**21)))),
        "holds texts or a profile that unpack to over 1 MB each",
    ),
    "a.png": (EPS, "is not an image that can be read; needed bmp, jpeg"),
    "a.eps": (EPS, "is not an image that can be read; needed bmp, jpeg"),
    "a.gif": (saved(GREY, "GIF"), "is not an image that can be read; needed bmp, jpeg"),
    "a.ppm": (saved(GREY, "PPM"), "is not an image that can be read; needed bmp, jpeg"),
}


@pytest.fixture
def undecoded(monkeypatch):
    """Fail where pixels are decoded, or another program is started."""

    def reached(*args, **kwargs):
        raise AssertionError("too late: a decoder was reached")

    monkeypatch.setattr(ImageFile.ImageFile, "load", reached)
    monkeypatch.setattr(subprocess, "Popen", reached)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_with_its_numbers_before_it_is_decoded(name, tmp_path, undecoded):
    content, says = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    for given in (None, content):
        with pytest.raises(ImageError, match=says) as refused:
            open_image(tmp_path / name, given)
        assert "\n" not in str(refused.value)
    with pytest.raises(ImageError, match=says):
        open_numbers(Item("a", "b", "test", mask=tmp_path / name), 2)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_data_that_grows_is_refused_where_it_is_read(kind, tmp_path):
    (tmp_path / "a").write_bytes(saved(Image.new("RGB", (8, 8)), kind, exif=b"Exif\0\0" + overlapping()))
    with pytest.raises(ImageError, match="its tags claim 10,000,000 bytes, and there are 26,014"):
        open_image(tmp_path / "a")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_no_number_is_refused_and_counted(value, tmp_path):
    (tmp_path / "a.tif").write_bytes(number_tiff(value))
    with pytest.raises(ImageError, match=r"a.tif holds no finite number .* in 1 of 64 pixels; needed"):
        open_image(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(number_tiff(0.5))
    assert np.ptp(np.asarray(open_image(tmp_path / "b.tif"))) == 255


def test_a_page_of_its_own_is_told_from_a_smaller_copy(tmp_path):
    """A reader's own pyramid is one image: what the standard calls reduced, or a mask, is no page."""
    first = directory(TIFF_TAGS, following=8 + 1024 + len(directory(TIFF_TAGS)))
    start = b"II*\0" + (8 + 1024).to_bytes(4, "little") + bytes(1024) + first
    for kind, pages in ((0, 2), (1, 1), (4, 1), (2, 2)):
        (tmp_path / "a.tif").write_bytes(start + directory([(254, 4, 1, kind), *TIFF_TAGS]))
        if pages == 1:
            assert open_image(tmp_path / "a.tif").size == (32, 32)
        else:
            with pytest.raises(ImageError, match="holds 2 pages"):
                open_image(tmp_path / "a.tif")
    (tmp_path / "loop.tif").write_bytes(tiff()[:-4] + (8 + 1024).to_bytes(4, "little"))
    assert open_image(tmp_path / "loop.tif").size == (32, 32), "directories in a circle end"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_modes_that_are_read_are_read(mode, tmp_path):
    Image.new("L", (6, 4), 7).convert(mode).save(tmp_path / "a.tif")
    assert open_image(tmp_path / "a.tif").mode == "RGB"


def test_colours_without_rgb_are_refused_by_name(tmp_path):
    Image.new("LAB", (6, 4)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="a.tif has LAB colours; needed grey, RGB or CMYK"):
        open_image(tmp_path / "a.tif")


def test_every_cut_of_a_file_is_refused_in_a_sentence(tmp_path):
    """And no library's own words, which may repeat what stands in the file."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8))
    for kind in ("PNG", "TIFF", "WEBP", "BMP"):
        whole = saved(noise, kind)
        for length in range(0, len(whole) - 32, max(1, len(whole) // 25)):
            path = tmp_path / "cut"
            with pytest.raises(ImageError, match=r"cut is (not an image that|damaged or truncated; replace)"):
                open_image(path, whole[:length])


def test_memory_that_is_lacking_is_a_sentence(tmp_path, monkeypatch):
    GREY.save(tmp_path / "a.png")

    def lacking(*args):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", lacking)
    with pytest.raises(ImageError, match="a.png needs more memory to open than this machine has"):
        open_image(tmp_path / "a.png")


def test_a_file_larger_than_any_image_is_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    for read in (file_bytes, open_image):
        with pytest.raises(ImageError, match="has 1,074 MB; needed 1,074 MB at most"):
            read(tmp_path / "a.png")


def test_a_strip_is_measured_by_what_resizing_makes_of_it():
    check_resized("the image", 500, 25_000, 1024)
    with pytest.raises(ImageError, match="would be resized to 2,000 × 100,000; needed 90"):
        check_resized("the image", 500, 25_000, 2000)
    with pytest.raises(ImageError, match="one side 51 times the other"):
        check_resized("the image", 10, 510, 224)
