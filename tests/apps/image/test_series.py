"""Which of several files are one series, and in which order its images stand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.tools.dicom_files import RAMP, films, write
from tests.tools.readers_here import ReadersHere
from ttr.apps.image import series, stack
from ttr.apps.image.series import check_extent, given, natural
from ttr.apps.image.stack import read_stack
from ttr.datasets.dicom import elements
from ttr.errors import ImageError

AXIAL = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SeriesInstanceUID": "1.2.3", "Modality": "CT"}
LARGE = np.kron(RAMP, np.ones((2, 2), np.uint16))


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Files are decoded in this process; what readers add is tested beside them."""
    for module in (series, stack):
        monkeypatch.setattr(module, "READERS", ReadersHere())


def names(found):
    return [
        f"{found.sources[file].name}#{frame}"
        if found.sources[file].survey.member.frames > 1
        else found.sources[file].name
        for file, frame in found.images
    ]


def files(tmp_path, tags):
    """Write a file of each name, and return their paths as they come."""
    return [str(write(tmp_path / name, LARGE, **each)) for name, each in tags.items()]


def test_a_place_in_the_patient_goes_before_a_number_and_a_number_before_a_name(tmp_path):
    numbered = {f"{name}.dcm": {**AXIAL, "InstanceNumber": n} for name, n in (("a", 2), ("b", 3), ("c", 1))}
    placed = {
        name: {**tags, "ImagePositionPatient": [0, 0, z]}
        for (name, tags), z in zip(numbered.items(), (0, -5, 9), strict=True)
    }
    for tags, order, said in (
        (placed, "bac", "by their place in the patient"),
        (numbered, "cab", "by their numbers in the series"),
        ({f"{n}.dcm": AXIAL for n in ("im10", "im2", "im1")}, ("im1", "im2", "im10"), "by name"),
    ):
        (found,) = given(files(tmp_path / said, tags)).series
        assert names(found) == [f"{each}.dcm" for each in order]
        assert (found.order, found.in_space) == (said, tags is placed)
        assert found.label == "CT, 16 × 16, 3 images"


def test_a_file_that_was_not_brought_over_whole_is_said_to_be_empty(tmp_path):
    (tmp_path / "a.dcm").touch()
    with pytest.raises(ImageError, match="this file is empty; choose another"):
        given([str(tmp_path / "a.dcm")])


def test_names_are_ordered_as_a_person_does():
    assert sorted(["b2", "a10", "A9", "a", "10", "²"], key=natural) == ["10", "a", "A9", "a10", "b2", "²"]


def test_files_of_several_series_are_told_apart_in_numbers_the_largest_first(tmp_path):
    tags = {
        **{f"a{n}.dcm": {**AXIAL, "SeriesNumber": 2} for n in range(2)},
        **{f"b{n}.dcm": {**AXIAL, "SeriesInstanceUID": "9", "SeriesNumber": 7} for n in range(3)},
        **{f"c{n}.dcm": {**AXIAL, "SeriesInstanceUID": "8", "SeriesNumber": 2} for n in range(2)},
    }
    Image.new("L", (40, 30)).save(tmp_path / "d.png")
    (tmp_path / "e.txt").write_text("no image")
    found = given([*files(tmp_path, tags), str(tmp_path / "d.png"), str(tmp_path / "e.txt")])
    assert [each.label for each in found.series] == [
        "CT, 16 × 16, 3 images, series 7",
        "CT, 16 × 16, 2 images, series 2",
        "CT, 16 × 16, 2 images, series 2 (2)",
        "PNG, 40 × 30, 1 image",
    ]
    assert found.refused.startswith("Of 9 files e.txt cannot be opened and is left out: this file is not an")
    assert [each.is_stack for each in found.series] == [True, True, True, False]


def test_what_is_no_image_or_too_much_is_refused(tmp_path, monkeypatch):
    (tmp_path / "e.txt").write_text("no image")
    with pytest.raises(ImageError, match="not an image that can be read"):
        given([str(tmp_path / "e.txt")])
    with pytest.raises(ImageError, match="got 501 files; needed 500 at most"):
        given([str(tmp_path / "e.txt")] * 501)
    (found,) = given(files(tmp_path, {f"{n}.dcm": AXIAL for n in range(3)})).series
    monkeypatch.setattr(series, "MOST_STACK_PIXELS", 3 * 256 - 1)
    with pytest.raises(ImageError, match="in 3 images; needed 0 million at most"):
        check_extent(found)
    monkeypatch.setattr(series, "MOST_SLICES", 2)
    with pytest.raises(ImageError, match="this series has 3 images; needed 2 at most"):
        read_stack(found)


def test_a_stack_holds_each_frame_as_it_is_decoded_alone(tmp_path):
    frames = (np.arange(3 * 576, dtype=np.uint16).reshape(3, 24, 24) * 7) % 4096
    tags = {"RescaleIntercept": -1024, "RescaleSlope": 1, "Modality": "CT", "FrameTime": 50}
    film = write(tmp_path / "film.dcm", frames, **tags)
    (found,) = given([str(film)]).series
    held = read_stack(found)
    assert [each.name for each in held.slices] == ["film.dcm#1", "film.dcm#2", "film.dcm#3"]
    assert (held.rate, held.first, found.order) == (20.0, 0, "as the file has them")
    for index, frame in enumerate(frames):
        alone = series.READERS.frames(write(tmp_path / "a.dcm", frame, **tags).read_bytes(), 1)[0]
        picture = held.picture(index)
        assert held.slices[index].radiograph.values.dtype == np.int16
        np.testing.assert_array_equal(picture.radiograph.values, frame.astype(int) - 1024)
        assert picture.image.tobytes() == alone.image.tobytes()
        assert (picture.slice.index, picture.slice.of, picture.slice.frame) == (index, 3, index + 1)
    assert len({held.part(n).identity(None) for n in range(3)}) == 3


def test_a_deflated_film_is_inflated_once(tmp_path, monkeypatch):
    """Frame by frame a minute would go by on a hundred of them."""
    kinds = films()
    plain, deflated = ((tmp_path / name).with_suffix(".dcm") for name in ("plain", "deflated"))
    for path in (plain, deflated):
        path.write_bytes(kinds[path.stem])
    (found,), (packed,) = (given([str(path)]).series for path in (plain, deflated))
    times = []
    inflated = elements.inflated
    monkeypatch.setattr(elements, "inflated", lambda *asked: times.append(asked) or inflated(*asked))
    for one, other in zip(read_stack(found).slices, read_stack(packed).slices, strict=True):
        np.testing.assert_array_equal(one.radiograph.values, other.radiograph.values)
    assert len(times) == 1


def test_the_pages_of_a_tiff_are_a_stack_and_its_small_copies_are_none(tmp_path):
    pages = [Image.new("RGB", (20, 30), (n, 9, 200)) for n in range(3)]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    (found,) = given([str(tmp_path / "a.tiff")]).series
    held = read_stack(found)
    assert [held.picture(n).image.getpixel((3, 4)) for n in range(3)] == [(n, 9, 200) for n in range(3)]
    assert found.label == "TIFF, 20 × 30, 3 images"


def test_images_of_one_series_that_are_not_of_one_size_are_refused(tmp_path):
    """Their headers agree; one of them is turned by its EXIF."""
    for name, turned in (("a", 1), ("b", 6)):
        image = Image.new("RGB", (20, 30))
        exif = image.getexif()
        exif[0x0112] = turned
        image.save(tmp_path / f"{name}.jpg", exif=exif)
    (found,) = given([str(tmp_path / f"{name}.jpg") for name in "ab"]).series
    with pytest.raises(ImageError, match=r"b.jpg has 30 × 20 pixels .* first of its series 20 × 30"):
        read_stack(found)
