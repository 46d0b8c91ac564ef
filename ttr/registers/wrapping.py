"""A wrap: a change to a model that stands in a ``with`` block, or from ``install()`` to ``remove()``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import TYPE_CHECKING

from torch import nn

from ttr.backbones.base import Backbone
from ttr.backbones.families import as_backbone
from ttr.registers.neurons import RegisterNeurons

if TYPE_CHECKING:
    from typing_extensions import Self


class Wrap(ABC):
    """What wraps share: they go in whole or not at all, and out without a trace.

    Attributes:
        backbone: whose model is changed.
        neurons: its register neurons.
    """

    def __init__(self, backbone_or_model: Backbone | nn.Module, neurons: RegisterNeurons) -> None:
        self.backbone = as_backbone(backbone_or_model)
        self.neurons = neurons
        self._undo: ExitStack | None = None

    @abstractmethod
    def _put_in(self, undo: ExitStack) -> None:
        """Change the model step by step, each with its undoing."""

    @property
    def installed(self) -> bool:
        """Whether the wrap stands in the model now."""
        return self._undo is not None

    def install(self) -> Self:
        """Put the wrap into the model until :meth:`remove`; install before ``torch.compile`` or export."""
        with ExitStack() as undo:
            self._put_in(undo)
            self._undo = undo.pop_all()
        return self

    def remove(self) -> None:
        """Take the wrap out again; the model is as it was. Removing twice does no harm."""
        if self._undo is not None:
            self._undo.close()
        self._undo = None

    def __enter__(self) -> Self:
        return self.install()

    def __exit__(self, *raised: object) -> None:
        self.remove()
