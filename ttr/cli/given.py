"""What was given on the command line, looked at before anything heavy is imported or an image is read.

Each of these is the callback of an option, so that every command that has the option refuses a typo at once.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

from ttr.errors import DataError, ModelError, NeuronsError, OptionError


def backbone(name: str | None) -> str | None:
    """Return the name of a backbone, or raise ModelError."""
    from ttr.backbones.names import check_name

    if name:
        check_name(name)
    return name


def backbones(names: list[str] | None) -> list[str] | None:
    """Return names of backbones, or raise ModelError."""
    for name in names or ():
        backbone(name)
    return names


def listed_backbones(names: list[str]) -> list[str]:
    """Return names of backbones, given one by one or with commas between, or raise ModelError."""
    parts = [part.strip() for name in names for part in name.split(",")]
    return backbones(parts) or []


def weights(path: Path | None) -> Path | None:
    """Return a file or directory of weights that is there, or raise ModelError."""
    if path is not None and not path.exists():
        raise ModelError(f"weights file {path} does not exist; check the path")
    return path


def device(name: str) -> str:
    """Return the name of a device, or raise OptionError; whether the machine has it torch will say."""
    if not re.fullmatch(r"(cpu|cuda|mps|xpu|hpu|xla)(:\d{1,4})?", name):
        raise OptionError(f"device {name!r} is not known; needed one such as cpu, cuda, cuda:1 or mps")
    return name


def dtype(name: str) -> str:
    """Return the name of a floating-point type, or raise OptionError."""
    from ttr.run import check_dtype

    check_dtype(name)
    return name


def neurons(path: Path | None) -> Path | None:
    """Return a file of register neurons that is there, or raise NeuronsError."""
    if path is not None and not path.is_file():
        why = os.strerror(errno.EISDIR if path.is_dir() else errno.ENOENT)
        raise NeuronsError(f"register-neurons file {path} cannot be read ({why}); make one with: ttr detect")
    return path


def threshold(value: str | None) -> str | None:
    """Return a norm, or the name of a rule, or raise OptionError."""
    from ttr.norms import check_threshold

    if value is not None:
        check_threshold(parse_threshold(value))
    return value


def parse_threshold(value: str | None) -> Any:
    """Turn a number into one; leave a rule's name for the library to check, and nothing as it is."""
    try:
        return None if value is None else float(value)
    except ValueError:
        return value


def on_error(value: str) -> str:
    """Return what a bad image does, or raise OptionError."""
    from ttr.run import Run

    Run(on_error=value)
    return value


def dataset(name: str | None) -> str | None:
    """Return the name of a labelled set, or raise DataError."""
    from ttr.datasets.registry import loader

    if name is not None:
        loader(name)
    return name


def root(path: Path | None) -> Path | None:
    """Return a folder or a file that is there, or raise DataError."""
    if path is not None and not path.exists():
        raise DataError(f"root {path} does not exist; check the path, or see: ttr data info NAME")
    return path


def out_folder(path: Path) -> Path:
    """Return a folder that a result may be written to, or raise OutputError."""
    from ttr.studies.schemas import check_result_folder

    check_result_folder(path)
    return path


def kept_folder(path: Path | None) -> Path | None:
    """Return a folder that results of several series may be kept in, new or not, or raise OutputError."""
    from ttr.errors import OutputError
    from ttr.files import check_parent

    if path is not None:
        try:
            if path.exists() and not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            check_parent(path / "result")
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({error.strerror}); choose another --out") from error
    return path


def shards_folder(path: Path) -> Path:
    """Return a folder that shards may be written to, new or begun earlier, or raise OutputError."""
    from ttr.studies.embed.folder import check_folder

    check_folder(path)
    return path


def out_file(path: Path | None) -> Path | None:
    """Return a file that may be written, or raise OutputError."""
    from ttr.files import check_writable

    if path is not None:
        check_writable(path)
    return path


def results(path: Path | None) -> Path | None:
    """Return a folder of results that is there, or raise OptionError."""
    from ttr.studies.results import Results

    Results(path)
    return path


def head(path: Path | None) -> Path | None:
    """Return a linear head, or the folder of a benchmark, that is there, or raise OptionError."""
    if path is not None and not path.exists():
        raise OptionError(f"--head {path} does not exist; give a linear head, or a folder of: ttr bench")
    return path
