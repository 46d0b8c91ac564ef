"""An archive that works, one that is busy, and hostile ones: an answer, or a sentence that is true."""

from __future__ import annotations

import gzip
import zlib

import pytest

from tests.tools.certificates import OPENSSL, WITHOUT, self_signed
from tests.tools.dicom_files import dicom, films
from tests.tools.small_archive import SmallArchive
from ttr.errors import ArchiveError, ImageError, OptionError
from ttr.hospital.web import archive as archives
from ttr.hospital.web import exchange as exchanges
from ttr.hospital.web.access import PASSWORD, TOKEN, USER, Access
from ttr.hospital.web.archive import Archive, Instance, NotStoredError, Series
from ttr.hospital.web.exchange import WAITS, Exchange

IDS = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1", "Modality": "DX"}
SERIES = Series("1.2.3", "1.2.3.1", "DX")
CONTENT = dicom(**IDS)


@pytest.fixture
def served():
    with SmallArchive() as server:
        server.put(CONTENT)
        yield server


def asked(server, what, environment=None, slept=None, **more):
    access = Access.of(server.url, environment or {}, **more)
    waits = [] if slept is None else slept
    with Exchange(access, sleep=waits.append) as exchange:
        return what(Archive(exchange))


def test_series_and_instances_are_found(served):
    served.put(dicom(**{**IDS, "SeriesInstanceUID": "1.2.3.2", "Modality": "CT"}))
    film = dicom(pixels_of_a_film(), **{**IDS, "SOPInstanceUID": "1.2.3.9"})
    served.put(film)
    assert asked(served, lambda a: a.series({"Modality": "DX"})) == [SERIES]
    assert [each.modality for each in asked(served, lambda a: a.series({"StudyInstanceUID": "1.2.3"}))] == (
        ["DX", "CT"]
    )
    assert asked(served, lambda a: a.series({"StudyInstanceUID": "9"})) == []
    assert asked(served, lambda a: a.instances(SERIES)) == [Instance("1.2.3.4", 1), Instance("1.2.3.9", 3)]


def test_an_archive_that_does_not_look_at_what_is_asked_gives_no_other_series(served):
    served.put(dicom(**{**IDS, "SeriesInstanceUID": "1.2.3.2"}))
    everything = served.instances
    served.fault = lambda handler, number: (
        handler.path.replace(SERIES.series, "") != handler.path
        and (handler._list([handler._said(key, "series") for key in everything], {}) or True)
    )
    assert asked(served, lambda a: a.series({"SeriesInstanceUID": SERIES.series})) == [SERIES]


def pixels_of_a_film():
    import numpy as np

    return np.zeros((3, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("pages", [True, False])
def test_all_pages_are_read_whether_an_archive_knows_them_or_not(served, pages, monkeypatch):
    monkeypatch.setattr(archives, "PAGE", 2)
    for number in range(5):
        served.put(dicom(**{**IDS, "SOPInstanceUID": f"1.2.3.4.{number}"}))
    served.pages = pages
    assert len(asked(served, lambda a: a.instances(SERIES))) == 6


def test_pages_may_be_shorter_than_was_asked_for(served):
    for number in range(5):
        served.put(dicom(**{**IDS, "SOPInstanceUID": f"1.2.3.4.{number}"}))
    served.most = 2
    assert len(asked(served, lambda a: a.instances(SERIES))) == 6


def test_what_has_no_valid_uid_is_left_out_and_counted(served):
    served.instances["1.2.3", "1.2.3.07", "1.2.3.4"] = CONTENT

    def look(archive):
        return archive.series({}), archive.nameless

    assert asked(served, look) == ([SERIES], 1)


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_without_its_archive_is_no_instances_fault(served, status, tmp_path):
    served.fault = answers(status=status)
    with pytest.raises(ArchiveError, match="was asked 5 times") as caught:
        asked(served, lambda a: a.fetch(SERIES, "1.2.3.4", tmp_path / "a.dcm"))
    assert not isinstance(caught.value, ImageError)


def test_an_archive_that_finds_without_end_is_left(served, monkeypatch):
    monkeypatch.setattr(archives, "PAGE", 2)
    monkeypatch.setattr(archives, "MOST_INSTANCES", 3)
    for number in range(5):
        served.put(dicom(**{**IDS, "SOPInstanceUID": f"1.2.3.4.{number}"}))
    with pytest.raises(ArchiveError, match="more than 3; needed fewer"):
        asked(served, lambda a: a.instances(SERIES))


def test_an_instance_comes_as_it_is_stored(served, tmp_path):
    asked(served, lambda a: a.fetch(SERIES, "1.2.3.4", tmp_path / "a.dcm"))
    assert (tmp_path / "a.dcm").read_bytes() == CONTENT
    film = films()["jpeg"]
    served.instances["1.2.3", "1.2.3.1", "1.2.3.8"] = film
    asked(served, lambda a: a.fetch(SERIES, "1.2.3.8", tmp_path / "b.dcm"))
    assert (tmp_path / "b.dcm").read_bytes() == film


def test_an_instance_is_stored_or_refused(served):
    new = dicom(**{**IDS, "SOPInstanceUID": "1.2.3.5"})
    asked(served, lambda a: a.store("1.2.3", "1.2.3.5", new))
    assert served.instances["1.2.3", "1.2.3.1", "1.2.3.5"] == new
    served.refused = {"1.2.3.5"}
    with pytest.raises(NotStoredError, match=r"1\.2\.3\.5 \(status 409, reason C000\)"):
        asked(served, lambda a: a.store("1.2.3", "1.2.3.5", new))


@pytest.mark.parametrize(
    ("environment", "login", "token"),
    [({USER: "eve", PASSWORD: "right"}, ("eve", "right"), ""), ({TOKEN: "right"}, None, "right")],
)
def test_who_may_is_let_in_and_a_wrong_password_is_said(served, environment, login, token):
    served.login, served.token = login, token
    assert asked(served, lambda a: a.series({}), environment) == [SERIES]
    wrong = {key: "wrong" if value == "right" else value for key, value in environment.items()}
    for others in ({}, wrong):
        with pytest.raises(ArchiveError, match=r"refuses whoever asks \(401\); set TTR_PACS_USER") as refused:
            asked(served, lambda a: a.series({}), others)
        assert "wrong" not in str(refused.value)


def answers(**options):
    """Return a fault: this answer, always."""

    def fault(handler, number):
        handler.say(options.get("status", 200), *options.get("what", ()), **options.get("head", {}))
        return True

    return fault


HTML = b"<html>please log in", "text/html"
JSON = "application/dicom+json"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (answers(what=HTML), "answered with text/html, not with application/dicom"),
        (answers(status=404), "has nothing there"),
        (answers(status=500), "answered with 500"),
        (answers(what=(b"x", "te\x1b[31mxt/html")), "with something else, not with"),
        (answers(what=(b"no json", JSON)), "no JSON"),
        (answers(what=(b"[" * 5000, JSON)), "no JSON"),
        (answers(what=(b'{"a": 1}', JSON)), "no list of data sets"),
        (answers(what=(b"[{}]", JSON)), "without a valid UID"),
        (answers(what=(b"[]", JSON), head={"Content_Encoding": "br"}), "not asked for"),
        (answers(what=(b"no gzip", JSON), head={"Content_Encoding": "gzip"}), "damaged"),
    ],
    ids=["html", "404", "500", "escape", "no json", "deep", "object", "no uid", "brotli", "damaged"],
)
def test_a_strange_answer_is_a_true_sentence(served, fault, says):
    served.fault = fault
    with pytest.raises(ArchiveError, match=says):
        asked(served, lambda a: a.series({"Modality": "DX"}))
    assert len(served.requests) == 1, "what cannot help is not tried again"


@pytest.mark.parametrize("packed", [False, True])
def test_a_huge_answer_is_cut_off(served, packed, monkeypatch):
    monkeypatch.setattr(archives, "MOST_JSON", 1 << 16)
    content = b"[" + b" " * (1 << 24) + b"]"
    head = {"Content_Encoding": "gzip"} if packed else {}
    served.fault = answers(what=(gzip.compress(content) if packed else content, JSON), head=head)
    with pytest.raises(ArchiveError, match="more than 0 MB in one answer"):
        asked(served, lambda a: a.series({}))


def test_a_bomb_in_place_of_an_instance_ends_at_the_limit(served, monkeypatch, tmp_path):
    monkeypatch.setattr(archives, "MOST_BYTES", 1 << 16)

    def fault(handler, number):
        body = b"--b\r\n\r\n" + bytes(1 << 24)
        handler.say(200, zlib.compress(body), "multipart/related; boundary=b", Content_Encoding="deflate")
        return True

    served.fault = fault
    with pytest.raises(ImageError, match="in one answer"):
        asked(served, lambda a: a.fetch(SERIES, "1.2.3.4", tmp_path / "a.dcm"))
    assert (tmp_path / "a.dcm").stat().st_size <= 1 << 18


@pytest.mark.parametrize(
    "fault",
    [
        answers(what=(b"--b\r\n\r\nx", "multipart/related; boundary=b")),
        answers(status=404),
        answers(status=406),
    ],
    ids=["cut", "gone", "not so"],
)
def test_an_instance_that_does_not_come_is_that_instances_fault(served, fault, tmp_path):
    served.fault = fault
    with pytest.raises(ImageError):
        asked(served, lambda a: a.fetch(SERIES, "1.2.3.4", tmp_path / "a.dcm"))


def test_a_redirect_is_not_followed(served):
    with SmallArchive(login=("a", "b")) as other:
        served.fault = answers(status=307, head={"Location": other.url})
        with pytest.raises(ArchiveError, match=r"sends on to 127\.0\.0\.1:\d+ \(307\), where no login"):
            asked(served, lambda a: a.series({}), {USER: "eve", PASSWORD: "right"})
        assert other.requests == []


def test_a_busy_archive_is_asked_again_when_it_says(served):
    def fault(handler, number):
        if number > 3:
            return False
        head = {"Retry_After": "7"} if number == 2 else {}
        handler.say(503 if number < 3 else 429, **head)
        return True

    served.fault, slept = fault, []
    assert asked(served, lambda a: a.series({}), slept=slept) == [SERIES]
    assert slept == [WAITS[0], 7.0, WAITS[2]]


def test_one_that_stays_busy_is_left_with_a_sentence(served):
    served.fault, slept = answers(status=503, head={"Retry_After": "99999"}), []
    with pytest.raises(ArchiveError, match=r"is busy \(503\), and was asked 5 times"):
        asked(served, lambda a: a.series({}), slept=slept)
    assert slept == [exchanges.LONGEST_WAIT] * len(WAITS)


def test_a_connection_that_breaks_is_tried_again(served, tmp_path):
    def fault(handler, number):
        if number > 1:
            return False
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/related; boundary=b")
        handler.send_header("Content-Length", "99999")
        handler.end_headers()
        handler.wfile.write(b"--b\r\n\r\n" + bytes(500))
        handler.close_connection = True
        return True

    served.fault = fault
    asked(served, lambda a: a.fetch(SERIES, "1.2.3.4", tmp_path / "a.dcm"))
    assert (tmp_path / "a.dcm").read_bytes() == CONTENT, "from the start, not behind what came before"


def test_an_answer_that_takes_for_ever_is_left(served, monkeypatch):
    monkeypatch.setattr(exchanges, "WHOLE", -1.0)
    with pytest.raises(ArchiveError, match="minutes for one answer; try again later"):
        asked(served, lambda a: a.series({}))


def without_end(first, again):
    """Return a fault: bytes of which no answer ever comes."""

    def fault(handler, number):
        handler.wfile.write(first)
        while True:  # until the other side hangs up
            handler.wfile.write(again)

    return fault


PACKING = zlib.compressobj(wbits=31)
EMPTY = PACKING.compress(b"") + PACKING.flush(zlib.Z_SYNC_FLUSH)
HEAD = f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\n".encode()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "minutes for one answer"),
        (
            without_end(HEAD + b"Content-Encoding: gzip\r\n\r\n" + EMPTY, b"\0\0\0\xff\xff" * 999),
            "sends more",
        ),
    ],
    ids=["100", "packed nothing"],
)
def test_an_answer_without_a_byte_in_it_ends_too(served, fault, says, monkeypatch):
    monkeypatch.setattr(exchanges, "WHOLE", 0.2 if "minutes" in says else 600.0)
    monkeypatch.setattr(archives, "MOST_JSON", 1 << 16)
    served.fault = fault
    with pytest.raises(ArchiveError, match=says):
        asked(served, lambda a: a.series({}))


def test_nobody_there_is_said(served):
    served.close()
    with pytest.raises(ArchiveError, match="cannot be reached, and was asked 5 times"):
        asked(served, lambda a: a.series({}))


def test_a_proxy_of_the_environment_is_not_asked(served, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert asked(served, lambda a: a.series({})) == [SERIES]


@pytest.mark.parametrize("uid", ["../9", "1.2/3", "", "1.2.3?x=1"])
def test_what_is_no_uid_is_not_asked_for(served, uid, tmp_path):
    for what in (
        lambda a: a.instances(Series("1.2", uid)),
        lambda a: a.fetch(SERIES, uid, tmp_path / "a"),
        lambda a: a.store(uid, "1.2", b""),
    ):
        with pytest.raises(OptionError, match="is no UID"):
            asked(served, what)
    assert served.requests == []


@pytest.mark.skipif(OPENSSL is None, reason=WITHOUT)
def test_a_certificate_is_trusted_only_where_it_is_given(tmp_path):
    both, certificate = self_signed(tmp_path)
    with SmallArchive(certificate=both) as served:
        with pytest.raises(ArchiveError, match=r"certificate that is not trusted \(self.signed"):
            asked(served, lambda a: a.series({}))
        assert served.requests == []
        assert asked(served, lambda a: a.series({}), ca=certificate) == []


@pytest.mark.skipif(OPENSSL is None, reason=WITHOUT)
def test_a_certificate_of_another_name_is_not_trusted(tmp_path):
    both, certificate = self_signed(tmp_path, "DNS:elsewhere.example.org")
    with SmallArchive(certificate=both) as served, pytest.raises(ArchiveError, match="not trusted"):
        asked(served, lambda a: a.series({}), ca=certificate)
