"""A wrap: a change to a model that stands in a ``with`` block, or from ``install()`` to ``remove()``.

What undoes it is kept as plain steps that name modules and hooks, so a wrap that stands can be copied and
pickled with its model, and each copy can be taken out of its own.
"""

from __future__ import annotations

import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from threading import RLock
from typing import TYPE_CHECKING, Any

from torch import nn

from ttr.backbones.base import Backbone
from ttr.backbones.families import as_backbone, as_it_stands
from ttr.backbones.sharing import copy_around_weights
from ttr.registers.neurons import RegisterNeurons

if TYPE_CHECKING:
    from typing_extensions import Self

Step = Callable[[], Any]
#: Two wraps that go into one model at the same time would not see each other.
_ONE_AT_A_TIME = RLock()


class Wrap(ABC):
    """What wraps share: they go in whole or not at all, and out without a trace.

    Attributes:
        backbone: whose model is changed.
        neurons: its register neurons.
    """

    _undo: list[Step] | None = None
    _in_callers_model = False

    def __init__(self, backbone_or_model: Backbone | nn.Module, neurons: RegisterNeurons) -> None:
        self.backbone = as_backbone(backbone_or_model)
        self.neurons = neurons

    @abstractmethod
    def _put_in(self, undo: list[Step]) -> None:
        """Change the model step by step, and put what undoes a step onto ``undo``."""

    def _common(self) -> tuple[Any, ...]:
        """Return what is never changed, so that copies share it."""
        return (self.neurons, self.backbone.preprocess_image)

    @property
    def model(self) -> nn.Module:
        """The model that is changed: the caller's own, or the copy's."""
        return self.backbone.model

    @property
    def installed(self) -> bool:
        """Whether the wrap stands in the model now."""
        return self._undo is not None

    def install(self) -> Self:
        """Put the wrap into the model until :meth:`remove`; install before ``torch.compile`` or export."""
        undo: list[Step] = []
        with _ONE_AT_A_TIME:
            self.backbone = as_it_stands(self.backbone)
            try:
                self._put_in(undo)
            except BaseException:
                _run_back(undo)
                raise
            self._undo, self._in_callers_model = undo, True
        return self

    def remove(self) -> None:
        """Take the wrap out again; the model is as it was. Removing twice does no harm."""
        with _ONE_AT_A_TIME:
            undo, self._undo, self._in_callers_model = self._undo, None, False
            _run_back(undo or [])

    def copy(self) -> Self:
        """Return this wrap installed in a second model, which shares all weights with the first.

        The copy's ``model`` is wrapped from its first call on and has modules and hooks of its own; the first
        model stays as it is, bare or wrapped, and both may be called at the same time. Parameters and buffers
        are the same objects, so no memory is spent on them, and weights that are loaded, trained or moved in
        one are so in both; but ``.to()`` and ``.half()`` replace buffers, so call them on both models, or
        before. ``train()`` and ``eval()`` concern one alone. Your own hooks run in both. The copy stays
        wrapped without being held, until its :meth:`remove`.

        Raises:
            ModelError: the model cannot be copied, or is wrapped by another wrap, or compiled in parts.

        Example:
            >>> wrapped = TestTimeRegisters(model, neurons).copy().model
            >>> before, after = model(images), wrapped(images)
        """
        with _ONE_AT_A_TIME:
            copied = copy_around_weights(self, self.backbone.model, self._common())
            if not copied.installed:
                copied.install()
        copied._in_callers_model = False
        return copied

    def __enter__(self) -> Self:
        return self.install()

    def __exit__(self, *raised: object) -> None:
        self.remove()

    def __del__(self) -> None:
        if self._in_callers_model and not sys.is_finalizing():
            warnings.warn(
                f"a wrap of {self.backbone.name} was dropped while it was installed, so the model stays "
                "wrapped; keep what install() returns and call remove(), or use a with block",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


def _run_back(undo: list[Step]) -> None:
    """Undo the steps, the last one first, each of them even if another one fails."""
    with ExitStack() as stack:
        for step in undo:
            stack.callback(step)
