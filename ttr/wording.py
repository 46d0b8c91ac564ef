"""Counts and probabilities in words for people, and the sentence that stands beside every result."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What R > 1 does and does not do; the tests show it on an attention.
SEVERAL_REGISTERS = (
    "R test-time registers are one token R times: each holds the same values in every block, so R of them "
    "are one register whose key has log R added to its logit. They give the model no room for more."
)
DISCLAIMER = "For research use only. Not a medical device."
#: Who made what is written in DICOM.
MANUFACTURER = "test-time registers (ttr)"


def counted(number: int, noun: str) -> str:
    """Return ``"1 image"``, ``"3 images"``, ``"no images"``, ``"1,200 images"``, ``"2 patches"``."""
    ending = "es" if noun.endswith(("ch", "sh", "s", "x")) else "s"
    return f"{number or 'no':{',' if number else ''}} {noun}{'' if number == 1 else ending}"


def measured(number: float, noun: str) -> str:
    """Return ``"1 point"``, ``"0.5 points"``, ``"2 points"``: a quantity that need not be whole."""
    return f"{number:.4g} {noun}{'' if f'{number:.4g}' == '1' else 's'}"


def listed(parts: Sequence[str]) -> str:
    """Return ``"a"``, ``"a and b"``, ``"a, b and c"``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence(text: str) -> str:
    """Return a text that begins with a capital letter and ends with one full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text[-1:] in ".!?" else ".")


def not_done(name: str, why: str) -> str:
    """Return in one line that something was not done, and why; a reason that names it first does so once."""
    return f"not done: {name}: {' '.join(why.split()).removeprefix(f'{name}: ')}"


def p_text(p: float) -> str:
    """Return a p-value as ``".012"``, ``"< .001"``, or a dash where nothing was tested."""
    if p != p:
        return "–"
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0") if p < 0.9995 else "1"


def p_said(p: float, corrected: str = "") -> str:
    """Return ``"p = .012"`` or ``"p < .001"``; ``"no p"`` where nothing was tested.

    ``corrected``: by whose correction, which stands in brackets behind it.
    """
    text = p_text(p)
    if text == "–":
        return "no p"
    by = f" ({corrected})" if corrected else ""
    return f"p {text}{by}" if text.startswith("<") else f"p = {text}{by}"


def install(extra: str) -> str:
    """Return how to install an extra: no package index has ttr, so from its source."""
    return f"pip install '.[{extra}]' in ttr's checkout"


def shortened(name: str, most: int = 44) -> str:
    """Return a name of ``most`` characters at most, which begins and ends as the whole one does.

    Marks that turn the direction of writing (U+202A to U+202E, U+2066 to U+2069) are left out: they would
    turn the sentence around it, too.
    """
    name = re.sub("[\u202a-\u202e\u2066-\u2069]", "", name)
    if len(name) <= most:
        return name
    end = most // 2
    return f"{name[: most - end - 1]}…{name[-end:]}"


def percent(probability: float) -> str:
    """Return a probability, 0..1, as ``"12.3 %"``; nothing that was estimated is called certain."""
    if probability > 0.9995:
        return "> 99.9 %"
    return "< 0.1 %" if probability < 0.0005 else f"{100 * probability:.1f} %"
