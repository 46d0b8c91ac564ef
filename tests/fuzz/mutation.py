"""Hostile files from honest ones: bytes, JSON, tables, tensors and pictures changed by the kinds of damage.

Everything follows from one :class:`random.Random`, so that a file is found again by its seed.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any

#: Texts that a reader may take for numbers, names, paths, formulas or code.
TEXTS = (
    *("", " ", "nan", "NaN", "inf", "-Infinity", "1e999", "-1", "0", "1.5", "true", "null", "0x10", "1_000"),
    *("9223372036854775808", "٣", "²", "\u2028", "\u202e", "\ufeff", "\x00", "\x1b[2J", "é" * 70),
    *(
        "../../etc/passwd",
        "/dev/zero",
        "C:\\con",
        "=cmd|' /C calc'!A0",
        "<script>alert(1)</script>",
        "{{7*7}}",
    ),
    *("%s%n", "$(id)", "a" * 5000, "a,b\nc", '"', "'"),
)
VALUES = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, 5e-324),
    *(float("nan"), float("inf"), -float("inf"), [], {}, [[]], [None], {"": None}, [[0, 0]] * 3),
)
INTEGERS = (0, 1, *(2**bits + step for bits in (7, 8, 15, 16, 31, 32, 63, 64) for step in (-1, 0)))
#: Bits of float32: NaN, both infinities, the smallest and the largest number.
FLOATS = (0x7FC00000, 0x7F800000, 0xFF800000, 1, 0x7F7FFFFF)


def changed(content: bytes, suffix: str, draw: Random, others: Sequence[bytes] = ()) -> bytes:
    """Return ``content`` damaged: as its format is built, as plain bytes, or both, one to eight times."""
    structured = STRUCTURED.get(suffix)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        if structured is not None and draw.random() < 0.7:
            content = structured(content, draw)
        else:
            content = _bytes(content, draw, others)
    return content


def _bytes(content: bytes, draw: Random, others: Sequence[bytes] = ()) -> bytes:
    raw = bytearray(content)
    if not raw:
        return bytes(draw.randrange(256) for _ in range(draw.randrange(1, 64)))
    at = draw.randrange(len(raw)) if draw.random() < 0.6 else draw.randrange(min(len(raw), 400))
    match draw.randrange(9):
        case 0:
            raw[at] ^= 1 << draw.randrange(8)
        case 1:
            raw[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
        case 2:
            width = draw.choice((1, 2, 4, 8))
            value = draw.choice(INTEGERS) % (1 << 8 * width)
            raw[at : at + width] = value.to_bytes(width, draw.choice(("little", "big")))
        case 3:
            del raw[at:]
        case 4:
            del raw[at : at + draw.choice((1, 2, 4, 16, 256))]
        case 5:
            raw[at:at] = raw[at : at + draw.choice((1, 4, 64, 512))] * draw.choice((1, 2, 50))
        case 6:
            raw[at:at] = bytes(draw.randrange(256) for _ in range(draw.choice((1, 4, 32))))
        case 7:
            raw[at:at] = draw.choice(TEXTS).encode("utf-8", "surrogatepass")
        case 8 if others:
            other = draw.choice(others)
            raw[at:] = other[draw.randrange(max(len(other), 1)) :]
        case _:
            raw[at : at + 4] = b"\x00\x00\x00\x00"
    return bytes(raw)


def _json(content: bytes, draw: Random) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return _bytes(content, draw)
    if draw.random() < 0.02:
        depth = draw.choice((100, 2000, 100_000))
        return b"[" * depth + b"]" * depth
    value = _node(value, draw)
    text = json.dumps(value)
    if draw.random() < 0.05 and text.startswith("{") and len(text) > 2:
        text = text[:-1] + ", " + text[1:]  # every key twice
    return text.encode("utf-8", "surrogatepass")


def _node(value: Any, draw: Random) -> Any:
    """Return a JSON value with one node of it replaced, removed, repeated or renamed."""
    inside = isinstance(value, dict | list) and value
    if not inside or draw.random() < 0.15:
        return draw.choice((draw.choice(VALUES), draw.choice(TEXTS)))
    if isinstance(value, list):
        at = draw.randrange(len(value))
        step = draw.randrange(6)
        if step == 0:
            return value[:at] + value[at + 1 :]
        if step == 1:
            return value[: at + 1] * draw.choice((2, 2, 50))
        if step == 2:
            return value[at:] + value[:at]
        return [*value[:at], _node(value[at], draw), *value[at + 1 :]]
    key = draw.choice(list(value))
    step = draw.randrange(6)
    rest = {name: each for name, each in value.items() if name != key}
    if step == 0:
        return rest
    if step == 1:
        return {**rest, draw.choice(TEXTS): value[key]}
    if step == 2:
        return {**value, draw.choice(TEXTS): draw.choice(VALUES)}
    return {**value, key: _node(value[key], draw)}


def _table(content: bytes, draw: Random) -> bytes:
    text = content.decode("utf-8", "replace")
    rows = [line.split(",") for line in text.splitlines()]
    if not rows or not rows[0]:
        return _bytes(content, draw)
    row = draw.randrange(len(rows))
    column = draw.randrange(len(rows[row]) or 1)
    match draw.randrange(7):
        case 0 | 1 | 2 if rows[row]:
            rows[row][column] = draw.choice(TEXTS)
        case 3:
            rows = [[cell for at, cell in enumerate(each) if at != column] for each in rows]
        case 4:
            rows.insert(row, rows[draw.randrange(len(rows))])
        case 5:
            del rows[row]
        case _:
            rows[row] = rows[row] + [draw.choice(TEXTS)] * draw.choice((1, 3, 300))
    return "\n".join(",".join(each) for each in rows).encode("utf-8", "surrogatepass")


def _tensors(content: bytes, draw: Random) -> bytes:
    """Change the JSON header of a safetensors file, or numbers of its tensors, and keep its length true."""
    size = int.from_bytes(content[:8], "little")
    if not 0 < size <= len(content) - 8 or draw.random() < 0.3:
        raw = bytearray(content)
        if len(raw) > size + 12:
            at = draw.randrange(size + 8, len(raw) - 3)
            raw[at : at + 4] = struct.pack("<I", draw.choice(FLOATS))
        return bytes(raw)
    header = _json(content[8 : 8 + size], draw)
    length = len(header) if draw.random() < 0.9 else draw.choice(INTEGERS)
    return (length % 2**64).to_bytes(8, "little") + header + content[8 + size :]


def _png(content: bytes, draw: Random) -> bytes:
    """Change a chunk of a PNG and mend its checksum, which would else end every reading there."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return _bytes(content, draw)
    place = draw.randrange(len(chunks))
    kind, body = chunks[place]
    if kind == b"IHDR" and len(body) == 13:
        width, height, depth, colour = struct.unpack(">IIBB", body[:10])
        sizes = (0, 1, 16, 3000, 20_000, 2_500_000, 2**31 - 1, 2**32 - 1)
        width, height = draw.choice((width, draw.choice(sizes))), draw.choice((height, draw.choice(sizes)))
        depth, colour = draw.choice((1, 2, 4, 8, 16, depth)), draw.choice((0, 2, 3, 4, 6, colour))
        body = struct.pack(">IIBB", width, height, depth, colour) + body[10:]
    elif kind == b"IDAT" and draw.random() < 0.3:
        body = _zeros(draw.choice((100, 100, 100_000, 100_000, 20_000_000)))
    else:
        body = _bytes(body, draw)
    chunks[place] = (kind, body)
    if draw.random() < 0.05:
        chunks.insert(1, (b"zTXt", b"k\x00\x00" + _zeros(draw.choice((100, 100, 50_000_000)))))
    packed = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return content[:8] + b"".join(packed)


@cache
def _zeros(count: int) -> bytes:
    """Return so many zeros, packed: a thousandth of their size."""
    return zlib.compress(bytes(count))


STRUCTURED: dict[str, Callable[[bytes, Random], bytes]] = {
    ".json": _json,
    ".csv": _table,
    ".safetensors": _tensors,
    ".png": _png,
}
