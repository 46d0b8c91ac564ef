"""The image libraries' own messages, kept off every log: they repeat what stands in a file."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ttr.errors import ImageWarning

_reading = threading.Lock()


def say(text: str) -> None:
    """Warn of an image in ttr's own words, also while other threads keep the libraries quiet."""
    with _reading:
        warnings.warn(text, ImageWarning, stacklevel=2)


@contextmanager
def quiet() -> Iterator[None]:
    """Let the libraries say nothing meanwhile.

    One thread at a time, since log levels and warning filters belong to the whole process.
    """
    loggers = [logging.getLogger(name) for name in ("pydicom", "PIL")]
    with _reading:
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
