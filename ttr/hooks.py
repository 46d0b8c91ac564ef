"""The one place that touches PyTorch hooks: look at a site, or edit what passes through it.

Everything else in ttr is a function from tensor to tensor. A :class:`Site` says where in a model a
tensor passes; :func:`capture` shows it to an observer, :func:`keep` keeps it, :func:`edit` replaces it by a
function's result. All live inside a ``with`` block and take their hooks off again after an exception too.
:func:`attach` is the same edit without the block, for a wrap that stays.

Hooks that are attached before ``torch.compile`` or ``torch.export`` are traced with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ttr.errors import ModelError

Observer = Callable[[int, Tensor, Mapping[str, Any]], None]
Edit = Callable[..., Any]


@dataclass(frozen=True)
class Site:
    """A place where one tensor passes: the first input of a module, or its (first) output.

    The first input may come by position or by keyword, the output alone, in a tuple, or in a mapping
    (transformers' ``ModelOutput``). At ``"result"`` passes all that the module returns, as it is. What is
    edited at ``"entering"`` is edited ahead of everything that stands at the input, and at ``"leaving"``
    behind everything that stands at the output: both lie outside of what others of ttr see or edit there.
    """

    module: nn.Module
    at: Literal["input", "output", "result", "entering", "leaving"]


class NotScriptedError(ModelError, AttributeError):
    """What torch.jit.script is told when it reads a hook of ours as TorchScript."""


class Ours:
    """What all edits share: by the name that torch.jit.script asks a hook for, it is refused."""

    function: Edit

    @property
    def __name__(self) -> str:
        raise NotScriptedError(
            "torch.jit.script was given a wrapped model, whose edits are no TorchScript; trace it with "
            "torch.jit.trace, or write it with ttr.export"
        )


@dataclass
class EditInput(Ours):
    """Forward pre-hook that replaces the first input by ``function(input)``.

    Who moves it onto another module, as quantisation does, may register it without keyword arguments.
    """

    function: Edit

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        """Return the edited arguments."""
        if kwargs is None:
            return (self.function(args[0]), *args[1:])
        if args:
            return (self.function(args[0]), *args[1:]), kwargs
        first = next(iter(kwargs))
        return args, {**kwargs, first: self.function(kwargs[first])}


@dataclass
class EditOutput(Ours):
    """Forward hook that replaces the output (or the first of several) by ``function(output)``."""

    function: Edit

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Return the edited output, in the container that it came in."""
        if isinstance(output, tuple):
            return (self.function(output[0]), *output[1:])
        if isinstance(output, Mapping):
            first = next(iter(output))
            return type(output)(**{**output, first: self.function(output[first])})
        return self.function(output)


@dataclass
class EditResult(Ours):
    """Forward hook that replaces all that the module returns by ``function(result)``."""

    function: Edit

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Return the edited result."""
        return self.function(output)


@dataclass
class Entering(Ours):
    """Forward pre-hook ahead of all others that replaces what a module is given.

    ``function(module, first, others) -> (first, others)`` gets and returns the first input and the other
    arguments, these by name, or by place where they were given so.
    """

    function: Edit

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the edited arguments."""
        given: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
        first = next(iter(given))
        tokens, others = self.function(module, given.pop(first), given)
        given = {first: tokens, **others}
        return tuple(given[place] for place in range(len(args))), {name: given[name] for name in kwargs}


@dataclass
class Leaving(EditOutput):
    """As :class:`EditOutput`, behind all others; after an exception too, with None where nothing came out."""


def attach(edits: Iterable[tuple[Site, Edit]]) -> list[RemovableHandle]:
    """Attach each edit to its site and return the handles; the caller removes them."""
    handles: list[RemovableHandle] = []
    try:
        for site, function in edits:
            module = site.module
            if site.at == "input":
                handles.append(module.register_forward_pre_hook(EditInput(function), with_kwargs=True))
            elif site.at == "entering":
                handles.append(
                    module.register_forward_pre_hook(Entering(function), with_kwargs=True, prepend=True)
                )
            elif site.at == "leaving":
                handles.append(module.register_forward_hook(Leaving(function), always_call=True))
            else:
                kind = EditOutput if site.at == "output" else EditResult
                handles.append(_before_what_leaves(module, kind(function)))
    except BaseException:
        detach(handles)
        raise
    return handles


def detach(handles: Iterable[RemovableHandle]) -> None:
    """Remove hooks; removing twice does no harm."""
    for handle in handles:
        handle.remove()


def edits_at(site: Site) -> list[Edit]:
    """Return the edits that stand at ``site`` now, so that a second wrap can be refused by name."""
    kind = {"input": EditInput, "entering": Entering}.get(site.at, (EditOutput, EditResult))
    return [hook.function for hook in _hooks_at(site).values() if isinstance(hook, kind)]


def inside(module: nn.Module) -> list[Any]:
    """Return the modules inside of a module; quicker than ``modules()``, for what is asked in every pass."""
    parts = [*module._modules.values()]
    for part in parts:  # which grows on the way
        if part is not None and part._modules:
            parts.extend(part._modules.values())
    return [part for part in parts if part is not None]


def seen_before(function: Edit, parts: Iterable[Any]) -> bool:
    """Return whether a hook of these modules may be shown what ``function`` is to edit, ahead of it.

    Those that stand behind the edit are given what it returned.
    """
    every = torch.nn.modules.module
    if every._global_forward_hooks or every._global_forward_pre_hooks:
        return True
    stands = False
    for part in parts:
        before = part._forward_pre_hooks
        first = next(iter(before.values())) if before else None
        if isinstance(first, EditInput) and first.function is function:
            stands = True
        elif first is not None or part._forward_hooks:
            return True
    return not stands


def remove_edits(model: nn.Module, kinds: tuple[type, ...]) -> None:
    """Take every edit whose function is of these kinds out of a model, whoever attached it."""
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key, hook in list(hooks.items()):
                if isinstance(hook, Ours) and isinstance(hook.function, kinds):
                    for kept in (hooks, *_marks(module)):
                        kept.pop(key, None)


def hooks_of_others(model: nn.Module) -> list[Any]:
    """Return the forward hooks and pre-hooks that stand in a model and are no edits."""
    return [
        hook
        for module in model.modules()
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
        if not isinstance(hook, Ours)
    ]


@contextmanager
def edit(edits: Iterable[tuple[Site, Edit]]) -> Iterator[None]:
    """Apply functions to the tensors that pass the given sites, for the duration of the block."""
    handles = attach(edits)
    try:
        yield
    finally:
        detach(handles)


@contextmanager
def capture(sites: Iterable[Site], observe: Observer) -> Iterator[None]:
    """Call ``observe(index, tensor, keyword_arguments)`` whenever a tensor passes ``sites[index]``.

    Observers see what the module really gets or gives: they run behind the edits that were there before.
    """
    handles: list[RemovableHandle] = []
    try:
        for index, site in enumerate(sites):
            handles.append(_observe(site, index, observe))
        yield
    finally:
        detach(handles)


@contextmanager
def keep(sites: Iterable[Site], of: Callable[[Tensor], Tensor] = lambda x: x) -> Iterator[list[Tensor]]:
    """Yield a list that fills with what passes the sites, in the order in which it passes.

    Of a tensor that one need not hold whole, keep what the function ``of`` makes of it.
    """
    passed: list[Tensor] = []

    def see(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        passed.append(of(x))

    with capture(sites, see):
        yield passed


def _observe(site: Site, index: int, observe: Observer) -> RemovableHandle:
    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        observe(index, args[0] if args else next(iter(kwargs.values())), kwargs)

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if site.at == "output" and isinstance(output, Mapping):
            output = next(iter(output.values()))
        observe(index, output[0] if site.at == "output" and isinstance(output, tuple) else output, {})

    if site.at == "input":
        return site.module.register_forward_pre_hook(before, with_kwargs=True)
    return _before_what_leaves(site.module, after)


def _before_what_leaves(module: nn.Module, hook: Callable[..., Any]) -> RemovableHandle:
    """Register a forward hook and keep those that are to come last behind it, and whatever follows them."""
    hooks: Any = module._forward_hooks
    first = next((i for i, (_, other) in enumerate(hooks.items()) if isinstance(other, Leaving)), len(hooks))
    behind = list(hooks)[first:]
    handle = module.register_forward_hook(hook)
    for key in behind:
        hooks.move_to_end(key)
    return handle


def _hooks_at(site: Site) -> dict[int, Any]:
    before = site.at in {"input", "entering"}
    return site.module._forward_pre_hooks if before else site.module._forward_hooks


def _marks(module: nn.Module) -> list[dict[int, Any]]:
    """Return where a module notes how its hooks are to be called."""
    return [
        module._forward_pre_hooks_with_kwargs,
        module._forward_hooks_with_kwargs,
        module._forward_hooks_always_called,
    ]


@contextmanager
def bypass(modules: Iterable[nn.Module], result: Any) -> Iterator[None]:
    """Let modules return ``result`` without running, whatever they are given, while the block lasts.

    For modules that hand a tensor to the next one and whose work is known already. Hooks inside them do not
    run, those on the modules themselves do.
    """
    before = [(module, vars(module).get("forward")) for module in modules]

    try:
        for module, _ in before:
            module.forward = _Known(result)
        yield
    finally:
        for module, own in before:
            if own is None:
                vars(module).pop("forward", None)
            else:
                module.forward = own


@dataclass(frozen=True, eq=False)
class _Known:
    """A forward that returns what is known already."""

    result: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.result


def is_bypassed(module: nn.Module) -> bool:
    """Return whether a module returns what is known already, see :func:`bypass`."""
    return isinstance(vars(module).get("forward"), _Known)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Run in evaluation mode (no dropout), then give every module its own training flag back."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
