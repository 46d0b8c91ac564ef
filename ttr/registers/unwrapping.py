"""Make a model bare again that was copied, pickled or kept while a wrap stood in it."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from ttr.backbones.extra_key import extra_key, remove_extra_key
from ttr.errors import ModelError
from ttr.hooks import Site, edits_at, remove_edits
from ttr.registers.passage import EnterBlock
from ttr.registers.wrap import EDITS

Model = TypeVar("Model", bound=nn.Module)


def unwrap(model: Model) -> Model:
    """Take every wrap out of ``model`` and return it, whether it was wrapped or is a copy of one that was.

    For what ``copy.deepcopy``, ``torch.save(model)`` or an average of weights took along of a wrapped model:
    nobody holds the wrap that could remove it. Of a bare model nothing changes.

    Raises:
        ModelError: no model.

    Example:
        >>> with ttr.TestTimeRegisters(model, neurons):
        ...     best = copy.deepcopy(model)
        >>> bare = ttr.unwrap(best)
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"got {type(model).__name__}; needed a model (of a Backbone its .model)")
    for module in model.modules():
        for edit in edits_at(Site(module, "entering")):
            if isinstance(edit, EnterBlock):
                _forget_registers(module, edit.passage.layout.test_time)
        if extra_key(module) is not None:
            remove_extra_key(module)
    remove_edits(model, EDITS)
    return model


def _forget_registers(block: nn.Module, count: int) -> None:
    """Let a rotary embedding of a block turn what it turned before ``count`` registers were put in."""
    for module in block.modules():
        if isinstance(getattr(module, "num_prefix_tokens", None), int):
            module.num_prefix_tokens -= count
