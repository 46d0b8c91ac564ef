"""A wrapped backbone as one file, for programs that know neither ttr nor Python's hooks.

The wrap's edits stand in the model as hooks; ``torch.export`` traces them with it into one graph, and that
graph is what is written:

    images [B, 3, H, W]  ->  embedding [B, D],  patches [B, P, D']

``embedding`` is ``Backbone.embed``: the model's own global feature, behind which its head fits; with another
``pooling``, CLS or the mean of the patches. ``patches`` are the patch tokens behind the
final norm, row by row of the patch grid, for whoever needs dense features. B is free, the image size is the
backbone's own. ``.onnx`` runs in ONNX Runtime, ``.pt2`` in PyTorch (``torch.export.load``). What the file was
made with travels in it as JSON: the ONNX metadata ``ttr``, or the extra file ``ttr.json`` of the archive.

The written file is read again and compared with the model at two batch sizes before it gets its name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ttr.backbones.base import Backbone
from ttr.backbones.families import as_backbone
from ttr.backbones.pooling import Pooling
from ttr.errors import ModelError
from ttr.files import whole_file
from ttr.hooks import evaluation_mode
from ttr.progress import progress_bar
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.variants import ALGORITHM, Variant
from ttr.registers.wrap import TestTimeRegisters
from ttr.studies.export.formats import (
    FORMATS,
    INPUT,
    ONNX_BYTES,
    OUTPUTS,
    Format,
    Outputs,
    quiet,
)
from ttr.studies.export.place import check_place
from ttr.studies.provenance import provenance
from ttr.studies.schemas import EXPORT

#: Largest difference; of a coarser type so many roundings of the largest value, if that is more.
TOLERANCE, ROUNDINGS = 1e-3, 8
CHECKED_BATCHES = (1, 3)


@dataclass(frozen=True)
class Exported:
    """A file that was written and agreed with the model.

    Attributes:
        path: the file.
        shapes: of each output, without the batch axis.
        max_difference: largest absolute difference to the model over both outputs and all checked batches.
        moved: the same of the wrapped model to the bare one: what the registers do to the outputs.
        metadata: what stands in the file.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    max_difference: float
    moved: float
    metadata: dict[str, Any]


def export(
    backbone: Backbone,
    neurons: RegisterNeurons,
    out: str | Path,
    *,
    format: Format = "onnx",
    num_registers: int = 1,
    variant: Variant = ALGORITHM,
    pooling: Pooling = "own",
    progress: bool = False,
) -> Exported:
    """Write the backbone, wrapped with ``num_registers`` test-time registers, to one file.

    Args:
        backbone: a backbone on the CPU, not wrapped; float32 for ONNX, of any type for pt2.
        neurons: its register neurons. An empty set with ``num_registers=0`` exports the bare model.
        out: file to write, ending in ``.onnx`` or ``.pt2`` like the format; an earlier one is replaced.
        format: ``"onnx"`` (needs the extra ``[onnx]``) or ``"pt2"``.
        num_registers: R >= 0.
        variant: how the neurons are moved, see :mod:`ttr.registers.variants`.
        pooling: what ``embedding`` is, see :meth:`ttr.Backbone.embed`.
        progress: show a progress bar.

    Raises:
        OptionError: no such format or pooling, another suffix, the extra is missing, or R is negative.
        NeuronsError: the neurons belong to another backbone.
        ModelError: another type or device, too large for one ONNX file, not traceable, or the file's
            outputs differ from the model's by more than 1e-3 (8 roundings of a coarser type); nothing is
            left at ``out`` then.
        OutputError: ``out`` cannot be written.

    Example:
        >>> ttr.export(backbone, neurons, "model.onnx").max_difference
    """
    out = Path(out)
    backbone = as_backbone(backbone).with_pooling(pooling)
    _refuse_unfit(backbone, out, format)
    wrap = TestTimeRegisters(backbone, neurons, num_registers=num_registers, variant=variant)
    write, read = FORMATS[format]
    checked = [_images(backbone, count) for count in CHECKED_BATCHES]
    bare = [_outputs(backbone, images) for images in checked]
    with whole_file(out) as file, progress_bar("exporting", 3, show=progress) as advance, wrap:
        with quiet():
            program = _trace(backbone)
            advance(1)
            expected = [_outputs(backbone, images) for images in checked]
            shapes = {name: tuple(x.shape[1:]) for name, x in zip(OUTPUTS, expected[0], strict=True)}
            metadata = _metadata(wrap, shapes)
            write(program, file, json.dumps(metadata, allow_nan=False))
            del program
            advance(1)
            run = read(file)
        difference = _largest_difference([run(images) for images in checked], expected)
        if not difference <= (tolerance := _tolerance(expected)):
            raise ModelError(
                f"the exported {format} file of {backbone.name} differs from the model by {difference:.3g}, "
                f"more than {tolerance:.3g}; nothing was written; try the other format"
            )
        advance(1)
    return Exported(out, shapes, difference, _largest_difference(expected, bare), metadata)


class _Embedder(nn.Module):
    """The exported forward. Only the image tower is registered, so CLIP's text tower stays at home."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.tower = getattr(backbone.model, "visual", backbone.model)
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        embedding, tokens = self.backbone.one_pass(images)
        return embedding, tokens.patches


def _trace(backbone: Backbone) -> Any:
    """Return the exported program, the batch free, without the paths of this machine's source files."""
    images = _images(backbone, 2)
    free = {INPUT: {0: torch.export.Dim("batch", min=1)}}
    try:
        with evaluation_mode(backbone.model), torch.no_grad():
            program = torch.export.export(
                _Embedder(backbone).eval(), (images,), dynamic_shapes=free, strict=False
            )
    except Exception as error:
        raise ModelError(
            f"{backbone.name} cannot be traced ({type(error).__name__}: {str(error)[:200]}); "
            "export needs a forward without data-dependent Python"
        ) from error
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


def _outputs(backbone: Backbone, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the file must give, by the library's own eager way."""
    return backbone.embed(images), backbone.tokens(images).patches


def _tolerance(expected: Sequence[Outputs]) -> float:
    """Return how far the file's outputs may be from the model's, in the type that it computes in."""
    outputs = [x for each in expected for x in each]
    rounding = torch.finfo(outputs[0].dtype).eps * max(float(x.abs().max()) for x in outputs)
    return max(TOLERANCE, ROUNDINGS * rounding)


def _images(backbone: Backbone, count: int) -> Tensor:
    """Return noise, from dark to middle grey: register neurons often fire where there is nothing to see."""
    generator = torch.Generator().manual_seed(count)
    noise = torch.randn(count, backbone.channels, *backbone.image_size, generator=generator)
    return (torch.linspace(-1.5, 0, count)[:, None, None, None] + 0.5 * noise).to(backbone.dtype)


def _largest_difference(found: Sequence[Outputs], expected: Sequence[Outputs]) -> float:
    """Return the largest absolute difference; NaN, or a shape that differs, counts as infinite."""
    largest = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            worst = float((a - b).abs().max()) if a.shape == b.shape else math.inf
            largest = max(largest, math.inf if math.isnan(worst) else worst)
    return largest


def _refuse_unfit(backbone: Backbone, out: Path, format: str) -> None:
    """Refuse before the long work what cannot succeed."""
    check_place(out, format)
    if backbone.device.type != "cpu":
        raise ModelError(
            f"export needs a model on the CPU, but {backbone.name} is on {backbone.device}; load it there"
        )
    if format == "onnx" and backbone.dtype != torch.float32:
        raise ModelError(
            f"ONNX Runtime runs these models on a CPU in float32 alone, but {backbone.name} is "
            f"{str(backbone.dtype).removeprefix('torch.')}; load it in float32, or choose format pt2"
        )
    size = sum(p.numel() * p.element_size() for p in _Embedder(backbone).parameters())
    if format == "onnx" and size > ONNX_BYTES:
        raise ModelError(
            f"{backbone.name} has {size / 2**30:.1f} GiB of weights; one ONNX file holds "
            f"{ONNX_BYTES / 2**30:.1f} GiB; choose format pt2"
        )


def _metadata(wrap: TestTimeRegisters, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    backbone = wrap.backbone
    settings = {"num_registers": wrap.num_registers, "variant": wrap.variant}
    rows, columns = backbone.layout.grid
    return {
        "schema": EXPORT,
        **provenance(backbone, **settings, neurons=wrap.neurons.pairs),
        "input": {"name": INPUT, "shape": ["batch", backbone.channels, *backbone.image_size]},
        "outputs": {name: ["batch", *shape] for name, shape in shapes.items()},
        "patch_grid": [rows, columns],
        "preprocessing": _preprocessing(backbone),
    }


def _preprocessing(backbone: Backbone) -> dict[str, Any] | None:
    """Return mean and SD of 0..1 pixels and, for a composed transform, its steps as text."""
    if backbone.normalisation is None:
        return None
    mean, deviation = ([round(value, 6) for value in part.tolist()] for part in backbone.normalisation)
    steps = getattr(backbone.preprocess_image, "transforms", ())
    return {"mean": mean, "std": deviation, "steps": [re.sub(r" at 0x\w+", "", str(step)) for step in steps]}
