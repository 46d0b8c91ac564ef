"""Options that several commands share, each written once."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

BackboneName = Annotated[
    str,
    typer.Option(
        "--backbone",
        metavar="NAME",
        help="phantom, phantom-reg4, phantom-clip, phantom-patches, phantom-registers, phantom-skip, "
        "a name listed by ttr backbones, "
        "timm:ARCHITECTURE[.TAG], open_clip:ARCHITECTURE[/TAG] or transformers:DIRECTORY.",
    ),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Weights of that architecture: .safetensors, .pt or .pth (transformers: the directory).",
    ),
]
NeuronsFile = Annotated[
    Path | None,
    typer.Option(
        "--neurons",
        metavar="FILE",
        help="Register neurons, made by ttr detect; default: a published preset.",
    ),
]
NumRegisters = Annotated[int, typer.Option("--num-registers", min=0, help="Test-time registers to append.")]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Use the library's published weights (fetched or cached).")
]
ImageSize = Annotated[
    int | None,
    typer.Option("--image-size", metavar="PX", help="Side of the input; default: the model's own."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images a pass.")]
Threshold = Annotated[
    str | None,
    typer.Option(
        "--threshold", metavar="NORM", help="Norm of an outlier: a number, auto (robust), or mean+3sd."
    ),
]
OutlierLayer = Annotated[
    int | None,
    typer.Option("--outlier-layer", help="Block at whose output outliers are read; negative: from the last."),
]
DatasetName = Annotated[
    str,
    typer.Option("--dataset", metavar="NAME", help="A labelled set; ttr data info lists them."),
]
DatasetRoot = Annotated[
    Path | None,
    typer.Option(
        "--root", metavar="PATH", help="Where that set lies: its folder, or the table of a csv set."
    ),
]
OutFolder = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", help="Folder to write; an earlier result is replaced."),
]
PairsFolder = Annotated[
    Path | None,
    typer.Option("--pairs", metavar="DIR", help="SPair-71k: correspondence on its test pairs."),
]
NumPairs = Annotated[int | None, typer.Option("--num-pairs", min=2, help="So many of them; default: all.")]
DrawSeed = Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")]
OnError = Annotated[
    str,
    typer.Option(
        "--on-error", metavar="raise|skip", help="Whether a bad image ends the run, or is recorded."
    ),
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Threads that read and decode ahead.")]
ShuffledBatch = Annotated[
    int, typer.Option("--batch-size", min=2, help="Images a pass; shuffling draws within it.")
]
CacheFolder = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Feature cache; default: ttr/features in the user's cache."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]


def default_cache() -> Path:
    """Return where features are cached unless told otherwise."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "ttr" / "features"


def parse_threshold(value: str) -> float | str:
    """Turn a number into one; leave a rule's name for the library to check."""
    try:
        return float(value)
    except ValueError:
        return value


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


def parse_list(text: str) -> list[str]:
    """Turn ``a,b`` into its parts."""
    return [part.strip() for part in text.split(",") if part.strip()]
