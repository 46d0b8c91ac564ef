"""How a command's help is laid out: options by what they are about, whole first sentences in lists."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

#: What options are about, in the order of the page; what is named nowhere is the command's own.
OWN = "Options"
SECTIONS: dict[str, tuple[str, ...]] = {
    "Model": (
        *("backbone", "weights", "pretrained", "image_size", "dtype", "device", "pooling"),
        *("neurons", "num_registers", "variant"),
    ),
    "Images": (
        *("images", "dataset", "root", "roots", "finding", "frame", "num_images", "limit"),
        *("url", "study", "series", "query", "ca", "plain_http"),
        *("pairs", "num_pairs"),
    ),
    OWN: (),
    "Run": (
        *("seed", "on_error", "workers", "batch_size", "cache", "quiet"),
        *("engine", "address", "actors"),
    ),
    "Output": ("out", "store", "dry_run", "keep_patient", "anonymous", "as_json"),
}
#: A command with fewer options has them in one list.
FEW = 8
#: What a list of commands says of one, at least.
SAYS = 24
#: What a parser calls values that have no name of their own.
UNNAMED = (
    (re.compile(r"<int( range)?>|\bINTEGER( RANGE)?\b"), "N"),
    (re.compile(r"<float( range)?>|\bFLOAT( RANGE)?\b"), "NUMBER"),
    (re.compile(r"<str>"), "TEXT"),
    (re.compile(r" <(list\[\w+\]|path)>"), ""),
    (re.compile(r"<([^<>]*\|[^<>]*)>"), r"\1"),
    (re.compile(r"\[(\w+)\] TEXT"), r"[\1]"),
)
#: What a parser puts around the names of arguments: braces, a second pair of brackets, dots after dots.
AROUND = (
    (re.compile(r"\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\[\[(.*?)\]\]"), r"[\1]"),
    (re.compile(r"(\.\.\.)+"), "..."),
)


class SectionedCommand(TyperCommand):
    """A command whose help has its options by section."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what stands in the line of usage, each argument as it is named."""
        pieces = super().collect_usage_pieces(ctx)
        for pattern, name in AROUND:
            pieces = [pattern.sub(name, piece) for piece in pieces]
        return pieces

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then the options of each section that has some."""
        arguments: list[tuple[str, tuple[str, str]]] = []
        options: list[tuple[str, tuple[str, str]]] = []
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                kind = arguments if parameter.param_type_name == "argument" else options
                kind.append((parameter.name, (named(row[0]), ranged(row[1]))))
        lists = {"Arguments": [row for _, row in arguments]}
        if len(options) < FEW:
            lists[OWN] = [row for _, row in options]
        else:
            lists |= {title: [] for title in SECTIONS}
            for name, row in options:
                lists[section_of(name)].append(row)
        for title, rows in lists.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def section_of(name: str) -> str:
    """Return what an option is about."""
    return next((title for title, names in SECTIONS.items() if name in names), OWN)


def named(left: str) -> str:
    """Return an option as it is written, its value named as people write it."""
    for pattern, name in UNNAMED:
        left = pattern.sub(name, left)
    return left


def ranged(right: str) -> str:
    """Return what is said of an option, the range of its values in words."""
    right = re.sub(r"(-?[\d.]+)<=x<=(-?[\d.]+)", r"\1..\2", right)
    return re.sub(r"\bx>=(-?[\d.]+)", r"\1 or more", right)


def first_sentence(text: str | None) -> str | None:
    """Return the first sentence of a docstring on one line, and the next where it is as short as a title."""
    if not isinstance(text, str):
        return None
    first, *more = re.split(r"(?<=[.?!])\s", " ".join(text.strip().split("\n\n")[0].split()), maxsplit=2)
    return " ".join([first, *more[: len(first) < SAYS]])
