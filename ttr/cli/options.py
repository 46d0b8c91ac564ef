"""Options that several commands share, each written once; those that go together are a group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from ttr.checks import MOST_REGISTERS
from ttr.cli import given
from ttr.cli.groups import Group

if TYPE_CHECKING:
    from ttr.datasets.layouts.spair import KeypointPair
    from ttr.datasets.registry import Dataset
    from ttr.run import Run


class Pooling(str, Enum):
    """What an image's feature is made of."""

    own = "own"
    cls = "cls"
    patches = "patches"


class Variant(str, Enum):
    """How register neurons are moved."""

    algorithm = "algorithm"
    released_code = "released-code"


BackboneName = Annotated[
    str,
    typer.Option(
        "--backbone",
        metavar="NAME",
        help="A name that ttr backbones lists (phantom is one), timm:ARCHITECTURE[.TAG], "
        "open_clip:ARCHITECTURE[/TAG] or transformers:DIRECTORY.",
        callback=given.backbone,
    ),
]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Use the library's published weights (fetched or cached).")
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", help="Where to compute: cpu, cuda, cuda:1, mps.", callback=given.device
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="TYPE",
        help="The model's floating-point type: fp32, bf16, fp16 or fp64, or in full (float32); norms and "
        "statistics stay float32 or wider.",
        callback=given.dtype,
    ),
]
NeuronsFile = Annotated[
    Path | None,
    typer.Option(
        "--neurons",
        metavar="FILE",
        help="Register neurons, made by ttr detect; default: a published preset.",
        callback=given.neurons,
    ),
]
NeuronsOrFound = Annotated[
    Path | None,
    typer.Option(
        "--neurons",
        metavar="FILE",
        help="Register neurons; default: a preset, else found on training images.",
        callback=given.neurons,
    ),
]
PoolingName = Annotated[
    Pooling,
    typer.Option(
        "--pooling",
        help="What the feature of an image is: as the model pools for its own head, CLS, or the mean of the "
        "patches, both after the final norm.",
    ),
]
NumRegisters = Annotated[
    int,
    typer.Option("--num-registers", min=0, max=MOST_REGISTERS, help="Test-time registers to append."),
]
VariantName = Annotated[
    Variant,
    typer.Option(
        "--variant",
        help="How neurons are moved: as in the published algorithm (a register gets the value of largest "
        "magnitude, all else 0), or in the released code (the maximum; CLS keeps its own).",
    ),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        "--threshold",
        metavar="NORM",
        help="Norm of an outlier: a number, auto (robust), or mean+3sd.",
        callback=given.threshold,
    ),
]
OutlierLayer = Annotated[
    int | None,
    typer.Option("--outlier-layer", help="Block at whose output outliers are read; negative: from the last."),
]
OutFolder = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder to write; an earlier result is replaced.",
        callback=given.out_folder,
    ),
]
DatasetName = Annotated[
    str,
    typer.Option(
        "--dataset", metavar="NAME", help="A labelled set; ttr data info lists them.", callback=given.dataset
    ),
]
DatasetRoot = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="PATH",
        help="Where that set lies: its folder, or its file (a csv set's table).",
        callback=given.root,
    ),
]
Finding = Annotated[
    str | None,
    typer.Option(
        "--finding",
        metavar="NAME",
        help="The finding that is told from its absence, of a set whose images may show several.",
    ),
]
CacheFolder = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Feature cache; default: ttr/features in the user's cache."),
]
Images = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")]
Frame = Annotated[
    int | None,
    typer.Option(
        "--frame",
        metavar="N",
        min=1,
        help="The N-th frame of DICOM files that have several, from 1 on; default: all, in their order. One "
        "file's is also named cine.dcm#N.",
    ),
]
Margin = Annotated[
    float,
    typer.Option(
        "--margin",
        metavar="POINTS",
        help="What differs by less than so many points counts as equivalent, once the tests show it.",
    ),
]
DrawSeed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every draw.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Threads that read and decode ahead.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images a pass.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]
Anonymous = Annotated[
    bool,
    typer.Option(
        "--anonymous",
        help="Name no image, patient or folder in what is written: image 1, image 2, ... in the order given. "
        "Pictures and names of classes stay.",
    ),
]


class Place(Protocol):
    """Anything that says where backbones compute, and in which type."""

    @property
    def device(self) -> str:
        """The device."""
        ...

    @property
    def dtype(self) -> str:
        """The type."""
        ...


@dataclass(frozen=True, kw_only=True)
class WeightsOptions(Group):
    """Which weights, at which size."""

    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights of that architecture: .safetensors, .pt, .pth or .onnx, or a directory.",
            callback=given.weights,
        ),
    ] = None
    pretrained: Pretrained = False
    image_size: Annotated[
        int | None, typer.Option(metavar="PX", min=1, help="Side of the input; default: the model's own.")
    ] = None

    def of(self, backbone: str) -> ModelOptions:
        """Return these with the name of a backbone."""
        return ModelOptions(backbone=backbone, **vars(self))


@dataclass(frozen=True, kw_only=True)
class TypeOptions(Group):
    """In which type a model computes."""

    dtype: Dtype = "float32"


@dataclass(frozen=True, kw_only=True)
class PlaceOptions(TypeOptions):
    """Where and in which type models compute."""

    device: Device = "cpu"


@dataclass(frozen=True, kw_only=True)
class TypedOptions(TypeOptions, WeightsOptions):
    """Which weights, and in which type they compute."""


@dataclass(frozen=True, kw_only=True)
class PlacedOptions(PlaceOptions, WeightsOptions):
    """Which weights, and where and in which type they compute."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions(PlacedOptions):
    """A backbone: its name, which weights it has, and where it computes."""

    backbone: BackboneName

    def __post_init__(self) -> None:
        """Raise ModelError where several sources of weights are given, or none where one is needed."""
        from ttr.backbones.names import check_sources

        check_sources(self.backbone, self.weights, self.pretrained)


@dataclass(frozen=True, kw_only=True)
class DataOptions(Group):
    """A labelled set."""

    dataset: DatasetName
    root: DatasetRoot = None
    finding: Finding = None

    def open(self, *, anonymous: bool) -> Dataset:
        """Open the set, and say what its reading left out; ``anonymous``: images and groups are numbered.

        Raises:
            DataError: it is not there, or not laid out as it must be.
        """
        from ttr.datasets.registry import open_dataset

        found = open_dataset(self.dataset, self.root, finding=self.finding)
        for note in found.notes:
            typer.echo(f"{self.dataset}: {note}")
        return found.anonymous() if anonymous else found


@dataclass(frozen=True, kw_only=True)
class PairsOptions(Group):
    """Annotated pairs for correspondence."""

    pairs: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="SPair-71k: correspondence on its test pairs.", callback=given.root),
    ] = None
    num_pairs: Annotated[int | None, typer.Option(min=2, help="How many pairs; default: all.")] = None

    def read(self, seed: int, *, anonymous: bool) -> Sequence[KeypointPair]:
        """Return the pairs, none where none were asked for; ``anonymous``: they are numbered.

        Raises:
            DataError: they are not there.
        """
        from ttr.datasets.layouts.spair import spair

        if self.pairs is None:
            return ()
        return spair(self.pairs, limit=self.num_pairs, seed=seed, anonymous=anonymous)


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(Group):
    """How images are read, named and run."""

    anonymous: Anonymous = False
    on_error: Annotated[
        str,
        typer.Option(
            metavar="raise|skip",
            help="Whether a bad image ends the run, or is recorded.",
            callback=given.on_error,
        ),
    ] = "raise"
    workers: Workers = 2
    batch_size: BatchSize = 32
    quiet: Quiet = False

    def run(self, place: Place, *, seed: int = 42) -> Run:
        """Return how a study is to run, on the device and in the type of ``place``.

        Raises:
            OptionError: a value is outside its range.
        """
        from ttr.run import Run

        how: dict[str, Any] = {**vars(self), "device": place.device, "dtype": place.dtype}
        del how["anonymous"]
        return Run(seed=seed, progress=not how.pop("quiet"), say=typer.echo, **how)


@dataclass(frozen=True, kw_only=True)
class StudyOptions(ReadingOptions):
    """How images are read and run, and where what is computed of them is kept."""

    cache: CacheFolder = None


@dataclass(frozen=True, kw_only=True)
class ShuffledOptions(StudyOptions):
    """The same for a study that shuffles tokens across the images of a batch."""

    batch_size: Annotated[int, typer.Option(min=2, help="Images a pass; shuffling draws within it.")] = 32


def parse_numbers(option: str, text: str) -> list[int]:
    """Turn ``1,5,10`` or ``0..5,10`` (both ends belong to a range) into the numbers.

    Raises:
        OptionError: a part is neither, a range runs backwards, or there is nothing.
    """
    from ttr.errors import OptionError

    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?\d{1,9})(?:\.\.(-?\d{1,9}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= first + 10_000:
            raise OptionError(
                f"{option} {text!r}: cannot read {part!r}; needed numbers such as 1,5,10, or a range 0..5"
            )
        numbers += range(first, last + 1)
    return numbers


def points(margin: float) -> float:
    """Return a margin in points as a share.

    Raises:
        OptionError: it is not above 0 and below 100.
    """
    from ttr.errors import OptionError

    if not 0 < margin < 100:
        raise OptionError(f"--margin {margin:g}; needed points, above 0 and below 100")
    return margin / 100


def parse_list(text: str) -> list[str]:
    """Turn ``a,b`` into its parts."""
    return [part.strip() for part in text.split(",") if part.strip()]
