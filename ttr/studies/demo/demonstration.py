"""``run_demo``: on real weights where they are installed, else on a phantom."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ttr.backbones.real import found
from ttr.studies.demo.found import Demo
from ttr.studies.demo.on_phantom import on_phantom
from ttr.studies.demo.on_real_weights import on_real_weights


def real_weights_at_hand() -> bool:
    """Return whether the extra ``[real]`` is installed: the weights, and what reads them."""
    return found() is not None and find_spec("onnx") is not None


def run_demo(
    out: Path, *, real: bool, phantoms: int = 64, dtype: str = "float32", progress: bool = True
) -> Demo:
    """Run the demonstration into folder ``out``; an earlier result is replaced.

    Args:
        out: folder to make.
        real: on real weights, see :func:`real_weights_at_hand`; else on a phantom.
        phantoms: phantom images to detect on, there.
        dtype: in which type the models compute, see :data:`ttr.run.DTYPES`.
        progress: show progress bars.

    Raises:
        ModelError: the installed weights are others than they should be.
        OutputError: ``out`` cannot be written.
    """
    if real:
        return on_real_weights(out, dtype=dtype, progress=progress)
    return on_phantom(out, phantoms=phantoms, dtype=dtype, progress=progress)
