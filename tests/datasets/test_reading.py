"""Images read ahead: in order, named, bad ones refused or left out, never more than a few at once."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from PIL import Image

from ttr.datasets.registry import OpenedImages, ReadAhead, called, in_memory, renamed
from ttr.errors import ImageError
from ttr.run import Run

COUNT = 12


def number(n: int) -> Image.Image:
    return Image.new("L", (1, 1), n)


def opener(bad=()):
    def opened(n):
        if n in bad:
            raise ImageError(f"{n} is damaged")
        return number(n)

    return opened


def values(images) -> list[int]:
    return [image.getpixel((0, 0)) for image in images]


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_images_come_in_order_with_their_names_and_again_when_asked_again(workers):
    reading = ReadAhead(OpenedImages(range(COUNT), opener()), Run(workers=workers))
    assert len(reading) == COUNT
    for _ in range(2):
        assert values(reading) == list(range(COUNT))
        assert reading.names == [str(n) for n in range(COUNT)]
        assert reading.skipped == {}


def test_a_bad_image_is_left_out_by_name_and_the_others_keep_their_names():
    reading = ReadAhead(OpenedImages(range(COUNT), opener({3, 11})), Run(on_error="skip"))
    for seen, image in enumerate(reading):
        assert reading.names[seen] == str(image.getpixel((0, 0)))
    assert reading.skipped == {"3": "3 is damaged", "11": "11 is damaged"}
    assert len(reading.names) == COUNT - 2


def test_a_bad_image_ends_the_run_where_it_stands():
    reading, got = ReadAhead(OpenedImages(range(COUNT), opener({3})), Run()), []
    with pytest.raises(ImageError, match="3 is damaged"):
        got.extend(values(reading))
    assert values(ReadAhead(OpenedImages(range(3), opener()), Run())) == [0, 1, 2]


def test_not_one_readable_image_is_refused_with_the_first_reason():
    reading = ReadAhead(OpenedImages(range(2), opener({0, 1})), Run(on_error="skip"))
    with pytest.raises(ImageError, match="not one of 2 images could be read; the first: 0 is damaged"):
        list(reading)
    assert list(ReadAhead(OpenedImages(()), Run())) == []


def test_what_is_no_fault_of_an_image_is_not_taken_for_one():
    def broken(n):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(ReadAhead(OpenedImages(range(3), broken), Run(on_error="skip")))


def test_no_more_are_opened_than_threads_may_run_ahead():
    opened = []

    def counted(n):
        opened.append(n)
        return number(n)

    workers = 2
    for seen, _ in enumerate(ReadAhead(OpenedImages(range(COUNT), counted), Run(workers=workers))):
        assert len(opened) <= seen + 1 + workers
    assert sorted(opened) == list(range(COUNT))


def test_who_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    reading = iter(ReadAhead(OpenedImages(range(COUNT), opener()), Run(workers=3)))
    next(reading)
    reading.close()
    assert threading.active_count() == before


def test_hashes_are_of_the_files_and_a_missing_one_has_a_text_of_its_own(tmp_path):
    number(7).save(tmp_path / "a.png")
    images = OpenedImages([tmp_path / "a.png", tmp_path / "none.png"])
    first, second = images.hashes()
    assert first == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    assert second == f"unreadable {tmp_path / 'none.png'}"
    assert images.take([1]).names == [str(tmp_path / "none.png")]


def test_images_that_are_open_already_have_names_and_hashes():
    images = in_memory({"one": number(1), "two": number(2), "again": number(1)})
    assert values(images) == [1, 2, 1]
    assert images.names == ["one", "two", "again"]
    one, two, again = images.hashes()
    assert one == again != two


def test_a_refusal_calls_a_file_by_its_name_wherever_its_path_or_a_part_of_it_stood(tmp_path):
    path = tmp_path / "DOE^JANE" / "scan 1.png"
    said = f"image {path} cannot be read ([Errno 2] '{path}'; scan 1.png; {path.parent})"
    assert renamed(said, "image 7", path) == (
        "image 7 cannot be read ([Errno 2] 'image 7'; image 7; image 7)"
    )
    below = renamed(said, "DOE^JANE/scan 1.png", path)
    assert below.startswith("image DOE^JANE/scan 1.png cannot be read")
    assert str(tmp_path) not in below
    assert renamed(f"image {path} is damaged", "the mask of a.png", path) == "the mask of a.png is damaged"
    assert renamed("/data/12 holds 12 frames", "a/12", Path("/data/12")) == "a/12 holds 12 frames"
    image = Path("/data/image.png")
    assert renamed(f"{image} is not an image", "image 7", image) == "image 7 is not an image"
    assert renamed(f"image {image} does not exist", "image.png", image) == "image image.png does not exist"


@pytest.mark.parametrize(
    "name", ["DOE\nJANE.dcm", "DOE  JANE.dcm", "DO\x1bE JANE.dcm", "DOE" + "x" * 500 + ".dcm"]
)
def test_a_name_that_is_shown_otherwise_than_it_is_written_stays_away_too(name):
    path = Path("/data/DOE^JANE") / name
    with pytest.raises(ImageError) as caught, called("image 7", path):
        raise ImageError(f"{path} is damaged; {name!r}")
    assert str(caught.value) == "image 7 is damaged; 'image 7'"
    told = ImageError(f"image 8: {ImageError(f'{path} is damaged')}")
    assert renamed(str(told), "image 7", path) == "image 8: image 7 is damaged"


def test_what_a_refusal_was_made_of_is_not_told_with_it(tmp_path):
    path = tmp_path / "DOE^JANE.png"
    with pytest.raises(ImageError, match="^image 7 is damaged") as caught, called("image 7", path):
        raise ImageError(f"{path} is damaged") from OSError(f"no {path}")
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None
