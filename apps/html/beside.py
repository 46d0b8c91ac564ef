"""Two choices of model and neurons for one image, as HTML: a second pair of maps, its verdict, its numbers.

Without a second choice all is as the first one's own room writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from markupsafe import escape

from ttr.apps.html import panels
from ttr.apps.html.panels import Look
from ttr.apps.image.case import Case
from ttr.drawing.html import fill
from ttr.wording import counted

Maps = Callable[[Case, Look], list[np.ndarray | None]]


def maps(case: Case, look: Look) -> list[str]:
    """Return the three maps of a case as HTML, those of its second choice below."""
    return [*by_block(case, look), colours(case, look)]


def colours(case: Case, look: Look) -> str:
    """Return the patches at the last block as colours, whatever block is looked at."""
    other = case.beside
    if other is None:
        return panels.colours(case, look)
    last = [replace(look, layer=each.inspection.layers - 1) for each in (case, other)]
    return _pair(case, last[0], other, last[1], panels.colours)


def by_block(case: Case, look: Look) -> list[str]:
    """Return the maps that depend on the block, head or query: attention and norms.

    Raises:
        OptionError: no such block, head or query.
    """
    case.inspection.check(look.layer, look.head, look.query)
    other = case.beside
    if other is None:
        return [panels.attention(case, look), panels.norms(case, look)]
    at = clipped(look, other)
    same_grid = case.inspection.before.layout.grid == other.inspection.before.layout.grid
    attention, norms = (
        _highest(of, case, look, other, at) if is_same else 0.0
        for of, is_same in (
            (panels.attention_maps, same_grid and at.query == look.query),
            (panels.norm_maps, case.model == other.model),
        )
    )
    return [
        _pair(case, look, other, at, draw)
        for draw in (
            lambda each, seen: panels.attention(each, seen, attention),
            lambda each, seen: panels.norms(each, seen, norms),
        )
    ]


def clipped(look: Look, other: Case) -> Look:
    """Return a look as another model has it: where it lacks a block, head or query, last, mean or CLS."""
    found = other.inspection
    return replace(
        look,
        layer=min(look.layer, found.layers - 1),
        head=look.head if look.head is not None and look.head < found.heads else None,
        query=look.query if look.query in found.after.queries else "CLS",
    )


def called(case: Case) -> str:
    """Return a choice in words: model, neurons, registers."""
    neurons = f"{counted(case.inspection.num_neurons, 'neuron')} ({case.neurons})"
    return f"{case.model}, {neurons}, {counted(case.num_registers, 'test-time register')}"


def brief(case: Case, other: Case) -> str:
    """Return what tells a choice from another, as short as a column is wide."""
    found, beside = case.inspection, other.inspection
    neurons = counted(found.num_neurons, "neuron")
    if neurons == counted(beside.num_neurons, "neuron") and case.neurons != other.neurons:
        neurons = case.neurons
    parts = (
        (case.model, case.model != other.model),
        (neurons, (case.neurons, found.num_neurons) != (other.neurons, beside.num_neurons)),
        (counted(case.num_registers, "register"), case.num_registers != other.num_registers),
    )
    return ", ".join(text for text, differs in parts if differs) or case.model


def choices(case: Case) -> list[tuple[str, Case]]:
    """Return (what tells it from the other, a choice) of the one or two that are shown; one has no name."""
    other = case.beside
    return [("", case)] if other is None else [(brief(case, other), case), (brief(other, case), other)]


def verdict(case: Case) -> str:
    """Return what each choice did to the image, a sentence each, as HTML."""
    if case.beside is None:
        return panels.verdict(case)
    said = (f"{called(each)}: {panels.verdict_of(each)}" for each in (case, case.beside))
    return "".join(fill("app_said.html", said=each) for each in said)


def numbers(case: Case) -> str:
    """Return the numbers of a case as HTML, those of its second choice beside them."""
    if case.beside is None:
        return panels.numbers(case)
    (first, _), (second, _) = choices(case)
    return panels.numbers(case, case.beside, (first, second))


def _highest(of: Maps, case: Case, look: Look, other: Case, at: Look) -> float:
    values = [*of(case, look), *of(other, at)]
    return max(float(each.max()) for each in values if each is not None)


def _pair(case: Case, look: Look, other: Case, at: Look, draw: Callable[[Case, Look], str]) -> str:
    first, second = (
        f'<h3 class="ttr-choice-name">{escape(called(each))}, block {seen.layer}</h3>{draw(each, seen)}'
        for each, seen in ((case, look), (other, at))
    )
    return f'{first}<section class="ttr-second">{second}</section>'
