"""What a visitor's file does to the process that decodes it ends there."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.tools.dicom_files import RAMP, write
from tests.tools.hostile_files import png, saved
from ttr.apps.image import readers
from ttr.apps.image.decoding import decode, unpacked
from ttr.apps.image.intake import take_in_bytes
from ttr.apps.image.readers import CODE, Readers
from ttr.errors import ImageError

GOOD = saved(Image.new("RGB", (40, 30), (9, 90, 200)), "PNG")
#: What stands in place of a decoder: one that does as the file says.
OBEDIENT = (
    "import os, sys, time; sys.path[:] = sys.argv[3:]; from ttr.apps.image import readers\n"
    "def decode(content):\n"
    "    if content == b'sleep': time.sleep(3600)\n"
    "    while content == b'spin': pass\n"
    "    if content == b'fall': os.abort()\n"
    "    if content == b'say': sys.stdout.write('x' * 99); os.write(1, b'y' * 99)\n"
    "    if content == b'fill': return bytearray(2**40)\n"
    "    if content == b'write': open(sys.argv[-1] + '/here', 'wb').write(bytes(9))\n"
    "    return real(content if len(content) > 9 else GOOD)\n"
    f"GOOD = {GOOD!r}; real, readers.decode = readers.decode, decode; readers.main()"
)


@pytest.fixture
def reading():
    """Readers that are ended after the test."""
    made: list[Readers] = []

    def make(**limits):
        made.append(Readers(**limits))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def obedient(monkeypatch):
    """Readers begin with a decoder that does as the file says."""
    monkeypatch.setattr(readers, "CODE", OBEDIENT)


def test_what_is_decoded_elsewhere_is_what_is_decoded_here(reading, tmp_path):
    apart = reading()
    table = {
        "PixelPaddingValue": 0,
        "PixelSpacing": [2, 1],
        "WindowCenter": [300, 9],
        "WindowWidth": [600, 9],
    }
    for content in (
        GOOD,
        write(tmp_path / "a.dcm", RAMP, RescaleSlope=2, RescaleIntercept=-5, **table).read_bytes(),
    ):
        here, there = decode(content), apart.decode(content)
        assert (here.kind, here.image.size) == (there.kind, there.image.size)
        assert np.array_equal(np.asarray(here.image), np.asarray(there.image))
    before, after = here.radiograph, there.radiograph
    for window in (None, *before.windows):
        assert np.array_equal(np.asarray(before.image(window)), np.asarray(after.image(window)))
    assert before.windows == after.windows
    assert {
        k: v for k, v in vars(before).items() if k not in ("values", "padding", "_first")
    }.items() <= vars(after).items()
    assert len(apart._all) == 1, "one reader decodes one file after the other"


def test_the_readers_refusal_is_the_files_own(reading):
    apart = reading()
    for content in (b"no image", png(16, 2_500_000), png(7_000, 7_000)):
        with pytest.raises(ImageError) as here:
            decode(content)
        with pytest.raises(ImageError) as there:
            apart.decode(content)
        assert str(here.value) == str(there.value)
    assert "needed 40 million at most" in str(there.value), "the page's own limit"
    assert apart.decode(GOOD).image.size == (40, 30)


def test_a_file_that_never_ends_is_ended_and_another_is_answered_meanwhile(reading, obedient):
    apart = reading(seconds=36)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(apart.decode, b"sleep")
        while not apart._all:
            time.sleep(0.01)
        assert apart.decode(GOOD).image.size == (40, 30)
        assert not slow.done()
        (busy,) = apart._all - set(apart._idle)
        busy._end_overdue()  # as its timer does
        with pytest.raises(
            ImageError, match="this file took longer than 36 seconds to open; save it smaller"
        ):
            slow.result()
    assert busy.process.poll() is not None


def test_who_waits_for_a_file_is_let_go_when_the_page_is_closed(reading, obedient):
    apart = reading()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(apart.decode, b"sleep")
        while not apart._all:
            time.sleep(0.01)
        apart.close()
        with pytest.raises(ImageError, match="could not be opened"):
            slow.result()
    with pytest.raises(readers.TTRError, match="the page is being closed"):
        apart.decode(GOOD)


def test_the_time_of_a_file_is_bounded_on_the_clock_and_in_computing(reading, obedient, monkeypatch):
    with pytest.raises(ImageError, match=r"this file took longer than 0.1 seconds to open"):
        reading(seconds=0.1).decode(b"sleep")
    monkeypatch.setattr(readers, "BUSY", 10_000)
    with pytest.raises(ImageError, match=r"this file took longer than 0.2 seconds to open"):
        reading(seconds=0.2).decode(b"spin")


def test_the_next_file_is_read_whatever_the_last_one_did(reading, obedient, tmp_path):
    apart = reading(memory=2**30)
    needs = "needs more memory to open than this machine has"
    ends = "could not be opened within 1.0 GB of memory, or is damaged"
    for content, says in ((b"fill", needs), (b"fall", ends), (b"write", ends)):
        with pytest.raises(ImageError, match=says):
            apart.decode(content)
        assert apart.decode(b"good").image.size == (40, 30)
    assert apart.decode(b"say").image.size == (40, 30), "what a library prints is no answer"
    (reader,) = apart._all
    reader.process.kill()
    reader.process.wait()
    assert apart.decode(b"good").image.size == (40, 30), "one that died meanwhile is replaced"


def test_a_picture_that_needs_more_than_the_readers_memory_is_refused(reading):
    apart = reading(memory=20 * 2**20)
    with pytest.raises(ImageError, match="needs more memory to open"):
        apart.decode(png(7000, 5000))
    assert apart.decode(GOOD).image.size == (40, 30)


def test_a_reader_gets_no_secret_and_ends_with_the_page(reading, monkeypatch):
    monkeypatch.setenv("TTR_APP_PASSWORD", "correct horse")
    apart = reading()
    apart.decode(GOOD)
    (reader,) = apart._all
    if os.path.exists(f"/proc/{reader.process.pid}/environ"):
        with open(f"/proc/{reader.process.pid}/environ", "rb") as said:
            assert b"correct horse" not in said.read()
    reader.process.stdin.close()  # as the end of this process does
    assert reader.process.wait(60) == 0


def test_an_answer_that_is_none_is_not_believed():
    for arrays in ({"image": ["|O", [1]]}, {"image": ["|u1", [10**6, 10**6, 3]]}):
        with pytest.raises(ValueError, match=r"something else than numbers|more than was allowed"):
            unpacked({"kind": "PNG", "arrays": arrays}, lambda place: None)


def test_a_reader_that_cannot_be_started_is_a_sentence(reading, monkeypatch):
    def refused(*args, **options):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(readers.subprocess, "Popen", refused)
    with pytest.raises(readers.TTRError, match="no file can be opened now"):
        reading().decode(GOOD)


def test_threads_share_the_readers(reading):
    apart = reading()
    with ThreadPoolExecutor(6) as pool:
        assert {found.image.size for found in pool.map(apart.decode, [GOOD] * 30)} == {(40, 30)}
    assert 1 <= len(apart._all) <= readers.PLACES
    assert threading.active_count() < 30
    assert CODE.startswith("import sys")


def test_the_page_reads_through_them(monkeypatch):
    asked = []
    monkeypatch.setattr(readers.READERS, "decode", lambda content: asked.append(content) or decode(content))
    assert take_in_bytes(GOOD).image.size == (40, 30)
    assert asked == [GOOD]
