"""Counts and probabilities in words for people, and the sentence that stands beside every result."""

from __future__ import annotations

#: What R > 1 does and does not do; the tests show it on an attention.
SEVERAL_REGISTERS = (
    "R test-time registers are one token R times: each holds the same values in every block, so R of them "
    "are one register whose key has log R added to its logit. They give the model no room for more."
)
DISCLAIMER = "For research use only. Not a medical device."
#: Who made what is written in DICOM.
MANUFACTURER = "test-time registers (ttr)"


def counted(number: int, noun: str) -> str:
    """Return ``"1 image"``, ``"3 images"``, ``"no images"``; ``"2 patches"``."""
    ending = "es" if noun.endswith(("ch", "sh", "s", "x")) else "s"
    return f"{number or 'no'} {noun}{'' if number == 1 else ending}"


def install(extra: str) -> str:
    """Return how to install an extra: no package index has ttr, so from its source."""
    return f"pip install '.[{extra}]' in ttr's checkout"


def shortened(name: str, most: int = 44) -> str:
    """Return a name of ``most`` characters at most, which begins and ends as the whole one does."""
    if len(name) <= most:
        return name
    end = most // 2
    return f"{name[: most - end - 1]}…{name[-end:]}"


def percent(probability: float) -> str:
    """Return a probability, 0..1, as ``"12.3%"``; nothing that was estimated is called certain."""
    if probability > 0.9995:
        return ">99.9%"
    return "<0.1%" if probability < 0.0005 else f"{probability:.1%}"
