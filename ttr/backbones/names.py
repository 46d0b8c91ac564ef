"""Names of backbones, looked at before anything heavy is imported: a typo is told at once."""

from __future__ import annotations

import difflib
import re
from importlib.util import find_spec
from pathlib import Path

from ttr.backbones.catalog import catalog
from ttr.backbones.phantoms.names import NAMES as PHANTOMS
from ttr.backbones.phantoms.names import OF_RANDOM_WEIGHTS
from ttr.errors import ModelError

#: Ahead of a file of ``ttr plant``.
PLANTED = "planted:"
LIBRARIES = ("timm", "open_clip", "transformers")
NAMES_HELP = (
    f"{', '.join(PHANTOMS)}, a name listed by: ttr backbones, "
    "timm:ARCHITECTURE[.TAG] (timm:vit_large_patch14_dinov2), timm:local-dir:DIRECTORY, "
    "open_clip:ARCHITECTURE[/TAG] (open_clip:ViT-B-16/laion2b_s34b_b88k), "
    "transformers:DIRECTORY or transformers:ORG/NAME (transformers:microsoft/rad-dino), "
    f"{PLANTED}FILE of ttr plant"
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
    if name.startswith(PLANTED):
        return _check_planted(Path(rest))
    close = _with_library(name) or difflib.get_close_matches(name, [*PHANTOMS, *catalog()], n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise ModelError(f"backbone {name!r} is not known{hint}; needed one of: {NAMES_HELP}")


def check_sources(name: str, weights: object, pretrained: bool) -> None:
    """Raise ModelError unless at most one source of weights is given, and one where the name needs it."""
    if weights is not None and pretrained:
        raise ModelError("weights= and pretrained=True were both given; choose one source of weights")
    if name in OF_RANDOM_WEIGHTS and (weights is not None or pretrained):
        raise ModelError(f"{name} builds its own weights from a seed; leave out weights and pretrained")
    if name.startswith(PLANTED) and weights is None and not pretrained:
        raise ModelError(
            f"{name} holds what is planted, not what it is planted in; give the weights that it was made for "
            "with weights= (--weights), or ask for the published ones with pretrained=True (--pretrained)"
        )


def _check_planted(file: Path) -> None:
    try:
        with file.open("rb") as content:
            if content.read(9)[8:] == b"{":  # behind the length of its header, as safetensors has it
                return
        why = "it is no safetensors"
    except OSError as error:
        why = str(error.strerror)
    raise ModelError(f"{PLANTED}{file} is no file of ttr plant ({why}); write one with: ttr plant --out FILE")


def _with_library(name: str) -> list[str]:
    """Return the full name of what a library or this machine calls so, from their files: nothing is run."""
    if (Path(name) / "config.json").is_file():
        return [f"transformers:{name}"]
    homes = (find_spec(library) for library in LIBRARIES[:2])
    timm, open_clip = (Path(str(spec.origin)).parent for spec in homes if spec)
    defined = f"\ndef {name.partition('.')[0]}(pretrained"
    for family in ("vision_transformer", "eva", "deit"):
        if defined in (timm / "models" / f"{family}.py").read_text(encoding="utf-8"):
            return [f"timm:{name}"]
    configs = {file.stem for file in (open_clip / "model_configs").glob("*.json")}
    if name.partition("/")[0] in configs:
        return [f"open_clip:{name}"]
    is_repository = re.fullmatch(r"[\w.-]+/[\w.-]+", name)
    return [f"transformers:{name} or timm:hf-hub:{name}"] if is_repository else []
