"""Images in, batches out: whatever holds images, any number of them, never more than a batch at once.

Files are opened, pictures preprocessed and a loader's batches regrouped as they are asked for, so memory does
not grow with the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.backbones.made_input import check_floats
from ttr.checks import integer
from ttr.datasets.folder import list_images, open_image
from ttr.errors import ImageError
from ttr.wording import counted

#: Columns of a row that hold the image, as data sets of the hub and loaders name them.
COLUMNS = ("pixel_values", "image", "images", "img")


def batches(backbone: Backbone, images: Any, batch_size: int) -> Iterator[Tensor]:
    """Yield float batches [b, C, H, W] with b <= ``batch_size``, C the model's channels.

    Args:
        backbone: whose preprocessing pictures go through.
        images: a tensor [N, C, H, W] or [C, H, W]; a PIL image; a uint8 array [H, W], [H, W, 3 or 4] or
            [N, H, W, 3 or 4]; an image file or a folder of such; or an iterable of any of these: a list, a
            generator, a DataLoader, a column of a data set. Of an item with labels, such as
            (images, labels) or {"image": ...}, the images are taken.
        batch_size: images a batch.

    Raises:
        ModelError: the model has no values, or the preprocessing makes something else than its input.
        OptionError: ``batch_size`` < 1.
        ImageError: something else, or sizes differ in a batch.
    """
    backbone.require_values()
    integer("batch_size", batch_size, 1)
    check_images(backbone, images)
    if isinstance(images, Tensor) and images.ndim == 4:
        yield from (part for part in images.split(int(batch_size)) if len(part))
        return
    pending: list[Tensor] = []
    for item in _items(backbone, images):
        pending.append(item)
        if len(pending) == batch_size:
            yield _stack(pending)
            pending = []
    if pending:
        yield _stack(pending)


def check_images(backbone: Backbone, images: Any) -> None:
    """Raise ImageError unless ``images`` may hold images; no item of an iterable is looked at."""
    if isinstance(images, str | Path) and not Path(images).exists():
        raise ImageError(f"{images} does not exist; needed an image file, or a folder of them")
    if isinstance(images, Tensor):
        _check_shape(backbone, images)
    elif not _is_one(images) and not _is_many(images):
        raise ImageError(f"got {type(images).__name__} as images; {_needed(backbone)}")


def count(images: Any) -> int | None:
    """Return the number of images where it is known beforehand, else None."""
    if isinstance(images, Tensor) or (isinstance(images, np.ndarray) and images.dtype != object):
        return len(images) if images.ndim == 4 else 1
    known = isinstance(images, Sized) and not _is_one(images) and not hasattr(images, "batch_sampler")
    return len(images) if known else None


def _is_one(images: Any) -> bool:
    """Return whether it stands for itself, and is not an iterable of items."""
    array = isinstance(images, np.ndarray) and images.dtype != object
    return isinstance(images, str | Path | Tensor | Mapping) or array or _is_picture(images)


def _is_many(images: Any) -> bool:
    by_place = hasattr(images, "__getitem__") and isinstance(images, Sized)
    return (isinstance(images, Iterable) or by_place) and not isinstance(images, bytes | bytearray)


def _is_picture(item: Any) -> bool:
    return hasattr(item, "convert") and hasattr(item, "getbands")


def _items(backbone: Backbone, images: Any) -> Iterator[Tensor]:
    """Yield the model's inputs [C, H, W] one by one."""
    if _is_one(images):
        yield from _of_item(backbone, images)
        return
    # A data set of torch has places, and no end but its length.
    rows = images if isinstance(images, Iterable) else (images[place] for place in range(len(images)))
    for row in rows:
        yield from _of_item(backbone, row)


def _of_item(backbone: Backbone, item: Any) -> Iterator[Tensor]:
    """Yield the inputs [C, H, W] that one item of an iterable holds."""
    if isinstance(item, Mapping | tuple | list):
        held = _of_row(item) if isinstance(item, Mapping) else _of_pair(item)
        for part in held if isinstance(held, tuple | list) else [held]:
            yield from _of_item(backbone, part)
    elif isinstance(item, Tensor):
        _check_shape(backbone, item)
        check_floats(item)  # before a stack beside floats would turn them into some
        yield from item if item.ndim == 4 else [item]
    elif isinstance(item, str | Path):
        yield from (backbone.preprocess(open_image(path)) for path in _files(Path(item)))
    elif isinstance(item, np.ndarray):
        yield from (backbone.preprocess(picture) for picture in _pictures(item))
    elif _is_picture(item):
        yield backbone.preprocess(item)
    else:
        raise ImageError(f"got {type(item).__name__} as an image; {_needed(backbone)}")


def _of_row(row: Mapping[Any, Any]) -> Any:
    """Return the images of a row, by the name of their column."""
    for column in COLUMNS:
        if column in row:
            return row[column]
    raise ImageError(
        f"got a row with the columns {', '.join(map(str, row))}; needed one named "
        f"{', '.join(COLUMNS)}, or the column of the images itself"
    )


def _of_pair(item: tuple[Any, ...] | list[Any]) -> Any:
    """Return the images of (images, labels): the first part, if no other may be images too."""
    if not item:
        raise ImageError(
            f"got an empty {type(item).__name__} as an image; needed (image, label), or the image"
        )
    if (images := sum(map(_may_be_image, item))) > 1:
        raise ImageError(
            f"got a {type(item).__name__} of {counted(images, 'image')} as one item; needed (image, "
            "label), or one image an item: (image for item in images for image in item)"
        )
    return item[0]


def _may_be_image(part: Any) -> bool:
    if isinstance(part, str | Path):
        return Path(part).is_file()
    return _is_picture(part) or (isinstance(part, Tensor | np.ndarray) and part.ndim > 2)


def _files(path: Path) -> list[Path]:
    return list_images(path) if path.is_dir() else [path]


def _pictures(array: np.ndarray) -> Iterator[Any]:
    """Yield PIL images of a uint8 array."""
    import PIL.Image

    in_colour = array.ndim in (3, 4) and array.shape[-1] in (3, 4)
    if array.dtype != np.uint8 or not (array.ndim == 2 or in_colour):
        raise ImageError(
            f"got an array of type {array.dtype} and shape {list(array.shape)}; needed uint8 [H, W], "
            "[H, W, 3] or [N, H, W, 3], or normalised values as a tensor: torch.from_numpy"
        )
    yield from map(PIL.Image.fromarray, array if array.ndim == 4 else [array])


def _check_shape(backbone: Backbone, images: Tensor) -> None:
    if images.ndim not in (3, 4) or images.shape[-3] != backbone.channels:
        shape = f"{backbone.channels}, H, W"
        raise ImageError(f"got a tensor of shape {tuple(images.shape)}; needed [{shape}] or [N, {shape}]")


def _needed(backbone: Backbone) -> str:
    return (
        f"needed a tensor [N, {backbone.channels}, H, W], a PIL image, a uint8 array [H, W, 3], an image "
        "file or folder, or an iterable of these (a list, a generator, a DataLoader, a column of a data set)"
    )


def _stack(tensors: list[Tensor]) -> Tensor:
    sizes = {tuple(tensor.shape) for tensor in tensors}
    if len(sizes) > 1:
        raise ImageError(
            f"images of one batch differ in size ({sorted(sizes)}); resize them, or batch_size=1"
        )
    return torch.stack(tensors)
