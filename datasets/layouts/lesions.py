"""Lesions of diabetic retinopathy: a mask file each, as one mask of several classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ttr.datasets.base import Item, Masks, Split
from ttr.datasets.mask_files import open_foreground
from ttr.errors import ImageError

#: Where two overlap the later one counts: the smaller kind, which would vanish otherwise.
LESIONS = {
    "SE": "soft exudates",
    "EX": "hard exudates",
    "HE": "haemorrhages",
    "MA": "microaneurysms",
}
#: What every image of such a set is labelled: there is nothing to tell apart but pixels.
LABEL = "fundus"


def outlined(root: Path, folders: Mapping[Split, Path]) -> list[Item]:
    """Return the images of folders, one a split; every one is labelled :data:`LABEL`."""
    return [
        Item(path.relative_to(root).as_posix(), LABEL, split, path)
        for split, folder in folders.items()
        for path in sorted(folder.glob("*.jpg"))
    ]


@dataclass(frozen=True)
class LesionMasks:
    """The masks of an item; ``file`` says where that of one kind of lesion lies, if the item has one."""

    file: Callable[[Item, str], Path]

    def covers(self, item: Item) -> bool:
        """Return whether an item has a mask of any kind of lesion."""
        return any(self.file(item, kind).is_file() for kind in LESIONS)

    def open(self, item: Item) -> np.ndarray:
        """Return an item's mask, int64 [H, W]: 0 for background, then the lesions in their order.

        Raises:
            ImageError: a file is damaged, or of another size than the others.
        """
        found: np.ndarray | None = None
        for number, kind in enumerate(LESIONS, start=1):
            path = self.file(item, kind)
            if not path.is_file():
                continue
            mask = open_foreground(replace(item, mask=path))
            found = np.zeros_like(mask) if found is None else found
            if mask.shape != found.shape:
                raise ImageError(f"the masks of {item.name} have several sizes; needed one: replace them")
            found[mask == 1] = number
        if found is None:
            raise ImageError(f"{item.name} has no mask; leave it out of segmentation")
        return found

    def masks(self) -> Masks:
        """Return them as what a set says of pixels."""
        return Masks(("background", *LESIONS.values()), self.open, covers=self.covers)
