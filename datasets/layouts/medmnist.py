"""MedMNIST: standardised small images of many organs, one ``.npz`` file a set and size.

A file may unpack to more than a machine's memory holds, so its images are unpacked to a folder of the
machine's temporary ones, which is removed at exit, and read from there one at a time.
"""

from __future__ import annotations

import io
import math
import shutil
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from ttr.datasets.base import SPLITS, Card, Dataset, Item, Split, make_dataset
from ttr.datasets.splits import complete
from ttr.datasets.tables.findings import Reported, one_label
from ttr.errors import DataError
from ttr.wording import counted

if TYPE_CHECKING:
    from PIL.Image import Image

CARD = Card(
    title="MedMNIST",
    source="Yang et al. 2023, MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical "
    "image classification, Scientific Data 10; MedMNIST+ for 64, 128 and 224 px",
    licence="CC BY 4.0; DermaMNIST CC BY-NC 4.0; of each source as it states",
    classes="numbers, as the file has them; ChestMNIST's are 14 findings: --finding 7",
    metric="auc_ovr and accuracy (top1), the published ones",
    problems="images were cut and scaled down, and at 28 px little of a finding is left: a number on it is "
    "none of the clinic; patients are not named; a file does not say what its numbers mean",
    how_to_get="Its authors offer the files on Zenodo.",
    layout="one .npz file such as pathmnist.npz or dermamnist_224.npz, of 2D images",
)
#: Bytes that the images of a file may unpack to; those of the largest set at 224 px are 16 GB.
MOST_UNPACKED = 24 << 30
#: Pixels of a side, and labels an image, at most.
MOST_SIDE, MOST_LABELS = 1024, 1000
CHUNK = 1 << 20


@dataclass(frozen=True)
class Unpacked:
    """The images of a file, unpacked into a folder; found by an item's name, in whatever process."""

    folder: Path

    def read(self, item: Item) -> bytes:
        """Return the pixels of an item, as NumPy writes them."""
        split, _, number = item.draw_name.rpartition("/")
        rows = np.load(self.folder / f"{split}.npy", mmap_mode="r", allow_pickle=False)
        stream = io.BytesIO()
        np.save(stream, rows[int(number)], allow_pickle=False)
        return stream.getvalue()

    def decode(self, item: Item, content: bytes) -> Image:
        """Return the RGB image of such bytes."""
        import PIL.Image

        return PIL.Image.fromarray(np.load(io.BytesIO(content), allow_pickle=False)).convert("RGB")


def medmnist(path: Path, *, seed: int = 42, finding: str | None = None) -> Dataset:
    """Read a file of MedMNIST with its published splits.

    Raises:
        DataError: it is no such file, of 3D images, damaged, or unpacks to more than there is room for.
    """
    unpacked = Unpacked(Path(tempfile.mkdtemp(prefix="ttr-medmnist-")))
    weakref.finalize(unpacked, shutil.rmtree, unpacked.folder, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            reported = [row for split in SPLITS for row in _reported(archive, split, unpacked.folder)]
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise _refusal(path, error) from error
    except (zipfile.BadZipFile, zlib.error, SyntaxError) as error:
        raise _refusal(path, error) from error
    known = {each for row in reported for each in row.present}
    items, notes = one_label(reported, finding, known, path.name)
    parts = {"read": unpacked.read, "decode": unpacked.decode, "notes": notes}
    return make_dataset("medmnist", complete(items, seed=seed), CARD, **parts)


def _refusal(path: Path, error: Exception) -> DataError:
    why = str(error).strip("'\"") or type(error).__name__
    return DataError(
        f"{path.name} is no file of MedMNIST that can be read ({why[:160]}); needed {CARD.layout}"
    )


def _reported(archive: zipfile.ZipFile, split: Split, folder: Path) -> Iterator[Reported]:
    """Unpack the images of a split, and yield them with what they show."""
    labels = _labels(archive, f"{split}_labels.npy")
    _unpack(archive, f"{split}_images.npy", folder / f"{split}.npy", len(labels))
    for number, row in enumerate(labels):
        several = len(row) > 1
        said = [str(place) for place in row.nonzero()[0]] if several else [str(row[0])]
        yield Reported(Item(f"{split}/{number:06d}", "", split), tuple(said) or ("none",))


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and the type of an array in a file, read up to its values.

    Raises:
        ValueError: it is no array of numbers in the order of C.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = read(stream)
    if columns_first or dtype.kind not in "bui":
        raise ValueError(f"{stream.name} is of type {dtype}; needed whole numbers, row behind row")
    return shape, dtype


def _labels(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Return labels as int64 [N, L]: a class, or 0 and 1 for each of L findings."""
    with archive.open(name) as stream:
        shape, dtype = _header(stream)
        if len(shape) != 2 or not 0 < shape[1] <= MOST_LABELS or shape[0] > 10_000_000:
            raise ValueError(f"{name} has the shape {shape}; needed a row an image")
        size = math.prod(shape) * dtype.itemsize
        content = stream.read(size + 1)
    if len(content) != size:
        raise ValueError(f"{name} does not hold what its shape {shape} says")
    found = np.frombuffer(content, dtype).reshape(shape).astype(np.int64)
    if shape[1] > 1 and not np.isin(found, (0, 1)).all():
        raise ValueError(f"{name} says neither 0 nor 1 of a finding")
    return found


def _unpack(archive: zipfile.ZipFile, name: str, place: Path, count: int) -> None:
    """Write images of one byte a channel to a file of their own, as large as their shape says."""
    with archive.open(name) as stream:
        shape, dtype = _header(stream)
        if len(shape) == 4 and shape[3] != 3:
            raise ValueError(f"{name} has the shape {shape}: 3D images, of which no ViT of ours reads one")
        fits = len(shape) in (3, 4) and shape[0] == count and min(shape[1:3]) > 0
        if dtype != np.uint8 or not fits or max(shape[1:3]) > MOST_SIDE:
            raise ValueError(
                f"{name} has the shape {shape} of {dtype}; needed {counted(count, 'image')} of uint8"
            )
        left = math.prod(shape)
        room = min(MOST_UNPACKED, shutil.disk_usage(place.parent).free)
        if left > room:
            raise ValueError(f"{name} unpacks to {left / 1e9:.1f} GB, and there is room for {room / 1e9:.1f}")
        with place.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"shape": shape, "fortran_order": False, "descr": "|u1"}
            )
            while chunk := stream.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    break
                file.write(chunk)
    if left:
        raise ValueError(f"{name} does not hold what its shape {shape} says")
