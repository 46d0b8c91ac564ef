"""From a place to its listing, and from an entry of that to its image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ttr.datasets.folder import open_image
from ttr.datasets.places.copies import Copies
from ttr.datasets.places.listing import WHOLE, Entry, Listing
from ttr.datasets.places.local import file_listing, folder_listing
from ttr.datasets.places.remote import file_system, is_address, remote_bytes, remote_listing
from ttr.datasets.places.tables import SUFFIXES, remote_table_listing, table_listing
from ttr.datasets.reading import called, remarked
from ttr.errors import ImageError, OptionError
from ttr.files import regular_file

if TYPE_CHECKING:
    from PIL.Image import Image


def images_at(
    where: str | Path,
    *,
    column: str | None = None,
    root: str | None = None,
    copies: Copies | None = None,
) -> Listing:
    """Return what images lie at a place.

    Args:
        where: a folder, a tar file, a table (CSV or Parquet), an image, or an address that fsspec knows.
        column: of a table: the one that holds the paths; None: the one with a usual name.
        root: of a table: the folder or address that they are below; None: the table's own folder.
        copies: where the lists of tar files at an address are kept; None: nowhere.

    Raises:
        ImageError: there is no such place, it cannot be read whole, or holds no image.
        DataError: no table of paths below its folder.
        OptionError: ``column`` or ``root`` for something else than a table.
    """
    where = str(where)
    path = Path(where).expanduser()
    if not is_address(where) and path.name.lower().endswith(SUFFIXES) and not path.is_dir():
        if root and is_address(root):
            return remote_table_listing(path, column, root, file_system(root)[1])
        return table_listing(path, column, root)
    for option, value in (("--path-column", column), ("--root", root)):
        if value is not None:
            raise OptionError(f"got {option} with {where}, which is no table; leave it out")
    if is_address(where):
        return remote_listing(where, copies)
    if not path.exists():
        raise ImageError(f"{where} does not exist; needed a folder, a tar file, a table or an address")
    return folder_listing(path) if path.is_dir() else file_listing(path)


def open_entry(entry: Entry, name: str, copies: Copies | None = None) -> Image:
    """Return an image as RGB, whole and upright; refusals call it by ``name``.

    ``copies``: where what is read at an address is kept; None: nowhere.

    Raises:
        ImageError: it cannot be read; see :func:`ttr.datasets.folder.open_image`.
        OutputError: copies cannot be written.
    """
    own_file = not entry.address and entry.start == WHOLE
    path = Path(entry.file if own_file else entry.name)
    with called(name, path):
        return remarked(name, open_image(path, None if own_file else _content(entry, copies)))


def _content(entry: Entry, copies: Copies | None) -> bytes:
    if entry.address:
        return remote_bytes(entry, copies)
    try:
        with regular_file(Path(entry.file), 1 << 62) as file:
            file.seek(entry.start)
            content = file.read(entry.size)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{entry.name} cannot be read ({why}); check the tar file") from error
    if len(content) != entry.size:
        raise ImageError(f"{entry.name} is cut off; its tar file has changed since it was listed")
    return content
