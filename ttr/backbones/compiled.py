"""Was this model compiled? Then hooks that come later would be ignored without a word.

``model.compile()`` leaves its mark on the model. ``torch.compile(model)`` does not: it returns a wrapper that
holds the model and runs code traced from it, so the wrapper is looked for among what refers to the model.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from torch import nn

WRAPPER = "OptimizedModule"


def is_compiled(model: nn.Module) -> bool:
    """Return whether the model, or a part of it, was compiled and the compiled form is still there."""
    for module in model.modules():
        if getattr(module, "_compiled_call_impl", None) is not None or type(module).__name__ == WRAPPER:
            return True
    return _anything_was() and any(
        isinstance(holder, dict) and holder.get("_orig_mod") is model for holder in gc.get_referrers(model)
    )


def forget_compiled_code() -> None:
    """Let torch.compile trace anew and tell models by their hooks from now on.

    Its cache is by code: without both a wrapped model would be answered with what was traced of a bare one,
    of the same model before the wrap or of another one at any time. Other compiled models are compiled again
    at their next call.
    """
    import torch._dynamo

    torch._dynamo.config.skip_nnmodule_hook_guards = False
    if _anything_was():
        torch._dynamo.reset()


def _anything_was() -> bool:
    """Return whether torch.compile was used at all; the search costs some 20 ms, and few programs need it."""
    frames: Any = sys.modules.get("torch._dynamo.eval_frame")
    return frames is not None and bool(getattr(frames, "cached_backends", True))
