"""Backbones by name: the phantoms, every timm or open_clip architecture, and directories of transformers.

Weights are random unless a file is given or pretrained ones are asked for; which of the three it was stands
in ``Backbone.weights`` and in every result. Local files are :mod:`ttr.backbones.checkpoint_files`' matter,
those of the hub :mod:`ttr.backbones.hub`'s.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ttr.backbones import real, transformers_files
from ttr.backbones.base import Backbone, Weights
from ttr.backbones.catalog import catalog
from ttr.backbones.checkpoint_files import Checkpoint, fill, load_weights, read_checkpoint, weights_file
from ttr.backbones.config_beside import follow_config
from ttr.backbones.families import check_weights, locate
from ttr.backbones.hub import fetch_open_clip, fetch_timm, from_cache
from ttr.backbones.names import PLANTED, check_name, check_sources
from ttr.backbones.phantoms import hybrid
from ttr.backbones.phantoms import recipes as phantom
from ttr.backbones.phantoms.names import OF_RANDOM_WEIGHTS
from ttr.errors import ModelError, OptionError
from ttr.files import read_json

_LOCAL = "local-dir:"


def load(
    name: str,
    *,
    weights: str | Path | Mapping[str, torch.Tensor] | None = None,
    pretrained: bool = False,
    image_size: int | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Backbone:
    """Load a backbone by name, in evaluation mode.

    Args:
        name: ``phantom``, ``phantom-reg4``, ``phantom-clip``, ``phantom-patches``, ``phantom-registers``,
            ``phantom-skip``, ``phantom-constant``, ``phantom-sink``, ``phantom-offset``;
            ``phantom-dinov2``, real weights with planted artifacts (extra ``[real]``);
            a catalog name (``dinov2-vit-l-14``);
            ``timm:NAME``; ``open_clip:NAME[/TAG]``; ``transformers:DIRECTORY`` (what ``save_pretrained``
            wrote) or ``transformers:ORG/NAME``, a repository that ``weights`` or ``pretrained`` brings.
        weights: a safetensors file, a torch checkpoint (read with ``weights_only``), an ONNX export, a
            directory with one of these, or a state dict of that architecture: in the library's layout, in
            that of transformers, or in the original one of DINOv2, DINOv3 or OpenAI's CLIP; for a
            transformers repository its directory on this machine. What lies beside the backbone in it (heads,
            decoders) is left out and named in ``Backbone.weights``; a timm model gets the file's own head.
        pretrained: fetch the library's published weights (needs the network or a cache; DINOv2-S may be
            installed instead, see :mod:`ttr.backbones.real`).
        image_size: side of the square input in pixels; None keeps the model's native size.
        device: where the model goes.
        dtype: floating-point type of the parameters.

    Without ``weights`` and ``pretrained`` a timm or open_clip model has random weights (seed 0);
    ``Backbone.weights`` says which it was. No request is sent unless ``pretrained``.

    Raises:
        ModelError: an unknown name, a file of another architecture, or weights out of reach, damaged, or not
            finite in ``dtype``.
        OptionError: an argument of another type or range, or a device that this machine lacks.
    """
    _check_arguments(weights, image_size, device, dtype)
    check_name(name)
    check_sources(name, weights, pretrained)
    if name in OF_RANDOM_WEIGHTS:
        try:
            backbone = phantom.load(name, image_size=image_size)
        except RuntimeError as error:  # an image too large for this machine's memory
            raise _refusal(name, False, error) from error
    elif name in hybrid.HYBRIDS:
        checkpoint = hybrid.weights_of(name, weights)
        base = _built(hybrid.HYBRIDS[name].base, checkpoint, pretrained=False, image_size=image_size)
        backbone = hybrid.plant_named(name, base)
    elif name.startswith(PLANTED):
        backbone = _planted(Path(name.removeprefix(PLANTED)), weights, pretrained, image_size)
        name = backbone.name
    else:
        backbone = _built(name, weights, pretrained=pretrained, image_size=image_size)
        name = backbone.name
    backbone.model.eval().to(device=device, dtype=dtype)
    check_weights(backbone.model, name)
    return backbone


def _planted(file: Path, weights: Any, pretrained: bool, image_size: int | None) -> Backbone:
    """Return the model that ``ttr plant`` wrote a file of, its weights given anew."""
    base = hybrid.base_of(file)
    original = _built(base, weights, pretrained=pretrained, image_size=image_size)
    return hybrid.plant_file(f"{PLANTED}{file.stem}", file, original)


def _built(name: str, weights: Any, *, pretrained: bool, image_size: int | None) -> Backbone:
    """Return the backbone that a library or the catalog calls so."""
    name = catalog()[name].loads if name in catalog() else name
    library, _, rest = name.partition(":")
    if library == "transformers":
        backbone = transformers_files.load(
            name, weights=weights, pretrained=pretrained, image_size=image_size
        )
    else:
        build = _timm if library == "timm" else _open_clip
        model, origin = build(rest, weights=weights, pretrained=pretrained, image_size=image_size)
        # Every result carries the name, and no result a path.
        name = f"timm:{_LOCAL}{Path(rest).resolve().name}" if rest.startswith(_LOCAL) else name
        backbone = locate(model, name=name, weights=origin, preprocess=None)
    if not backbone.layout.patches:
        side = backbone.patch_size[0]
        raise ModelError(f"image_size={image_size} holds no patch of {name}; needed {side} px or more")
    return backbone


def _check_arguments(weights: Any, image_size: Any, device: Any, dtype: Any) -> None:
    if weights is not None and not isinstance(weights, str | Path | Mapping):
        given = type(weights).__name__
        raise OptionError(f"weights is a {given}; needed a file, or a state dict: model.state_dict()")
    is_size = isinstance(image_size, int) and not isinstance(image_size, bool) and image_size > 0
    if image_size is not None and not is_size:
        raise OptionError(f"image_size={image_size!r}; needed a positive whole number of pixels, or None")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise OptionError(f"dtype={dtype!r}; needed a floating-point type such as torch.float32")
    try:
        torch.empty(0, device=device)
        usable = torch.device(device).type != "meta"
    except (RuntimeError, AssertionError, TypeError, ValueError):
        usable = False
    if not usable:
        raise OptionError(f"device {str(device)!r} cannot be used on this machine; choose cpu")


def _timm(name: str, *, weights: Any, pretrained: bool, image_size: int | None) -> tuple[nn.Module, Weights]:
    import timm

    checkpoint: Checkpoint | None = None
    origin = Weights("random", "seed 0")
    if name.startswith(_LOCAL):
        weights = _of_directory(name, weights, pretrained)
    elif not name.startswith(("hf-hub:", "hf_hub:")) and name.split(".")[0] not in timm.list_models():
        raise ModelError(f"timm has no architecture {name!r}{_nearest(name, timm.list_models())}")
    if weights is not None:
        checkpoint = weights if isinstance(weights, Checkpoint) else read_checkpoint(weights, clip=False)
    elif pretrained and (file := real.instead_of(name)):
        checkpoint = real.read(file)
    elif pretrained:
        origin = Weights("pretrained", _fetched(name))
    size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    options = checkpoint.options if checkpoint else {}
    try:
        with _seeded(), from_cache():
            model: Any = timm.create_model(name, pretrained=pretrained and not checkpoint, **size, **options)
    except Exception as error:
        if options:  # a family that is not known need not take them
            locate(timm.create_model(name), name=f"timm:{name}", weights=origin, preprocess=None)
        raise _refusal(f"timm:{name}", pretrained, error) from error
    if checkpoint is None:
        return model, origin
    locate(model, name=f"timm:{name}", weights=origin, preprocess=None)  # told before what weights it lacks
    filled = fill(model, checkpoint, f"timm:{name}")
    if isinstance(weights, str | Path):
        follow_config(weights_file(Path(weights)), model, f"timm:{name}")
    return model, filled


def _fetched(name: str) -> str:
    try:
        return fetch_timm(name)
    except ModelError as error:
        if not real.answers_to(name):
            raise
        raise ModelError(f"{error}, or install one that needs no network: {real.INSTALL}") from error


def _of_directory(name: str, weights: Any, pretrained: bool) -> Path:
    """Return the directory behind ``local-dir:``, with a description and weights as timm writes them."""
    directory = Path(name.removeprefix(_LOCAL))
    if weights is not None or pretrained:
        raise ModelError(
            f"timm:{name} is a directory with weights of its own; leave out weights and pretrained"
        )
    try:
        described = "architecture" in dict(read_json(directory / "config.json"))
    except (ValueError, TypeError):
        described = False
    if not described:
        raise ModelError(
            f"{directory} is no directory with a config.json that names an architecture of timm; "
            f"name it: timm:ARCHITECTURE with weights={directory}, or transformers:{directory}"
        )
    return directory


def _open_clip(
    name: str, *, weights: Any, pretrained: bool, image_size: int | None
) -> tuple[nn.Module, Weights]:
    import open_clip

    architecture, tag = (name, "") if name.startswith("hf-hub:") else _split_tag(name)
    if not name.startswith("hf-hub:"):
        if architecture not in open_clip.list_models():
            nearest = _nearest(architecture, open_clip.list_models())
            raise ModelError(f"open_clip has no architecture {architecture!r}{nearest}")
        if (pretrained or tag) and not open_clip.get_pretrained_cfg(architecture, tag):
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none published"
            asked = f"with the unknown tag {tag!r}" if tag else "for pretrained weights without a tag"
            needed = f"write open_clip:{architecture}/TAG with one of: {tags}"
            raise ModelError(f"open_clip:{architecture} was asked {asked}; {needed}")
    origin = Weights("random", "seed 0")
    if pretrained:
        origin = Weights("pretrained", fetch_open_clip(architecture, tag))
    try:
        with _seeded(), from_cache():
            model = open_clip.create_model(
                architecture,
                pretrained=(tag or None) if pretrained else None,
                load_weights=pretrained,
                force_image_size=image_size,
                pretrained_text=False,
                require_pretrained=pretrained,
            )
    except Exception as error:
        raise _refusal(f"open_clip:{name}", pretrained, error) from error
    return model, origin if weights is None else load_weights(model, weights, f"open_clip:{name}")


def _split_tag(name: str) -> tuple[str, str]:
    architecture, _, tag = name.partition("/")
    return architecture, tag


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed the constructors' global generator for random weights, and give it back as it was.

    The libraries' own warnings are silent meanwhile: they speak of random weights before a file is loaded.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        logging.disable(level)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name.split(".")[0], known, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(close)}?" if close else "; see its list of models"


def _refusal(name: str, pretrained: bool, error: Exception) -> ModelError:
    reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    if pretrained:
        return ModelError(
            f"pretrained weights of {name} could not be loaded ({reason[:200]}); "
            "check that they are published for this library, or give a local file with weights="
        )
    hint = "give pretrained=True to fetch it" if "hub:" in name else "check the image size and the name"
    if "hf-hub:" in name:
        return ModelError(
            f"{name} is described on the hub alone and not in the cache ({reason[:200]}); "
            "fetch it with pretrained=True"
        )
    return ModelError(f"{name} could not be built ({reason[:200]}); {hint}")
