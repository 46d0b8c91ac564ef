"""Files that are named as a patient is, and a search for that name in every byte of what a command wrote."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from ttr.datasets.registry import phantom_images

#: Of the folder that is given to a command, of the files in it, of the group in its table.
FOLDER, FILE, GROUP = "DOE^JANE_FOLDER", "DOE^JANE_1950", "DOE^JANE_GROUP"
PACKED = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")


def patients(place: Path) -> Path:
    """Return a folder of 24 small pictures in split and class folders, four damaged, a table with boxes."""
    root = place / FOLDER
    rows = ["path,label,split,patient,box"]
    pictures = iter(phantom_images(24))
    for split in ("train", "val", "test"):
        for label in ("a", "b"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(4):
                path = folder / f"{FILE}-{number}.png"
                next(pictures).image.resize((64, 64)).save(path)
                group = f"{GROUP}-{split}-{number // 2}"
                rows.append(f'{path.relative_to(root).as_posix()},{label},{split},{group},"8,8,40,40"')
    for path in ("train/a", "train/b", "test/a", "test/b"):
        (root / path / f"{FILE}-bad.png").write_bytes(b"no picture")
        rows.append(f"{path}/{FILE}-bad.png,{path[-1]},{path[:-2]},{GROUP}-{path[:-2]}-0,")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    return root


def where(needles: tuple[str, ...], *places: Path) -> list[str]:
    """Return the files below some places that hold one of the needles, in their names or their bytes.

    What is packed in them counts: gzip, zip, base64, a PNG's compressed texts, a Parquet table's columns.
    """
    wanted = re.compile("|".join(map(re.escape, needles)).encode(), re.IGNORECASE)
    found = []
    for place in places:
        for path in sorted([place, *place.rglob("*")] if place.is_dir() else [place]):
            inside = _unpacked(path.read_bytes()) if path.is_file() else iter(())
            name = str(path.relative_to(place.parent)).encode()
            hit = next((wanted.search(text) for text in (name, *inside) if wanted.search(text)), None)
            if hit:
                found.append(f"{path}: {hit.string[max(0, hit.start() - 60) : hit.end() + 60]!r}")
    return found


def _unpacked(content: bytes, depth: int = 4) -> Iterator[bytes]:
    yield content
    if depth == 0:
        return
    if content[:2] == b"\x1f\x8b":
        yield from _unpacked(gzip.decompress(content), depth - 1)
    elif content[:4] == b"PK\x03\x04":
        archive = zipfile.ZipFile(io.BytesIO(content))
        for name in archive.namelist():
            yield name.encode()
            yield from _unpacked(archive.read(name), depth - 1)
    elif content[:4] == b"PAR1":
        yield pd.read_parquet(io.BytesIO(content)).to_csv().encode()
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        yield from _texts(content)
    else:
        for match in PACKED.finditer(content):
            try:
                inside = base64.b64decode(match[0] + b"=" * (-len(match[0]) % 4))
            except binascii.Error:
                continue
            yield from _unpacked(inside, depth - 1)


def _texts(png: bytes) -> Iterator[bytes]:
    at = 8
    while at < len(png):
        size, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        if kind in (b"zTXt", b"iTXt"):
            _, _, rest = png[at + 8 : at + 8 + size].partition(b"\0")
            yield zlib.decompressobj().decompress(rest[1:]) if kind == b"zTXt" else rest
        at += 12 + size
