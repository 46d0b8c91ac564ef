"""Test-time registers live inside the blocks: they go in with a block's call and come out with its return.

Between two blocks the sequence is the bare model's, whoever runs them: the model's own forward, somebody's
own ``forward_features``, a loop by hand, an early exit, a list of intermediates. The registers travel beside
it, as an attribute of the very tensor that a block returned, and go in again where that tensor meets the next
block. Nothing of a pass is kept in the model, so a pass that broke off, another thread, or a second pass
inside a first one changes nothing. What has no registers beside it is refused at every block but the first,
where new ones begin: as what the model's pre-norm makes of zeros.

While a block runs, its :class:`Passage` says so to this thread, and how long the sequence is. Neurons are
edited then alone: an MLP that is run by itself, or from a graph that was traced past the blocks, has no
register to move anything to.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ttr.errors import ModelError
from ttr.hooks import Site, edits_at, is_bypassed
from ttr.tokens import TokenLayout, aside


class _Running(threading.local):
    """The blocks that run in this thread, the innermost last, each with the length of its sequence and
    whether its neurons were reached."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.length = 0


_RUNNING = _Running()


@dataclass(eq=False)
class Passage:
    """One block of a wrapped model, as its edits know it.

    Attributes:
        model: what the model is called.
        block: its index.
        neurons: where the block holds its down-projection, such as ``mlp.fc2``.
        layout: counts of prefix and test-time tokens.
        wrap: a name that no other wrap has; registers of another one are none of ours.
        moves: whether some of its neurons are moved, so that they must be reached.
    """

    model: str
    block: int
    neurons: str
    layout: TokenLayout
    wrap: str
    moves: bool

    def __str__(self) -> str:
        return f"block {self.block} of {self.model}"

    def require(self, x: Any) -> None:
        """Raise ModelError unless ``x`` [B, N, hidden] is of a sequence that holds the registers."""
        running = _RUNNING.calls[-1] if _RUNNING.calls else [None, 0, False]
        if running[0] is self and isinstance(x, Tensor) and x.ndim == 3 and x.shape[1] == running[1]:
            running[2] = True
            return
        # A backward pass does again what a checkpoint inside the block did, and was allowed to, before.
        if torch._C._current_graph_task_id() == -1:
            raise ModelError(
                f"the neurons of {self} were reached outside of a call of that block, where no test-time "
                "register stands; call the model or its blocks (an MLP by itself or on other tokens, or a "
                "graph that torch.fx traced, passes the wrap by), or remove() the wrap first"
            )


@dataclass(frozen=True, eq=False)
class EnterBlock:
    """Edit of what enters a block: the registers go in.

    Attributes:
        passage: the block's.
        pre_norm: what the model's tokens pass before the first block, or None.
    """

    passage: Passage
    pre_norm: nn.Module | None

    def __call__(self, block: nn.Module, x: Any, others: dict[Any, Any]) -> tuple[Any, dict[Any, Any]]:
        """Return [B, prefix+R+P, D] for a bare sequence [B, prefix+P, D], and the other arguments.

        Raises:
            ModelError: no registers beside the sequence, attention is masked, or the model was changed.
        """
        layout, call = self.passage.layout, [self.passage, 0, is_bypassed(block)]
        if layout.test_time:
            _RUNNING.calls.append(call)
        if not torch.compiler.is_compiling():
            self._refuse_another_projection(block)
        if not layout.test_time:
            return x, others
        if not isinstance(x, Tensor | torch.fx.Proxy):
            raise ModelError(
                f"{self.passage} was given {type(x).__name__} first; needed its tokens, [B, N, D], as the "
                "first argument"
            )
        if not isinstance(x, Tensor):
            raise ModelError(
                f"{self.passage} was traced by torch.fx, whose graph would lose the test-time registers in "
                "part; take features by forward_intermediates, by forward hooks or by ttr.export, or trace "
                "the bare model"
            )
        registers = aside(x, self.passage.wrap)
        if registers is not None:
            self._refuse_cut_gradient(x, registers)
        joined = layout.insert_test_time(x, self._new(x) if registers is None else registers)
        call[1] = _RUNNING.length = joined.shape[1]
        return joined, {name: self._unmasked(block, name, value) for name, value in others.items()}

    def _new(self, x: Tensor) -> Tensor:
        """Return what the registers are before the first block, [1, R, D]."""
        if self.passage.block:
            raise ModelError(
                f"{self.passage} was given tokens without the test-time registers that belong to them; while "
                "the wrap stands, run the blocks from block 0 on and give each the very tensor that the one "
                "before returned (tokens may be changed in place between two blocks; hooks that return other "
                "tensors, full backward hooks, and checkpoints but with use_reentrant=False hand on another)"
            )
        zeros = x.new_zeros(1, self.passage.layout.test_time, x.shape[2])
        if self.pre_norm is None:
            return zeros
        held = (each for each in self.pre_norm.parameters() if not each.is_meta)
        lies = next(held, x).device  # a replica's tokens lie on another device than the norm
        return self.pre_norm.forward(zeros.to(lies)).to(x)

    def _refuse_cut_gradient(self, x: Tensor, registers: Tensor) -> None:
        """Refuse what a reentrant checkpoint returned: no gradient passes the registers made in it."""
        if x.grad_fn is not None and not registers.requires_grad and torch.is_grad_enabled():
            raise ModelError(
                f"{self.passage} was given tokens with a gradient and registers without one, as a reentrant "
                "checkpoint leaves them; use torch.utils.checkpoint with use_reentrant=False"
            )

    def _unmasked(self, block: nn.Module, name: Any, value: Any) -> Any:
        """Return another argument of the block as it is, unless it masks attention."""
        named = not isinstance(name, str) or any(word in name for word in ("mask", "causal", "bias"))
        if not named or not (isinstance(value, Tensor) or value is True):
            return value
        # transformers gives a mask that hides nothing when it is traced, and none when it is not.
        traced = torch.compiler.is_compiling() and type(block).__module__.startswith("transformers.")
        if traced and isinstance(value, Tensor):
            length = _RUNNING.length
            return value.new_ones(*value.shape[:-2], length, length)
        raise ModelError(
            f"{self.passage} was given an attention mask, in which test-time registers have no place; call "
            "without one, or wrap with num_registers=0"
        )

    def _refuse_another_projection(self, block: nn.Module) -> None:
        """Refuse a block whose down-projection is no longer the one that the wrap went into."""
        now: Any = block
        for name in self.passage.neurons.split("."):
            now = None if now is None else now._modules.get(name)
        edits = [] if now is None else edits_at(Site(now, "input"))
        if not any(getattr(edit, "passage", None) is self.passage for edit in edits):
            raise ModelError(
                f"{self.passage.neurons} of {self.passage} was replaced while a wrap stands in it (as LoRA, "
                "quantisation and pruning do); remove() the wrap, or take it out with ttr.unwrap(model), and "
                "install it after the change"
            )


@dataclass(frozen=True, eq=False)
class LeaveBlock:
    """Edit of what leaves a block: the registers come out and stay beside the sequence."""

    passage: Passage

    def __call__(self, x: Any) -> Any:
        """Return the bare sequence [B, prefix+P, D] of [B, prefix+R+P, D]; None after an exception."""
        passage, call = self.passage, None
        if _RUNNING.calls and _RUNNING.calls[-1][0] is passage:
            call = _RUNNING.calls.pop()
        if x is None:
            return x
        if call is not None and x.shape[1] != call[1]:
            raise ModelError(
                f"{passage} was given {call[1]} tokens and returned {x.shape[1]}; where tokens are dropped "
                "or merged, nobody knows which are the registers: wrap the model without that"
            )
        if call is not None and passage.moves and not call[2]:
            raise ModelError(
                f"{passage} was run without a call of its {passage.neurons}, so no neuron could be moved; "
                "call that module, and not torch.nn.functional with its weights"
            )
        return passage.layout.set_aside(x, passage.wrap)


@dataclass(frozen=True, eq=False)
class RequireRegisters:
    """Edit that leaves the neurons of a block as they are, and refuses where no register stands."""

    passage: Passage

    def __call__(self, x: Tensor) -> Tensor:
        """Return the activations [B, N, hidden] as they are."""
        self.passage.require(x)
        return x


@dataclass(frozen=True)
class CollectedWithoutRegisters:
    """Edit: take the registers out of every tuple of tokens or attention maps that a model returns.

    transformers collects ``hidden_states`` [B, N, D] and ``attentions`` [B, heads, N, N] by hooks of its own
    inside the blocks. A row of the attention that is left sums to what the registers did not draw, so to less
    than 1.
    """

    layout: TokenLayout

    def __call__(self, result: Any) -> Any:
        """Return the model's output, a mapping or a tuple, its lists in the bare model's shapes."""
        values = result.values() if isinstance(result, Mapping) else result
        if not any(isinstance(value, tuple) for value in values):
            return result
        if isinstance(result, Mapping):
            return type(result)(**{key: self._bare(value) for key, value in result.items()})
        return tuple(self._bare(value) for value in result)

    def _bare(self, value: Any) -> Any:
        return tuple(map(self._dropped, value)) if isinstance(value, tuple) else value

    def _dropped(self, x: Tensor | None) -> Tensor | None:
        length = _RUNNING.length
        if x is None or x.ndim not in (3, 4):
            return x
        if x.ndim == 3:
            return self.layout.drop_test_time(x) if x.shape[1] == length else x
        if x.shape[2:] != (length, length):
            return x
        return self.layout.drop_test_time(self.layout.drop_test_time(x, dim=2), dim=3)
