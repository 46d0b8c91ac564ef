"""Names of backbones, looked at before anything heavy is imported: a typo is told at once."""

from __future__ import annotations

import difflib

from ttr.backbones.catalog import catalog
from ttr.backbones.phantoms.names import NAMES as PHANTOMS
from ttr.errors import ModelError

LIBRARIES = ("timm", "open_clip", "transformers")
NAMES_HELP = (
    f"{', '.join(PHANTOMS)}, a name listed by: ttr backbones, "
    "timm:ARCHITECTURE[.TAG] (timm:vit_large_patch14_dinov2), "
    "open_clip:ARCHITECTURE[/TAG] (open_clip:ViT-B-16/laion2b_s34b_b88k), "
    "transformers:DIRECTORY or transformers:ORG/NAME (transformers:microsoft/rad-dino)"
)


def check_name(name: str) -> None:
    """Raise ModelError unless ``name`` is a phantom's, the catalog's, or has a library's prefix."""
    if not isinstance(name, str):
        raise ModelError(
            f"got {type(name).__name__} as a name; needed one of: {NAMES_HELP}; "
            "a model in memory goes to ttr.adapt"
        )
    library, _, rest = name.partition(":")
    if name in PHANTOMS or name in catalog() or (library in LIBRARIES and rest):
        return
    close = difflib.get_close_matches(name, [*PHANTOMS, *catalog()], n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise ModelError(f"backbone {name!r} is not known{hint}; needed one of: {NAMES_HELP}")
