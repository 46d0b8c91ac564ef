"""A comparison of DICOM images in DICOM: each map as numbers and as a picture, what was measured as a report.

They belong to the study of their source and refer to it. Its pixels get the value of the patch that they came
to lie in; those that the model did not see are marked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttr.analysis.faithfulness import grade
from ttr.backbones.base import Backbone
from ttr.datasets.dicom.origin import Origin, origin_of
from ttr.datasets.registry import OpenedImages, called, open_image
from ttr.drawing import maps
from ttr.errors import OptionError
from ttr.evaluate.placement import Placement, placement
from ttr.files import MANIFEST, write_json
from ttr.hospital.filing import Filing
from ttr.hospital.instance import Maker, NewUID, need, new_uids, which
from ttr.hospital.parametric_map import UNSEEN, Quantity, parametric_map
from ttr.hospital.report import Group, Number, report
from ttr.hospital.secondary_capture import capture, captured_size, secondary_capture
from ttr.studies.compare.comparison import ImageComparison, highest
from ttr.studies.compare.page import QUANTITIES
from ttr.studies.compare.view import View
from ttr.studies.schemas import DICOM
from ttr.wording import DISCLAIMER, counted

if TYPE_CHECKING:
    from PIL.Image import Image

#: The folder in a comparison's.
FOLDER = "dicom"
RUNS = {"before": ("BARE", "Bare model"), "after": ("WRAPPED", "Model with test-time registers")}
MAPS = {
    "attention": Quantity(
        "CLSATTENTION",
        "CLS attention to a patch, mean of the heads, last block",
        "ATTENTION",
        maps.ATTENTION_MAP,
    ),
    "norms": Quantity("PATCHNORM", "L2 norm of a patch, last block", "NORM", maps.NORM_MAP),
}
#: Codes of what the page measures, in its words, and what is counted.
CODES = {
    "max_patch_norm": ("MAXPATCHNORM", ""),
    "median_patch_norm": ("MEDIANPATCHNORM", ""),
    "outlier_patches": ("OUTLIERPATCHES", "patches"),
    "max_patch_attention": ("MAXATTENTION", ""),
    "register_attention": ("REGATTENTION", ""),
    "register_norm": ("REGNORM", ""),
    "faithfulness": ("FAITHFULNESS", ""),
}
GRADES = {"not faithful": "NOTFAITHFUL", "partly faithful": "PARTLYFAITHFUL", "faithful": "FAITHFUL"}
REPORT = "Registers before and after, numbers"
USE = (("INTENDEDUSE", "Intended use"), ("RESEARCHONLY", DISCLAIMER))


def titles() -> list[str]:
    """Return the descriptions of the instances that are written of an image, in their order."""
    shown = [_title(quantity, run) for quantity in MAPS.values() for run in RUNS]
    return [f"{title}, {form}" for title in shown for form in ("map", "picture")] + [REPORT]


def _title(quantity: Quantity, run: str) -> str:
    return f"{quantity.label.capitalize()} {run} registers"


@dataclass(frozen=True, eq=False)
class Source:
    """An image as it is opened, where it belongs, and where the model sees it."""

    opened: Callable[[], Image]
    origin: Origin
    placed: Placement


@dataclass(frozen=True)
class DicomOut:
    """How results are written in DICOM.

    Attributes:
        keep_patient: whether the patient and the visit are copied from the source
            (:data:`ttr.datasets.dicom.origin.PATIENT`); else these stay empty.
        new_uid: of series and instances.

    Raises:
        OptionError: the package that writes DICOM is not installed.
    """

    keep_patient: bool = False
    new_uid: NewUID = field(default_factory=new_uids, repr=False)

    def __post_init__(self) -> None:
        need("--dicom", "dicom", "highdicom")

    def sourced(self, images: OpenedImages, backbone: Backbone) -> tuple[OpenedImages, dict[str, Source]]:
        """Return images that say where they belong as they are opened, and {name: source}, yet empty.

        One that belongs nowhere, or of which the model sees next to nothing, is refused as one that cannot be
        read. ``backbone``: its preprocessing places the maps.

        Raises:
            OptionError: they are no files.
            ModelError: as they are opened: the preprocessing does more than resize, crop and pad.
        """
        if not all(hasattr(each, "path") for each in images.closed):
            raise OptionError("images in memory belong to no DICOM study; give DICOM files, or no DICOM out")
        found: dict[str, Source] = {}
        placements: dict[tuple[int, int], Placement] = {}

        def opened(each: Any) -> Any:
            name = images.named(each)
            with called(name, each.path):
                origin = origin_of(each.path, keep_patient=self.keep_patient)
            picture = images.opener(each)
            size = picture.height, picture.width
            if size not in placements:
                placements[size] = placement(backbone, size)
            found[name] = Source(partial(open_image, each.path), origin, placements[size])
            return picture

        return replace(images, opener=opened), found


def write_dicom(
    folder: Path,
    backbone: Backbone,
    comparisons: Sequence[ImageComparison],
    sources: Mapping[str, Source],
    how: DicomOut,
) -> dict[str, dict[str, str]]:
    """Write the folder: nine files an image, 16 bytes a pixel of the source in all, and ``manifest.json``.

    Args:
        folder: to make or, where it is empty, to fill.
        backbone: the bare backbone.
        comparisons: at least one.
        sources: {name of an image: its source}.
        how: settings.

    Returns:
        {name of an image: {name of a file: its SOP instance UID}}, in the order of writing.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder.mkdir(exist_ok=True)
    filing, maker = Filing(folder, how.new_uid), Maker(backbone.name, backbone.weights_hash)
    scales = {name: highest(comparisons, name) for name in MAPS}
    files: dict[str, dict[str, str]] = {}
    for number, comparison in enumerate(comparisons, start=1):
        source, done = sources[comparison.image], len(filing.files)
        _file_maps(filing, f"{number:04d}", comparison, source, scales, maker)
        _file_report(filing, f"{number:04d}", comparison, backbone, source.origin, maker)
        files[comparison.image] = dict(list(filing.files.items())[done:])
    manifest = {
        "schema": DICOM,
        "files": list(filing.files),
        "images": {name: list(made) for name, made in files.items()},
        "keep_patient": how.keep_patient,
        "outside": UNSEEN,
        "provenance": dict(comparisons[0].provenance),
    }
    write_json(folder / MANIFEST, manifest)
    return files


def _file_maps(
    filing: Filing,
    number: str,
    comparison: ImageComparison,
    source: Source,
    scales: Mapping[str, float],
    maker: Maker,
) -> None:
    """Write each map, before and after, as a Parametric Map and as a Secondary Capture."""
    origin, placed, picture = source.origin, source.placed, source.opened()
    frame_of_reference = origin.frame_of_reference or filing.new_uid("frame of reference", *which(origin))
    for name, quantity in MAPS.items():
        for run in RUNS:
            values, high = getattr(getattr(comparison, run).maps, name), scales[name]
            title = _title(quantity, run)
            grid = placed.spread(values, origin.size, UNSEEN)
            place = filing.place(origin, f"{title}, map")
            made = parametric_map(grid, quantity, high, origin, maker, place, frame_of_reference)
            filing.keep(f"{number}-{name}-{run}-map.dcm", made)
            shown = placed.spread(values, captured_size(*picture.size), UNSEEN)
            pixels = capture(picture, shown, high, quantity.colours, title, maker.model)
            place = filing.place(origin, f"{title}, picture")
            filing.keep(f"{number}-{name}-{run}-picture.dcm", secondary_capture(pixels, origin, maker, place))


def _file_report(
    filing: Filing,
    number: str,
    comparison: ImageComparison,
    backbone: Backbone,
    origin: Origin,
    maker: Maker,
) -> None:
    """Write what was measured before and after as a Structured Report."""
    settings = comparison.provenance["settings"]
    parameters = [
        f"backbone {backbone.name}, weights {backbone.weights_hash}",
        f"{counted(settings['num_registers'], 'test-time register')}, variant {settings['variant']}",
        f"outliers above norm {comparison.outlier_threshold:.6g} after block {comparison.outlier_layer}",
        *([backbone.warning] if backbone.warning else []),
    ]
    groups = [_measured(getattr(comparison, run), *said) for run, said in RUNS.items()]
    place = filing.place(origin, REPORT)
    filing.keep(f"{number}-report.dcm", report(groups, parameters, origin, maker, place, filing.new_uid))


def _measured(view: View, code: str, meaning: str) -> Group:
    numbers = [
        Number(CODES[name][0], label, float(value), CODES[name][1])
        for name, label, _ in QUANTITIES
        if (value := getattr(view, name)) is not None
    ]
    word = grade(view.trust)
    graded = ("FAITHGRADE", "Faithfulness of the attention map"), (GRADES[word], word.capitalize())
    return Group(code, meaning, numbers, [graded, USE])
