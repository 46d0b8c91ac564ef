"""Keep the shapes of ``forward_intermediates`` while test-time registers are in the sequence.

timm and open_clip collect the tokens of chosen blocks in the middle of the forward pass, before anything
could drop the inserted registers. They cut the prefix off by its own length, so the registers would count as
the first patches. While a wrap stands, this takes the method's place on the one model that is wrapped: it
asks the original for token lists, takes the registers out, and lays the patches onto the grid itself.
timm's ``get_intermediate_layers`` and open_clip's ``CLIP.forward_intermediates`` go through the same method.

transformers returns what it collected beside its output, ``hidden_states`` [B, N, D] and ``attentions``
[B, heads, N, N], one a block; :class:`CollectedWithoutRegisters` takes the registers out of these. A row of
the attention that is left sums to what the registers did not draw, so to less than 1.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.tokens import TokenLayout

METHOD = "forward_intermediates"


@dataclass
class IntermediatesWithoutRegisters:
    """Stands in for ``module.forward_intermediates`` and returns what the bare method would, same shapes.

    Attributes:
        module: the timm model or the open_clip tower.
        patch_size: (height, width) of a patch in pixels.
        own: the caller's method on this one model, if it had one; else the class's is called.
    """

    module: Any
    patch_size: tuple[int, int]
    own: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the original method with the same arguments and drop the registers from its result."""
        original = self.own or getattr(type(self.module), METHOD).__get__(self.module)
        call = inspect.signature(original).bind(*args, **kwargs)
        as_maps = call.arguments.get("output_fmt", "NCHW") == "NCHW"
        call.arguments["output_fmt"] = "NLC"
        height, width = call.arguments["x"].shape[-2:]
        grid = (-(-height // self.patch_size[0]), -(-width // self.patch_size[1]))
        result = original(*call.args, **call.kwargs)

        def bare(patches: Tensor) -> Tensor:
            kept = patches[:, patches.shape[1] - grid[0] * grid[1] :]
            return kept.unflatten(1, grid).permute(0, 3, 1, 2).contiguous() if as_maps else kept

        def all_bare(found: Any) -> Any:
            return [(bare(y[0]), *y[1:]) if isinstance(y, tuple) else bare(y) for y in found]

        if isinstance(result, dict):
            return {**result, "image_intermediates": all_bare(result["image_intermediates"])}
        if isinstance(result, tuple):
            return result[0], all_bare(result[1])
        return all_bare(result)


@dataclass(frozen=True)
class CollectedWithoutRegisters:
    """Edit: take the registers out of every tuple or list of tokens or maps that a model returns."""

    layout: TokenLayout

    def __call__(self, result: Any) -> Any:
        """Return the model's output, a mapping or a tuple, its lists in the bare model's shapes."""
        values = result.values() if isinstance(result, Mapping) else result
        if not any(isinstance(value, tuple | list) for value in values):
            return result
        if isinstance(result, Mapping):
            return type(result)(**{key: self._bare(value) for key, value in result.items()})
        return tuple(self._bare(value) for value in result)

    def _bare(self, value: Any) -> Any:
        return type(value)(map(self._dropped, value)) if isinstance(value, tuple | list) else value

    def _dropped(self, x: Tensor | None) -> Tensor | None:
        if x is None or x.ndim == 3:
            return x if x is None else self.layout.drop_test_time(x)
        return self.layout.drop_test_time(self.layout.drop_test_time(x, dim=2), dim=3)


def keep_shapes(backbone: Backbone) -> None:
    """Put the stand-in onto the wrapped model, if it has such a method."""
    module = backbone.sites.tower
    if hasattr(type(module), METHOD):
        own = vars(module).get(METHOD)
        setattr(module, METHOD, IntermediatesWithoutRegisters(module, backbone.patch_size, own))


def give_back(backbone: Backbone) -> None:
    """Take the stand-in off again; the method that was there before is seen once more."""
    attributes = vars(backbone.sites.tower)
    stand_in = attributes.get(METHOD)
    if not isinstance(stand_in, IntermediatesWithoutRegisters):
        return
    del attributes[METHOD]
    if stand_in.own is not None:
        attributes[METHOD] = stand_in.own
