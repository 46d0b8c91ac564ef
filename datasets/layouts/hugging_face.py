"""A folder of Hugging Face's datasets library: what ``save_to_disk`` wrote, or a repository's parquet files.

Images lie in the tables as bytes; they are read one at a time from where they lie. Nothing of the library is
needed, and no script of a repository is run.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttr.datasets.base import Card, Dataset, Item, Split, make_dataset
from ttr.datasets.folder import is_visible, open_image
from ttr.datasets.splits import SPLIT_NAMES, complete
from ttr.datasets.tables.columns import ROLES, class_label, is_missing
from ttr.errors import DataError, ImageError
from ttr.files import parse_json
from ttr.wording import counted

if TYPE_CHECKING:
    import pyarrow
    from PIL.Image import Image
    from pyarrow import parquet

CARD = Card(
    title="Hugging Face datasets folder",
    source="whoever published it; your own with Dataset.save_to_disk",
    licence="as its repository states",
    classes="the names of its ClassLabel column, or the values of its label",
    metric="accuracy (top1), or balanced_accuracy where classes differ in size",
    problems="it rarely names patients, so that images of one may be in training and test; splits that are "
    "called otherwise than train, validation and test are not understood",
    how_to_get="Its repository's files as they are, or save_to_disk of what load_dataset returned.",
    layout="<split>/*.arrow with state.json, <split>-*.parquet (also in data/), default/<split>/*.parquet, "
    "with a column of images as bytes and one of labels",
)
#: Files of a folder, and bytes that the images of a parquet file's row group unpack to, at most.
MOST_FILES, MOST_GROUP = 10_000, 4 << 30


@dataclass(frozen=True)
class Shard:
    """A file of a split: its table's images stand behind those of the files before it.

    Attributes:
        path: the file.
        split: of its images.
        start: number of its first image in the split.
        count: of its images.
    """

    path: Path
    split: Split
    start: int
    count: int


@dataclass(frozen=True)
class Rows:
    """The images of some files by an item's name, ``<split>/<number>``, in whatever process."""

    shards: tuple[Shard, ...]
    column: str

    def read(self, item: Item) -> bytes:
        """Return the bytes of an item's file.

        Raises:
            ImageError: it has none.
        """
        split, _, number = item.draw_name.rpartition("/")
        of_split = [shard for shard in self.shards if shard.split == split]
        shard = of_split[bisect_right([each.start for each in of_split], int(number)) - 1]
        value = _image(shard.path, self.column, int(number) - shard.start)
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise ImageError(
                f"{item.name} has no image in the table, only its name; save the set with its images in it "
                "(embed_external_files)"
            )
        return content

    def decode(self, item: Item, content: bytes) -> Image:
        """Return the RGB image of an item's bytes."""
        return open_image(Path(f"{item.name}.image"), content)


def hugging_face(root: Path, *, seed: int = 42) -> Dataset:
    """Read a folder of the datasets library; splits that are not there are made.

    Raises:
        DataError: no such folder, files that cannot be read, or no columns of images and labels.
    """
    files = _files(root)
    columns = _columns(files[0][1])
    shards: list[Shard] = []
    items: list[Item] = []
    for split, path in files:
        start = sum(shard.count for shard in shards if shard.split == split)
        rows = _values(path, columns.said)
        shards.append(Shard(path, split, start, len(rows)))
        for number, row in enumerate(rows, start):
            name = f"{split}/{number:06d}"
            group = row[columns.group] if columns.group else None
            label = _label(row[columns.label], columns.names, f"{path.name}, {name}")
            items.append(Item(name, label, split, group=None if is_missing(str(group or "")) else str(group)))
    read = Rows(tuple(shards), columns.image)
    parts = {"read": read.read, "decode": read.decode, "notes": columns.notes}
    return make_dataset("hugging-face", complete(items, seed=seed), CARD, **parts)


@dataclass(frozen=True)
class _Columns:
    """What the columns of a set are for; ``names`` are of its classes, where labels are their numbers."""

    image: str
    label: str
    group: str | None
    names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def said(self) -> list[str]:
        return [self.label, *([self.group] if self.group else [])]


def _files(root: Path) -> list[tuple[Split, Path]]:
    """Return the files of a folder with their splits, in the order of their names.

    Raises:
        DataError: there are none, or of one it cannot be said of which split it is.
    """
    root = _configuration(root)
    found: list[tuple[Split, Path]] = []
    for path in _tables(root):
        words = (re.split(r"[-_.]", path.stem)[0].lower(), path.parent.name.lower())
        split = next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)
        if split is None and path.parent == root and (root / "state.json").is_file():
            split = "train"
        if split is None:
            raise DataError(f"{path} is of no known split; needed {CARD.layout}")
        found.append((split, path))
    if not 0 < len(found) <= MOST_FILES:
        raise DataError(f"{root} has {len(found):,} .arrow or .parquet files; needed {CARD.layout}")
    return found


def _tables(root: Path) -> list[Path]:
    """Return the files of tables in a folder and in the folders of it, in the order of their names."""
    files = sorted(file for folder in (root, *_folders(root)) for file in folder.iterdir() if file.is_file())
    tables = [file for file in files if file.suffix in (".arrow", ".parquet")]
    return [file for file in tables if not file.name.startswith((".", "cache-"))]


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and is_visible(path.name))


def _configuration(root: Path) -> Path:
    """Return where the splits lie: one folder further down in what the hub makes of a repository.

    Raises:
        DataError: there are several such folders, each a set of its own.
    """
    here = _tables(root)
    found = sorted({file.parent for file in here} - {root}) if here else list(filter(_tables, _folders(root)))
    found = [folder for folder in found if folder.name.lower() not in SPLIT_NAMES]
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)[:200]
        raise DataError(
            f"{root} holds {counted(len(found), 'configuration')} ({names}); give the folder of one of them"
        )
    return root if here or not found else found[0]


def _columns(path: Path) -> _Columns:
    """Return what the columns of a file are for.

    Raises:
        DataError: it cannot be read, or has no column of images or of labels, or several.
    """
    import pyarrow

    with _refused(path):
        schema = (
            _mapped(path, _stamp(path)).schema
            if path.suffix == ".arrow"
            else _parquet(path, _stamp(path)).schema_arrow
        )
        features = _features(schema.metadata or {})
    kinds = {name: feature.get("_type") for name, feature in features.items() if isinstance(feature, dict)}
    binary = pyarrow.types.is_binary, pyarrow.types.is_large_binary, pyarrow.types.is_struct
    images = [field.name for field in schema if any(is_kind(field.type) for is_kind in binary)]
    images = [name for name in images if kinds.get(name) in (None, "Image")]
    labels = [name for name in schema.names if kinds.get(name) == "ClassLabel"]
    labels = labels or [name for name in schema.names if name.lower() in ROLES["label"]]
    groups = [name for name in schema.names if name.lower() in ROLES["group"]]
    for what, found in (("images", images), ("labels", labels)):
        if len(found) != 1:
            said = (", ".join(found) or f"none of {', '.join(schema.names)}")[:300]
            raise DataError(f"{path.name} has {counted(len(found), 'column')} of {what} ({said}); needed one")
    unused = [name for name in schema.names if name not in (*images, *labels, *groups[:1])]
    return _Columns(
        image=images[0],
        label=labels[0],
        group=groups[0] if groups else None,
        names=_names(features.get(labels[0])),
        notes=(f"columns that were not used: {', '.join(unused)}",) if unused else (),
    )


def _names(feature: Any) -> tuple[str, ...]:
    """Return the names of the classes that a column's numbers stand for, none where it has none."""
    names = feature.get("names") if isinstance(feature, dict) else None
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """Return what the library wrote of the columns, nothing where it wrote nothing."""
    said = parse_json(metadata.get(b"huggingface", b"{}"))
    try:
        return dict(said.get("info", {}).get("features", {}))
    except (AttributeError, TypeError, ValueError):
        return {}


def _label(value: Any, names: tuple[str, ...], where: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and names:
        if not 0 <= value < len(names):
            raise DataError(
                f"{where}: label {value} is no class; needed 0..{len(names) - 1}, or leave it out"
            )
        return names[value]
    if value is None or isinstance(value, list | dict | bytes):
        kind = "no label" if value is None else f"a {type(value).__name__} as its label"
        raise DataError(f"{where} has {kind}; needed one name or number an image")
    return class_label(str(value), where)


def _values(path: Path, names: list[str]) -> list[dict[str, Any]]:
    """Return some columns of a file, row by row.

    Raises:
        DataError: it cannot be read, or lacks one.
    """
    with _refused(path):
        if path.suffix == ".arrow":
            table = _mapped(path, _stamp(path)).select(names)
        else:
            table = _parquet(path, _stamp(path)).read(columns=names).select(names)
            table.validate(full=True)
        return table.to_pylist()


def _image(path: Path, column: str, number: int) -> Any:
    with _refused(path, ImageError):
        if path.suffix == ".arrow":
            return _mapped(path, _stamp(path)).column(column)[number].as_py()
        starts = _starts(path, _stamp(path))
        group = bisect_right(starts, number) - 1
        return _group(path, _stamp(path), group, column).column(column)[number - starts[group]].as_py()


@contextmanager
def _refused(path: Path, kind: type[DataError] | type[ImageError] = DataError) -> Iterator[None]:
    """Let what a library says of a file become one sentence."""
    import pyarrow

    try:
        yield
    except (OSError, ValueError, KeyError, IndexError, OverflowError, pyarrow.ArrowException) as error:
        why = " ".join(str(error).split())[:120]
        raise kind(
            f"{path.name} cannot be read as {path.suffix[1:]} ({why}); fetch or save it anew"
        ) from error


def _stamp(path: Path) -> tuple[int, int]:
    """Return what tells a file from another that was written in its place."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=64)
def _mapped(path: Path, stamp: tuple[int, int]) -> pyarrow.Table:
    """Return an arrow file's table; its values stay on the disk."""
    import pyarrow

    table = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
    table.validate(full=True)
    return table


@lru_cache(maxsize=64)
def _parquet(path: Path, stamp: tuple[int, int]) -> parquet.ParquetFile:
    from pyarrow import parquet

    return parquet.ParquetFile(path)


@lru_cache(maxsize=64)
def _starts(path: Path, stamp: tuple[int, int]) -> tuple[int, ...]:
    """Return the number of each row group's first row."""
    said = _parquet(path, stamp).metadata
    return tuple(accumulate((said.row_group(n).num_rows for n in range(said.num_row_groups - 1)), initial=0))


@lru_cache(maxsize=4)
def _group(path: Path, stamp: tuple[int, int], group: int, column: str) -> pyarrow.Table:
    """Return the images of a row group, which are read together."""
    file = _parquet(path, stamp)
    if file.metadata.row_group(group).total_byte_size > MOST_GROUP:
        raise ValueError(f"a row group unpacks to over {MOST_GROUP >> 30} GiB")
    table = file.read_row_group(group, columns=[column])
    table.validate(full=True)
    return table
