"""Which images a command looks at: those of a folder, or the training images of a labelled set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttr.cli import options

if TYPE_CHECKING:
    from ttr.datasets.registry import OpenedImages


def choose(
    images: Path | None,
    data: options.DataOptions | None,
    of_a_set: dict[str, Any],
    num_images: int | None,
    seed: int,
    anonymous: bool,
) -> OpenedImages:
    """Return the images to look at.

    Raises:
        OptionError: not exactly one of ``images`` and ``data``, or options of a set without one.
        TTRError: the folder or the set cannot be used.
    """
    from ttr.datasets.registry import folder_images, sampled_images
    from ttr.errors import OptionError

    if (images is None) == (data is None):
        got = "neither --images nor" if images is None else "--images and"
        raise OptionError(f"got {got} --dataset; needed one of them: --images DIR, or --dataset NAME")
    if images is not None:
        for option, value in of_a_set.items():
            if value is not None:
                raise OptionError(f"got {option} with --images; it belongs to --dataset, leave it out")
        return folder_images(images, limit=num_images, seed=seed, anonymous=anonymous)
    assert data is not None
    return sampled_images(data.open(anonymous=anonymous), num_images, seed=seed)
