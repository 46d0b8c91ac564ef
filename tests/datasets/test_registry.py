import logging
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from ttr.datasets.registry import OpenedImages, list_images, open_image, sample_paths
from ttr.errors import ImageError


def test_the_samples_are_small_and_have_their_attribution():
    for path in sample_paths().values():
        image = open_image(path)
        assert max(image.size) <= 512
        assert image.mode == "RGB"
        assert path.name in (path.parent / "ATTRIBUTION.md").read_text()
        assert not Image.open(path).info, "nothing of the source's header is kept"


def test_folders_are_searched_below_and_sorted(tmp_path):
    for name in ("b/2.PNG", "b/1.jpg", "a.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert [str(p.relative_to(tmp_path)) for p in list_images(tmp_path)] == ["a.tif", "b/1.jpg", "b/2.PNG"]
    assert [i.size for i in OpenedImages(list_images(tmp_path))] == [(4, 4)] * 3


def test_empty_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(ImageError, match="no images found"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="does not exist"):
        list_images(tmp_path / "none")


def test_damaged_images_are_refused_by_name(tmp_path):
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(whole)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(ImageError, match=r"cut.png is damaged or truncated"):
        open_image(cut)
    text = tmp_path / "text.png"
    text.write_text("hello")
    with pytest.raises(ImageError, match=r"text.png is not an image"):
        open_image(text)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match="not an image"):
        open_image(tmp_path / "empty.png")
    with pytest.raises(ImageError, match="does not exist"):
        open_image(tmp_path / "none.png")


def test_an_image_too_large_to_be_safe_is_refused(tmp_path, monkeypatch):
    Image.new("L", (200, 200)).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match=r"large.png has too many pixels to open safely \(200 × 200\)"):
        open_image(tmp_path / "large.png", most_pixels=10_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(ImageError, match=r"too many pixels to open safely \(40,000\)"):
        open_image(tmp_path / "large.png")


def test_sixteen_bits_transparency_and_orientation(tmp_path):
    ramp = np.linspace(100, 4095, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    deep = np.asarray(open_image(tmp_path / "deep.png"))
    assert (deep.min(), deep.max()) == (0, 255)
    assert (np.diff(deep[..., 0].ravel().astype(int)) >= 0).all()
    Image.new("RGBA", (4, 4), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    assert np.asarray(open_image(tmp_path / "clear.png")).max() == 0
    turned = Image.new("RGB", (6, 3))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert open_image(tmp_path / "turned.jpg").size == (3, 6)


def test_a_file_in_place_of_a_folder_is_called_a_file(tmp_path):
    (tmp_path / "one.png").touch()
    with pytest.raises(ImageError, match=r"one.png is a file; needed a folder"):
        list_images(tmp_path / "one.png")


def test_a_path_may_be_a_string(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "one.png")
    assert open_image(str(tmp_path / "one.png")).size == (3, 2)


def test_threads_leave_the_processs_warnings_and_logs_as_they_were(tmp_path):
    """Filters and log levels belong to all threads; two that restored each other's would change them."""
    for number in range(8):
        Image.new("RGB", (30, 30)).save(tmp_path / f"{number}.png")
    paths = list_images(tmp_path) * 20
    filters, level = list(warnings.filters), logging.getLogger("pydicom").level
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(open_image, paths))) == len(paths)
    assert warnings.filters == filters
    assert logging.getLogger("pydicom").level == level
