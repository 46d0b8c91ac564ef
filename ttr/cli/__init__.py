"""The command line. ``main`` turns every refusal into one line and exit status 2."""

from ttr.cli.main import main

__all__ = ["main"]
