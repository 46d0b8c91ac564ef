"""The conditions of an ablation, as data: which tokens are replaced, by what, and at which blocks' outputs.

A condition is written ``<tokens>:<substitute>[@blocks]``; ``full`` replaces nothing, and where the model is
wrapped with test-time registers, ``bare`` is the model without them.

    tokens      cls                the CLS token
                registers          all trained registers
                register-2         one of them, counted from 1
                registers-1..3     the first three (a cumulative subset)
                test-time          all test-time registers; test-time-2, test-time-1..3 as above
                patches-4          four random patches of each image: the negative control
    substitute  zero mean noise shuffle resample, see :mod:`ttr.studies.ablate.substitute`
    blocks      @11 one block, @3..5 a range, @last the last; without it every block

Zeroing alone overstates what registers do, since a zero vector is something the network never met (Parodi et
al. 2026, arXiv 2604.14433). The suite therefore always holds the plausible replacements beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ttr.errors import OptionError

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone
    from ttr.tokens import Group, TokenLayout

SUBSTITUTES = ("zero", "mean", "noise", "shuffle", "resample")
#: What a substitute has to be calibrated for.
CALIBRATED = ("mean", "noise", "resample")
CONTROL_PATCHES = 4
_GROUPS: dict[str, Group] = {"register": "registers", "test-time": "test_time"}
_FORM = re.compile(
    r"(?:(?P<all>cls|registers|test-time)"
    r"|(?P<one>register|test-time)-(?P<index>\d{1,4})"
    r"|(?P<some>registers|test-time)-(?P<from>\d{1,4})\.\.(?P<to>\d{1,4})"
    r"|patches-(?P<count>\d{1,5}))"
    r":(?P<substitute>[a-z]+)(?:@(?P<first>-?\d{1,4}|last)(?:\.\.(?P<final>-?\d{1,4}|last))?)?"
)
NEEDED = (
    "full or TOKENS:SUBSTITUTE[@BLOCKS] such as registers:zero, register-2:mean, registers-1..3:zero, "
    "cls:mean, test-time:shuffle, patches-4:zero, registers:zero@11, registers:zero@3..5"
)


@dataclass(frozen=True)
class Condition:
    """One condition, resolved for one layout.

    Attributes:
        name: as written.
        substitute: of :data:`SUBSTITUTES`; empty for ``full`` and ``bare``.
        where: positions of the tokens; for random patches those of all patches.
        random: how many of them, drawn anew for each image; 0: all.
        blocks: at whose outputs they are replaced, ascending; empty for those two.
    """

    name: str
    substitute: str = ""
    where: range = range(0)
    random: int = 0
    blocks: tuple[int, ...] = ()

    @property
    def tokens(self) -> str:
        """What is replaced, as written: the part before the colon."""
        return self.name.partition(":")[0]

    @property
    def calibrated(self) -> bool:
        """Whether the substitute needs a calibration."""
        return self.substitute in CALIBRATED


FULL = Condition("full")
BARE = Condition("bare")


def parse(name: str, backbone: Backbone, layout: TokenLayout) -> Condition:
    """Return the condition of a name, for tokens laid out as in ``layout`` (test-time registers included).

    Raises:
        OptionError: the name is not of that form, or asks for tokens or blocks that the model has not.
    """
    if name == FULL.name or (name == BARE.name and layout.test_time):
        return FULL if name == FULL.name else BARE
    found = _form(name)
    where, random = _tokens(name, found, backbone, layout)
    return Condition(name, found["substitute"], where, random, _blocks(name, found, backbone))


def check_conditions(names: list[str]) -> None:
    """Raise OptionError for a name that is a condition of no model, or stands twice."""
    for name in names:
        if name not in ("all", FULL.name, BARE.name):
            _form(name)
    _check_once(names)


def _form(name: str) -> re.Match:
    found = _FORM.fullmatch(name)
    if found is None or found["substitute"] not in SUBSTITUTES:
        raise OptionError(f"condition {name!r} is not known; needed {NEEDED} ({', '.join(SUBSTITUTES)})")
    return found


def _check_once(names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise OptionError(f"conditions {', '.join(names)}: name each once")


def suite(backbone: Backbone, layout: TokenLayout) -> list[str]:
    """Return the names of every condition that the published studies use and this layout has the tokens for.

    For trained registers and for test-time registers alike: the five substitutes of all of them, zeroing one
    by one, cumulatively, and at the last block alone; CLS zeroed and replaced by its mean; and the control.
    """
    names = [FULL.name, *([BARE.name] if layout.test_time else [])]
    for group, one, count in (
        ("registers", "register", layout.registers),
        ("test-time",) * 2 + (layout.test_time,),
    ):
        if not count:
            continue
        names += [f"{group}:{substitute}" for substitute in SUBSTITUTES]
        if count > 1:
            names += [f"{one}-{index}:zero" for index in range(1, count + 1)]
            names += [f"{group}-1..{index}:zero" for index in range(2, count)]
        names.append(f"{group}:zero@{backbone.num_layers - 1}")
    if layout.cls:
        names += ["cls:zero", "cls:mean"]
    return [*names, f"patches-{CONTROL_PATCHES}:zero"]


def parse_all(names: list[str], backbone: Backbone, layout: TokenLayout) -> list[Condition]:
    """Return the conditions of some names, ``full`` first; ``all`` stands for :func:`suite`.

    Raises:
        OptionError: a name is not known or stands twice.
    """
    wanted = [each for name in names for each in (suite(backbone, layout) if name == "all" else [name])]
    conditions = [parse(name, backbone, layout) for name in dict.fromkeys(["full", *wanted])]
    _check_once(names)
    return conditions


def _tokens(name: str, found: re.Match, backbone: Backbone, layout: TokenLayout) -> tuple[range, int]:
    if found["count"]:
        count, group = int(found["count"]), layout.where("patches")
        if not 1 <= count <= layout.patches:
            raise OptionError(
                f"condition {name!r}: {backbone.name} has {layout.patches} patches; needed 1..that"
            )
        return range(group.start, group.stop), count
    kind = found["all"] or found["one"] or found["some"]
    group = layout.where("cls" if kind == "cls" else _GROUPS[kind.removesuffix("s")])
    have = group.stop - group.start
    if not have:
        hint = "; wrap it with --num-registers" if kind == "test-time" else ""
        raise OptionError(f"condition {name!r}: {backbone.name} has no {_word(kind)}{hint}")
    first = int(found["index"] or found["from"] or 1)
    last = int(found["index"] or found["to"] or have)
    if not 1 <= first <= last <= have:
        raise OptionError(f"condition {name!r}: {backbone.name} has {have} {_word(kind)}, counted from 1")
    return range(group.start + first - 1, group.start + last), 0


def _blocks(name: str, found: re.Match, backbone: Backbone) -> tuple[int, ...]:
    if not found["first"]:
        return tuple(range(backbone.num_layers))
    first, final = (
        backbone.layer(-1 if text == "last" else int(text), f"condition {name}: block")
        for text in (found["first"], found["final"] or found["first"])
    )
    if first > final:
        raise OptionError(f"condition {name!r}: the blocks run backwards; give the lower one first")
    return tuple(range(first, final + 1))


def _word(kind: str) -> str:
    return {"cls": "CLS token", "test-time": "test-time registers"}.get(kind, "trained registers")
