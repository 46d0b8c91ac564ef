"""Which images a command looks at: those of a folder, or the training images of a labelled set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import given, options
from ttr.cli.groups import Group

if TYPE_CHECKING:
    from ttr.datasets.registry import OpenedImages


@dataclass(frozen=True, kw_only=True)
class SourceOptions(Group):
    """A folder of images, or a labelled set."""

    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of images, searched below it too.")
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="In place of --images a set that ttr data info lists: its training images.",
            callback=given.dataset,
        ),
    ] = None
    root: options.DatasetRoot = None
    finding: options.Finding = None

    def choose(self, limit: int | None, seed: int, *, anonymous: bool) -> OpenedImages:
        """Return the images to look at.

        Raises:
            OptionError: not exactly one of ``images`` and ``dataset``, or options of a set without one.
            TTRError: the folder or the set cannot be used.
        """
        from ttr.datasets.registry import folder_images, sampled_images
        from ttr.errors import OptionError

        if self.images is None and self.dataset is not None:
            data = options.DataOptions(dataset=self.dataset, root=self.root, finding=self.finding)
            return sampled_images(data.open(anonymous=anonymous), limit, seed=seed)
        if self.images is None or self.dataset is not None:
            got = "neither --images nor" if self.images is None else "--images and"
            raise OptionError(f"got {got} --dataset; needed one of them: --images DIR, or --dataset NAME")
        for option, value in (("--root", self.root), ("--finding", self.finding)):
            if value is not None:
                raise OptionError(f"got {option} with --images; it belongs to --dataset, leave it out")
        return folder_images(self.images, limit=limit, seed=seed, anonymous=anonymous)
