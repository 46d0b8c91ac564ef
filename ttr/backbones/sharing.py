"""A second model of the same weights: modules and hooks of its own, every tensor in common with the first.

A wrap lives in hooks of modules. A copy of the modules can therefore be wrapped while the first model stays
bare, and costs no memory but that of the tree: parameters, buffers and whatever tensors modules keep are the
very same objects. Hooks that are not ours run in both, and so do the objects that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from functools import partial
from types import FunctionType, MethodType
from typing import Any, TypeVar

from torch import Tensor, nn

from ttr.errors import ModelError
from ttr.hooks import hooks_of_others

T = TypeVar("T")


def copy_around_weights(whole: T, model: nn.Module, common: Iterable[Any] = ()) -> T:
    """Return a copy of ``whole``, which holds ``model``, that shares its tensors and ``common`` with it.

    Raises:
        ModelError: a part of the model cannot be copied, or a function of it leads back to the first model.
    """
    _refuse_what_leads_back(model)
    modules = set(model.modules())
    owners = [x for hook in hooks_of_others(model) for x in _owners(hook)]
    shared = [x for x in owners if not (isinstance(x, nn.Module) and x in modules)]
    try:
        return deepcopy(whole, {id(x): x for x in (*_tensors(model), *shared, *common)})
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ModelError(
            f"{type(model).__name__} cannot be copied ({reason}); take that part out of it, or install the "
            "wrap in the model itself"
        ) from error


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        yield from (value for value in vars(module).values() if isinstance(value, Tensor))


def _owners(hook: Any) -> list[Any]:
    """Return what a hook belongs to: the object of a method, the arguments of a partial, else itself."""
    if isinstance(hook, MethodType):
        return [hook.__self__]
    if isinstance(hook, partial):
        return [*_owners(hook.func), *hook.args, *hook.keywords.values()]
    return [hook]


def _refuse_what_leads_back(model: nn.Module) -> None:
    """Refuse functions put into modules that hold modules: a copy would run through the first ones."""
    modules = set(model.modules())
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if _leads_to(modules, getattr(value, "own", value)):
                where = f"{name}.{attribute}" if name else attribute
                raise ModelError(
                    f"{where} of {type(model).__name__} is a function that holds modules of this one model, "
                    "where no copy can follow; take it off, or install the wrap in the model itself"
                )


def _leads_to(modules: set[nn.Module], value: Any) -> bool:
    if isinstance(value, partial):
        value = value.func
    if not isinstance(value, FunctionType):
        return False
    for cell in value.__closure__ or ():
        try:
            held = cell.cell_contents
        except ValueError:  # a cell that is empty yet
            continue
        held = held.__self__ if isinstance(held, MethodType) else held
        if (isinstance(held, nn.Module) and held in modules) or (
            held is not value and _leads_to(modules, held)
        ):
            return True
    return False
