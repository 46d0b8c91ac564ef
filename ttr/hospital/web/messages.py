"""What DICOMweb says, in and out: queries, instances in messages of parts, and DICOM's JSON (PS3.18, F).

Of an answer only UIDs, counts, modalities and codes are taken: names that come along are dropped unread.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl

from ttr.datasets.dicom.identity import is_uid
from ttr.errors import ArchiveError, ImageError, OptionError

#: Names of a query that are ours to give, or that let an archive answer as it pleases.
OURS = ("limit", "offset", "includefield", "fuzzymatching")
#: In a query: the day on which it is asked.
TODAY = "today"
_KEYWORD, _TAG = re.compile(r"[A-Za-z][A-Za-z0-9]{1,63}"), re.compile(r"[0-9A-Fa-f]{8}")


def parse_query(text: str) -> dict[str, str]:
    """Return the attributes that ``Modality=DX&StudyDate=20260101-`` asks for.

    A refusal repeats names, and no value: that may be a patient's.

    Raises:
        OptionError: it is no query, or asks for what is not an attribute.
    """
    from pydicom.datadict import tag_for_keyword

    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=64)
    except ValueError:
        pairs = []
    if not pairs:
        raise OptionError("--query is none; needed attributes, such as Modality=DX&StudyDate=20260131")
    found: dict[str, str] = {}
    for key, value in pairs:
        known = _TAG.fullmatch(key) or (_KEYWORD.fullmatch(key) and tag_for_keyword(key))
        if key.lower() in OURS or not known or key in found:
            raise OptionError(
                f"--query asks for {key[:40]!r}; needed each attribute once, by keyword (StudyDate) or as "
                "eight digits (00080020)"
            )
        if not value.strip("*? ") or not value.isprintable():
            raise OptionError(f"--query has no value for {key}; needed one, so that not everything is meant")
        found[key] = value
    return found


def of_day(query: Mapping[str, str], day: date, *, on: bool = False) -> dict[str, str]:
    """Return a query with the day in place of the word today.

    ``on``: the day before and all that follow, for who asks again and again: what arrives around midnight, or
    in a house of another time zone, is never of the day on which it is asked for.
    """
    said = f"{day - timedelta(days=1):%Y%m%d}-" if on else f"{day:%Y%m%d}"
    return {key: said if value.lower() == TODAY else value for key, value in query.items()}


def objects(value: Any) -> list[Mapping[str, Any]]:
    """Return the data sets of an answer in DICOM's JSON.

    Raises:
        ArchiveError: it holds something else.
    """
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ArchiveError("the archive answered with JSON that holds no list of data sets; check --url")
    return value


def values(data: Mapping[str, Any], tag: str) -> list[Any]:
    """Return the values of an element, none where it is absent or something else."""
    element = data.get(tag)
    found = element.get("Value") if isinstance(element, dict) else None
    return found if isinstance(found, list) else []


def uid(data: Mapping[str, Any], tag: str) -> str:
    """Return the UID of an element.

    Raises:
        ArchiveError: it has none.
    """
    found = next(iter(values(data, tag)), None)
    if not is_uid(found):
        raise ArchiveError(f"the archive answered without a valid UID in ({tag[:4]},{tag[4:]}); check --url")
    return str(found)


def has_uid(data: Mapping[str, Any], tag: str) -> bool:
    """Return whether an element is a valid UID."""
    return is_uid(next(iter(values(data, tag)), None))


def whole(data: Mapping[str, Any], tag: str) -> int | None:
    """Return the whole number of an element, at least 0; None where there is none."""
    found = next(iter(values(data, tag)), None)
    text = str(found) if isinstance(found, int | str) and not isinstance(found, bool) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def word(data: Mapping[str, Any], tag: str) -> str:
    """Return a code such as a modality; "" where there is none."""
    found = next(iter(values(data, tag)), None)
    return found if isinstance(found, str) and re.fullmatch(r"[A-Z0-9_ ]{1,16}", found) else ""


def message(content: bytes) -> tuple[list[bytes], dict[str, str]]:
    """Return an instance as the body of a STOW request, and what its head says."""
    boundary = "ttr"
    while boundary.encode() in content:
        boundary += "-"
    body = [
        f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(),
        content,
        f"\r\n--{boundary}--\r\n".encode(),
    ]
    said = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Content-Length": str(sum(map(len, body))),
    }
    return body, said


def single_part(content_type: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of the only part of a multipart message.

    Raises:
        ImageError: there is no part, or several, or the message is damaged or ends early.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    head = Message()
    head["Content-Type"] = content_type
    boundary, found, marks = head.get_param("boundary"), [], []
    damaged = ImageError("the archive sent a message of no single whole instance; ask again, or see its log")
    if not isinstance(boundary, str) or not boundary.isascii():
        raise damaged
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": lambda: marks.append("begin"),
                "on_part_data": lambda data, start, end: found.append(data[start:end]),
                "on_end": lambda: marks.append("end"),
            },
        )
        parser.logger = logging.Logger("silent", logging.CRITICAL)  # its words repeat the message
        for chunk in chunks:
            parser.write(chunk)
            if marks.count("begin") > 1:
                raise damaged
            yield from found
            found.clear()
    except FormParserError:
        raise damaged from None
    if marks != ["begin", "end"]:
        raise damaged
