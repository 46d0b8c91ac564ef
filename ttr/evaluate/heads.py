"""Linear heads on frozen features: W f + b, one row a class.

Our own files are safetensors with the class names in the header. People also own heads of the predecessor:
state dicts ``{"fc.weight": [C, D], "fc.bias": [C]}`` that were saved on a CUDA device. Both load here, on any
machine, without executing anything; the latter carry no class names, so those are given or left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ttr import checks
from ttr.backbones.checkpoint_files import read_state
from ttr.errors import ModelError
from ttr.files import TensorsError, load_tensors, save_tensors

SCHEMA = "ttr.linear-head/1"


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear classifier.

    Attributes:
        weight: float [C, D].
        bias: float [C].
        classes: C names in the order of the rows, or None where the file held none.

    Raises:
        ModelError: shapes or names that do not fit, or values that are no finite floats.
    """

    weight: Tensor
    bias: Tensor
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        checks.floats("this head", {"weight": self.weight, "bias": self.bias})
        if not self.weight.ndim:
            raise ModelError("got a weight that is one number; needed [classes, features]")
        count = self.weight.shape[0]
        if self.weight.ndim != 2 or tuple(self.bias.shape) != (count,):
            shapes = f"{tuple(self.weight.shape)} and {tuple(self.bias.shape)}"
            raise ModelError(
                f"got weight and bias of shapes {shapes}; needed [classes, features] and [classes]"
            )
        if self.classes is not None and len(self.classes) != count:
            raise ModelError(f"got {len(self.classes)} class names for a head of {count} classes")
        checks.finite("this head", {"weight": self.weight, "bias": self.bias})

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits [B, C] of features [B, D].

        Raises:
            ModelError: features of another size, most likely of another backbone.
        """
        if features.shape[-1] != self.weight.shape[1]:
            raise ModelError(
                f"got features of size {features.shape[-1]}, but this head takes {self.weight.shape[1]}; "
                "use the backbone that it was trained on"
            )
        return features.float() @ self.weight.T + self.bias

    def save(self, path: str | Path, place: str = "") -> None:
        """Write the head as safetensors, class names in the header, sealed as ``place``."""
        header = {"schema": SCHEMA, "classes": self.classes}
        save_tensors(Path(path), {"weight": self.weight, "bias": self.bias}, "head", header, place)

    @classmethod
    def load(
        cls, path: str | Path, classes: Sequence[str] | None = None, place: str | None = None
    ) -> LinearHead:
        """Read a head that ``save`` wrote, or the predecessor's ``best_model_*.pth``.

        Args:
            path: a .safetensors file, or a torch file of a state dict.
            classes: names of the rows, for a file that holds none.
            place: what the file must have been sealed as; None: it may have no seal, as those of others.

        Raises:
            ModelError: no such file, damaged, no linear head, or not what was sealed.
        """
        path = Path(path)
        state = read_state(path)
        named = (
            {key.removeprefix("fc."): value for key, value in state.items()}
            if isinstance(state, dict)
            else {}
        )
        if set(named) != {"weight", "bias"} or not all(isinstance(v, Tensor) for v in named.values()):
            raise ModelError(
                f"{path} holds no linear head; needed the two tensors weight [classes, features] and bias, "
                "or fc.weight and fc.bias"
            )
        header = _header(path, place)
        names = _class_names(path, header) if classes is None else tuple(classes)
        checks.floats(str(path), named)
        # A copy: what was read may be a view of the file.
        weight, bias = (named[name].detach().to(torch.float32, copy=True) for name in ("weight", "bias"))
        checks.finite(str(path), {"weight": weight, "bias": bias})
        return cls(weight, bias, names)


def _header(path: Path, place: str | None) -> dict[str, Any]:
    """Return what one of our files says of itself, once its seal is found right; {}: it is of others."""
    if path.suffix != ".safetensors":
        return {}
    try:
        return load_tensors(path, "head", place=place)[1]
    except TensorsError as error:
        raise ModelError(f"{path} is damaged ({error}); train it again with ttr bench") from error


def _class_names(path: Path, header: dict[str, Any]) -> tuple[str, ...] | None:
    names = header.get("classes")
    if names is not None and not (isinstance(names, list) and all(isinstance(each, str) for each in names)):
        raise ModelError(f"{path} names its classes otherwise than as a list of words; give classes=")
    return None if names is None else tuple(names)
