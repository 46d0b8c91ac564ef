"""Queries, messages and DICOM's JSON: what is taken of them, and what is refused without being repeated."""

from __future__ import annotations

from datetime import date

import pytest

from tests.tools.dicom_files import dicom
from ttr.errors import ArchiveError, ImageError, OptionError
from ttr.hospital.web import messages
from ttr.hospital.web.messages import message, of_day, parse_query, single_part

HEAD = 'multipart/related; type="application/dicom"; boundary=b'


def test_a_query_names_attributes_by_keyword_or_tag():
    assert parse_query("Modality=DX&00080020=20260101-&PatientName=M%C3%BCller*") == {
        "Modality": "DX",
        "00080020": "20260101-",
        "PatientName": "Müller*",
    }


@pytest.mark.parametrize(
    "text",
    [
        *("", "Modality", "Modality=", "Modality=*", "Nothing=1", "limit=5", "OFFSET=1", "includefield=all"),
        *("Modality=DX&Modality=CT", "a/b=1", "0008002=1", "StudyDate=1%0a2", "&".join(["Modality=1"] * 99)),
    ],
)
def test_what_is_no_query_is_refused(text):
    with pytest.raises(OptionError, match="--query"):
        parse_query(text)


def test_a_refusal_repeats_no_value():
    with pytest.raises(OptionError) as refused:
        parse_query("PatientName=Muster&Nothing=Secret")
    assert "Muster" not in str(refused.value)
    assert "Secret" not in str(refused.value)


def test_today_is_the_day_of_asking():
    assert of_day({"StudyDate": "today", "Modality": "DX"}, date(2026, 1, 9)) == {
        "StudyDate": "20260109",
        "Modality": "DX",
    }
    assert of_day({"StudyDate": "Today"}, date(2026, 1, 1), on=True) == {"StudyDate": "20251231-"}


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_an_instance_survives_its_message_however_it_is_cut(size):
    content = dicom() + b"\r\n--b\r-\r\n--ttr\r\n"
    body, head = message(content)
    whole = b"".join(body)
    assert head["Content-Length"] == str(len(whole))
    chunks = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert b"".join(single_part(head["Content-Type"], chunks)) == content


def parts(*contents):
    return b"".join(b"\r\n--b\r\n\r\n" + each for each in contents) + b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (HEAD, parts(b"x")[:-8]),
        (HEAD, parts(b"x", b"y")),
        (HEAD, b"\r\n--b--\r\n"),
        (HEAD, b"<html>"),
        (HEAD, b""),
        (HEAD, b"--b\r\n" + b"a: b\r\n" * 99 + b"\r\nx\r\n--b--\r\n"),
        ("multipart/related", parts(b"x")),
        (HEAD + "b" * 999, parts(b"x")),
    ],
    ids=["cut", "two", "none", "html", "empty", "many heads", "no boundary", "long boundary"],
)
def test_a_message_of_no_single_instance_is_refused(head, body, capsys):
    with pytest.raises(ImageError, match="no single whole instance"):
        list(single_part(head, [body]))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("value", [None, {}, [1], "x", [[]]])
def test_json_of_something_else_is_refused(value):
    with pytest.raises(ArchiveError, match="no list of data sets"):
        messages.objects(value)


@pytest.mark.parametrize("value", ["1.2.3/../4", "1.2.3\n", "", None, 5, {"a": 1}, [], "1" * 65])
def test_only_a_valid_uid_is_one(value):
    with pytest.raises(ArchiveError, match="valid UID"):
        messages.uid({"0020000D": {"vr": "UI", "Value": [value]}}, "0020000D")
    assert messages.uid({"0020000D": {"Value": ["1.2.3"]}}, "0020000D") == "1.2.3"


def test_numbers_and_codes_are_taken_as_far_as_they_are_some():
    def data(value):
        return {"a": {"Value": [value]}}

    assert [messages.whole(data(each), "a") for each in (5, "7", -1, True, "x", None, 1.5, "²", 1e99)] == (
        [5, 7, *[None] * 7]
    )
    assert [messages.word(data(each), "a") for each in ("DX", "dx", "<b>", 5, "A" * 17)] == ["DX", *[""] * 4]
    assert messages.values({"a": 5}, "a") == messages.values({"a": {"Value": 5}}, "a") == []
