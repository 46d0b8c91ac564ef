"""Counts in sentences."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return ``"1 image"``, ``"3 images"``, ``"no images"``."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
