"""The group ``ttr reproduce`` and its commands."""

from __future__ import annotations

from ttr.cli.commands import Commands
from ttr.cli.reproduce.attention_maps import attention_maps
from ttr.cli.reproduce.decoupling import decoupling
from ttr.cli.reproduce.medical import medical
from ttr.cli.reproduce.zero_ablation import zero_ablation

reproduce = Commands(
    help="Published studies again: their numbers beside measured ones.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@reproduce.callback()
def _group() -> None:
    """Published studies again: their numbers beside measured ones."""


reproduce.command()(medical)
reproduce.command()(decoupling)
reproduce.command(name="zero-ablation")(zero_ablation)
reproduce.command(name="attention-maps")(attention_maps)
