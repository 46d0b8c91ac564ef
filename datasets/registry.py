"""The face of the data: what images and labelled sets there are, and how to open one.

``datasets/`` has no ``__init__.py`` on purpose (a top-level package of that name would shadow another
library's); it is imported as ``ttr.datasets``, and this module gathers what the rest of ttr uses of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttr.datasets import image_folder, phantom_lesions, phantom_set
from ttr.datasets.base import (
    IGNORE,
    SPLITS,
    Box,
    Card,
    Dataset,
    Item,
    Masks,
    Split,
    groups_of,
    require_classes,
)
from ttr.datasets.bundled import sample_paths
from ttr.datasets.folder import draw_sample, list_images, open_image
from ttr.datasets.layouts import (
    aptos,
    chexlocalize,
    ddr,
    hugging_face,
    idrid,
    isic,
    medmnist,
    mimic,
    nih,
    orthonet,
    pacemaker,
    rsna,
    vindr,
    voc,
)
from ttr.datasets.outlines import Outlines
from ttr.datasets.phantom import PhantomImage, phantom_image, phantom_images
from ttr.datasets.reading import (
    OpenedImages,
    ReadAhead,
    bad_image,
    called,
    folder_images,
    given_images,
    in_memory,
    renamed,
)
from ttr.datasets.tables import csv_set
from ttr.errors import DataError
from ttr.wording import counted

__all__ = [
    "IGNORE",
    "LOADERS",
    "SPLITS",
    "Box",
    "Card",
    "Dataset",
    "Item",
    "Masks",
    "OpenedImages",
    "Outlines",
    "PhantomImage",
    "ReadAhead",
    "Split",
    "bad_image",
    "called",
    "draw_sample",
    "folder_images",
    "given_images",
    "groups_of",
    "in_memory",
    "list_images",
    "loader",
    "open_dataset",
    "open_image",
    "phantom_image",
    "phantom_images",
    "renamed",
    "require_classes",
    "sample_paths",
    "sampled_images",
]


def sampled_images(dataset: Dataset, count: int | None, *, seed: int = 42) -> OpenedImages:
    """Return a seeded sample of ``count`` training images (None, or too few: all), in order of name.

    Only training images: what is found on them can be measured on the test set.
    """
    training = dataset.select("train")
    sample = draw_sample(training, count, seed)
    fewer = len(sample) < len(training)
    of, drawn_with = (f"{len(sample)} of ", f", seed {seed}") if fewer else ("", "")
    said = f"{dataset.name}, training split, {of}{counted(len(training), 'image')}{drawn_with}"
    return dataset.opened(sample, said)


@dataclass(frozen=True)
class Loader:
    """A kind of set.

    Attributes:
        card: what must be known of it.
        open: root -> the set.
        root: what its root is; None: it has none.
        findings: whether an image may have several, of which one can be chosen.
    """

    card: Card
    open: Callable[..., Dataset]
    root: str | None = "folder"
    findings: bool = False


LOADERS: dict[str, Loader] = {
    "phantom": Loader(phantom_set.CARD, phantom_set.phantom_set, None),
    "phantom-lesions": Loader(phantom_lesions.CARD, phantom_lesions.phantom_lesions, None),
    "orthonet": Loader(orthonet.CARD, orthonet.orthonet),
    "pacemaker": Loader(pacemaker.CARD, pacemaker.pacemaker),
    "pacemaker-manufacturer": Loader(pacemaker.CARD, pacemaker.pacemaker_manufacturer),
    "aptos": Loader(aptos.CARD, aptos.aptos),
    "idrid": Loader(idrid.CARD, idrid.idrid),
    "idrid-lesions": Loader(idrid.CARD, idrid.idrid_lesions),
    "ddr": Loader(ddr.CARD, ddr.ddr),
    "ddr-lesions": Loader(ddr.CARD, ddr.ddr_lesions),
    "nih": Loader(nih.CARD, nih.nih, findings=True),
    "mimic-cxr": Loader(mimic.CARD, mimic.mimic, findings=True),
    "vindr-cxr": Loader(vindr.CARD, vindr.vindr, findings=True),
    "chexlocalize": Loader(chexlocalize.CARD, chexlocalize.chexlocalize, findings=True),
    "rsna": Loader(rsna.CARD, rsna.rsna),
    "isic": Loader(isic.CARD, isic.isic),
    "medmnist": Loader(medmnist.CARD, medmnist.medmnist, "NPZ file", findings=True),
    "hugging-face": Loader(hugging_face.CARD, hugging_face.hugging_face),
    "folder": Loader(image_folder.CARD, image_folder.image_folder),
    "voc": Loader(voc.CARD, voc.voc),
    "csv": Loader(csv_set.CARD, csv_set.csv_table, "CSV file", findings=True),
}


def loader(name: str) -> Loader:
    """Return the kind of set that has a name.

    Raises:
        DataError: there is none.
    """
    if name not in LOADERS:
        close = difflib.get_close_matches(name, LOADERS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise DataError(f"dataset {name!r} is not known{hint}; needed one of: {', '.join(LOADERS)}")
    return LOADERS[name]


def open_dataset(
    name: str, root: str | Path | None = None, *, seed: int | None = None, finding: str | None = None
) -> Dataset:
    """Open a labelled set by name.

    Args:
        name: one of :data:`LOADERS`: a published set, ``phantom``, ``folder`` (classes as folders, DICOM
            files welcome), ``voc`` (PASCAL VOC's segmentation layout) or ``csv`` (a table).
        root: the folder that holds it, or the path of its file; nothing for ``phantom``.
        seed: of the splits that are made here (42), or of the phantom images (0); published splits stay.
        finding: of a set whose images may have several: this one against none of it. Without it, the images
            with exactly one are kept; ``Dataset.notes`` says how many others there were.

    Raises:
        DataError: an unknown name, a root that is missing or not laid out as the set's card says, or labels
            that training never saw.
    """
    kind = loader(name)
    options: dict[str, Any] = {} if seed is None else {"seed": seed}
    if finding is not None:
        if not kind.findings:
            those = ", ".join(each for each in LOADERS if LOADERS[each].findings)
            raise DataError(
                f"dataset {name} has one label an image, and no finding to choose; leave --finding out, "
                f"which is for {those}"
            )
        options["finding"] = finding
    if kind.root is None:
        if root is not None:
            raise DataError(f"dataset {name} draws its images and has no root; leave {root} out")
        return kind.open(**options)
    if root is None:
        raise DataError(f"dataset {name} needs its root, a {kind.root} with {kind.card.layout}")
    root = Path(root)
    if not (root.is_file() if kind.root.endswith(" file") else root.is_dir()):
        fault = "does not exist" if not root.exists() else f"is not a {kind.root}"
        raise DataError(f"root {root} of dataset {name} {fault}; {kind.card.how_to_get}")
    return kind.open(root, **options)
