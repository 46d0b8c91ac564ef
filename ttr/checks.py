"""Values that people give, checked once and refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from ttr.errors import ModelError, OptionError

if TYPE_CHECKING:
    from torch import Tensor

#: Test-time registers at most; more change nothing but the memory that a forward pass takes.
MOST_REGISTERS = 1024
FLOATS = ("float16", "bfloat16", "float32", "float64")


def integer(name: str, value: Any, least: int) -> int:
    """Return a whole number of any kind (NumPy's too) as int, or raise OptionError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise OptionError(f"{name}={value!r}; needed an integer, at least {least}")
    return int(value)


def integers(name: str, values: Any, least: int | None = None) -> tuple[int, ...]:
    """Return whole numbers, one or more, each at least ``least``, or raise OptionError."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise OptionError(f"{name}={values!r}; needed a list of integers")
    given = tuple(values)
    if not given:
        raise OptionError(f"the list of {name} is empty; give at least one number")
    for value in given:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise OptionError(f"{name}={value!r}; needed integers")
        if least is not None and value < least:
            raise OptionError(f"{name}={value}; needed {least} or more")
    return tuple(map(int, given))


def share_of_one(name: str, value: Any) -> float:
    """Return a number above 0 and below 1, or raise OptionError."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < 1:
        raise OptionError(f"{name}={value!r}; needed a number above 0 and below 1")
    return float(value)


def register_counts(values: Any, least: int | None = None, what: str = "num_registers") -> tuple[int, ...]:
    """Return numbers of test-time registers, one or more, in their range, or raise OptionError."""
    given = integers(what, values, least)
    if max(given) > MOST_REGISTERS:
        raise OptionError(f"{what}={max(given)}; needed {MOST_REGISTERS} at most")
    return given


def names(what: str, given: Any, known: Iterable[str]) -> tuple[str, ...]:
    """Return names, one or more, all of them known ones and each once, or raise OptionError."""
    known = tuple(known)
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise OptionError(f"{what}={given!r}; needed a list of {', '.join(known)}")
    found = tuple(given)
    if not found or any(name not in known for name in found) or len(set(found)) != len(found):
        said = ", ".join(map(str, found)) or "none"
        raise OptionError(f"{what} {said}; needed one or more of {', '.join(known)}, each once")
    return found


def floats(source: str, tensors: Mapping[str, Any]) -> None:
    """Raise ModelError unless all are dense tensors of real floats with values; these are not looked at."""
    for name, tensor in tensors.items():
        if fault := _no_floats(tensor):
            raise ModelError(
                f"{name} of {source} {fault}; needed a dense tensor of {', '.join(FLOATS[:-1])} or "
                f"{FLOATS[-1]}: save or load it as that"
            )


def finite(source: str, tensors: Mapping[str, Tensor], *, masks: bool = False) -> None:
    """Raise ModelError if a value is NaN or infinite, naming the tensor; of ``masks`` infinite ones may be.

    One pass over the values, and one wait for the device that they lie on.
    """
    import torch

    made_of = (part for name, x in tensors.items() for part in _made_of(name, x.detach()))
    given = [(name, x) for name, x in made_of if x.numel() and x.is_floating_point() and not x.is_meta]
    if not given:
        return
    # The extremes of a tensor are NaN or infinite where any value is, and take no memory.
    extremes = [torch.stack(x.aminmax()).to(given[0][1].device) for _, x in given]
    bad = torch.stack([(each.isnan() if masks else ~each.isfinite()).any() for each in extremes])
    for index in bad.nonzero()[:1, 0].tolist():
        name, x = given[index]
        counts = {"NaN": int(x.isnan().sum()), "infinite": 0 if masks else int(x.isinf().sum())}
        found = " and ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        raise ModelError(
            f"{name} of {source} holds {found} of {x.numel():,} values; needed finite ones: "
            "take an undamaged copy, or a type that holds them (float32)"
        )


def _made_of(name: str, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the plain tensors that a tensor of another library's class is made of, or the tensor itself."""
    import torch

    if not hasattr(x, "__tensor_flatten__"):
        yield name, x
        return
    for part in x.__tensor_flatten__()[0]:
        if isinstance(getattr(x, part), torch.Tensor):
            yield from _made_of(f"{name}.{part}", getattr(x, part))


def _no_floats(tensor: Any) -> str:
    """Say what keeps a value from being a dense tensor of real floats; "" when nothing does."""
    import torch

    if not isinstance(tensor, torch.Tensor):
        return f"is of type {type(tensor).__name__}"
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_quantized:
        return f"is quantised ({kind})"
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"is not dense ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.is_meta:
        return "lies on the meta device and has no values"
    return "" if kind in FLOATS else f"is of type {kind}"
