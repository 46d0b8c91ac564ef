"""The one place that touches PyTorch hooks: look at a site, or edit what passes through it.

Everything else in ttr is a pure function from tensor to tensor. A :class:`Site` says where in a model a
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

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Observer = Callable[[int, Tensor, Mapping[str, Any]], None]
Edit = Callable[[Any], Any]


@dataclass(frozen=True)
class Site:
    """A place where one tensor passes: the first input of a module, or its (first) output.

    The first input may come by position or by keyword, the output alone, in a tuple, or in a mapping
    (transformers' ``ModelOutput``). At ``"result"`` passes all that the module returns, as it is.
    """

    module: nn.Module
    at: Literal["input", "output", "result"]


@dataclass
class EditInput:
    """Forward pre-hook that replaces the first input by ``function(input)``."""

    function: Edit

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the edited arguments."""
        if args:
            return (self.function(args[0]), *args[1:]), kwargs
        first = next(iter(kwargs))
        return args, {**kwargs, first: self.function(kwargs[first])}


@dataclass
class EditOutput:
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
class EditResult:
    """Forward hook that replaces all that the module returns by ``function(result)``."""

    function: Edit

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Return the edited result."""
        return self.function(output)


def attach(edits: Iterable[tuple[Site, Edit]]) -> list[RemovableHandle]:
    """Attach each edit to its site and return the handles; the caller removes them."""
    handles: list[RemovableHandle] = []
    try:
        for site, function in edits:
            if site.at == "input":
                handles.append(site.module.register_forward_pre_hook(EditInput(function), with_kwargs=True))
            else:
                kind = EditOutput if site.at == "output" else EditResult
                handles.append(site.module.register_forward_hook(kind(function)))
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
    hooks = site.module._forward_pre_hooks if site.at == "input" else site.module._forward_hooks
    return [hook.function for hook in hooks.values() if isinstance(hook, EditInput | EditOutput | EditResult)]


def hooks_of_others(model: nn.Module) -> list[Any]:
    """Return the forward hooks and pre-hooks that stand in a model and are no edits."""
    return [
        hook
        for module in model.modules()
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
        if not isinstance(hook, EditInput | EditOutput | EditResult)
    ]


@contextmanager
def edit(edits: Iterable[tuple[Site, Edit]]) -> Iterator[None]:
    """Apply pure functions to the tensors that pass the given sites, for the duration of the block."""
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
        observe(index, output[0] if isinstance(output, tuple) else output, {})

    if site.at == "input":
        return site.module.register_forward_pre_hook(before, with_kwargs=True)
    return site.module.register_forward_hook(after)


@contextmanager
def bypass(modules: Iterable[nn.Module], tensor: Tensor) -> Iterator[None]:
    """Let modules return ``tensor`` without running, whatever they are given, while the block lasts.

    For blocks that hand a tensor to the next one and whose work is known already. Hooks inside them do not
    run, those on the modules themselves do.
    """
    before = [(module, vars(module).get("forward")) for module in modules]

    def known(*args: Any, **kwargs: Any) -> Tensor:
        return tensor

    try:
        for module, _ in before:
            module.forward = known
        yield
    finally:
        for module, own in before:
            if own is None:
                vars(module).pop("forward", None)
            else:
                module.forward = own


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
