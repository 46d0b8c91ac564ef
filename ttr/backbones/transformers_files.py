"""Vision models of transformers from a directory that ``save_pretrained`` wrote, or from the hub.

The directory says everything: ``config.json`` the class and its sizes, ``model.safetensors`` the weights,
``preprocessor_config.json`` what is done to an image (:mod:`ttr.backbones.transformers_preprocess`). Each is
read by the library's own reader, which also knows the older layouts of weights on the hub. Nothing in it is
executed: no pickled weights, no code that a repository brings along.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ttr.backbones.base import Backbone, Weights
from ttr.backbones.catalog import catalog
from ttr.backbones.checkpoint_files import refuse_what_stands_for_weights
from ttr.backbones.families import locate
from ttr.backbones.hub import fetch_transformers, from_cache
from ttr.backbones.transformers_preprocess import read_processor
from ttr.backbones.transformers_vit import AROUND, TOWERS
from ttr.errors import ModelError
from ttr.wording import install

PREFIX = "transformers:"
#: As safetensors names the types that a weight may have.
_FLOATS = ("F16", "BF16", "F32", "F64")


def load(name: str, *, weights: Any, pretrained: bool, image_size: int | None) -> Backbone:
    """Load ``transformers:DIRECTORY``, or ``transformers:ORG/NAME`` with ``weights`` or ``pretrained``.

    The image size is ``image_size``, else what the preprocessing makes, else the configuration's; the model
    interpolates its own position embedding. Preprocessing that fixes no size counts as none.

    Raises:
        ModelError: transformers is not installed, the source is ambiguous, or not a model that we know.
    """
    source, origin = _source(name, weights, pretrained)
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise ModelError(f"{name} needs the transformers library; {install('transformers')}") from error
    _check_types(source)
    with _silent(), from_cache():
        model, preprocess = _model(name, source), read_processor(source, image_size)
    own = Path(name.removeprefix(PREFIX)).expanduser()
    # Every result carries the name, and no result a path.
    called = f"{PREFIX}{own.resolve().name}" if own.is_dir() else name
    backbone = locate(model, name=called, weights=origin, preprocess=None)
    _check_catalog(backbone)
    size = backbone.image_size if preprocess is None else preprocess.size
    size = size if image_size is None else (image_size, image_size)
    grid = (size[0] // backbone.patch_size[0], size[1] // backbone.patch_size[1])
    layout = replace(backbone.layout, grid=grid)
    return replace(backbone, image_size=size, layout=layout, preprocess_image=preprocess)


def _source(name: str, weights: Any, pretrained: bool) -> tuple[Path, Weights]:
    given = name.removeprefix(PREFIX)
    directory = Path(given).expanduser()
    if directory.is_dir():
        if weights is not None or pretrained:
            raise ModelError(
                f"{name} is a directory with weights of its own; leave out weights and pretrained"
            )
    elif weights is not None:
        if not isinstance(weights, str | Path):
            raise ModelError(f"{name} takes its weights from a directory; got {type(weights).__name__}")
        directory = Path(weights)
    elif pretrained and given.count("/") == 1:
        directory, place = fetch_transformers(given)
        return directory, Weights("pretrained", place)
    else:
        raise ModelError(
            f"{given} is no directory here; give one with config.json and model.safetensors "
            f"({PREFIX}DIRECTORY, or weights=DIRECTORY), or a hub repository ORG/NAME with pretrained=True"
        )
    if not (directory / "config.json").is_file():
        raise ModelError(
            f"{directory} is no directory with a config.json; weights of a transformers model are the whole "
            "directory that save_pretrained wrote"
        )
    weights_files = list(directory.glob("*.safetensors"))
    if strange := [path for path in weights_files if not path.is_file()]:  # a pipe would be waited for
        raise ModelError(f"{strange[0]} is no regular file; take an undamaged copy of the directory")
    if not weights_files:
        raise ModelError(
            f"{directory} holds no .safetensors file, and pickled weights are never executed; "
            "write it again with save_pretrained in transformers"
        )
    return directory, Weights("file", directory.resolve().name)


def _model(name: str, source: Path) -> nn.Module:
    import transformers

    try:
        config, _ = transformers.PreTrainedConfig.get_config_dict(source, local_files_only=True)
        kind = (config.get("architectures") or ["a model without a class name"])[0]
        if kind not in TOWERS and kind not in AROUND:
            known = ", ".join((*TOWERS, *AROUND))
            raise ModelError(f"{name} holds {kind} ({config.get('model_type')}); needed one of: {known}")
        model, keys = getattr(transformers, kind).from_pretrained(
            source,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
            dtype=torch.float32,
            output_loading_info=True,
        )
    except ModelError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ModelError(
            f"{name} could not be loaded ({reason}); check its config.json, or give weights=DIRECTORY"
        ) from error
    if hasattr(model.config, "mask_ratio"):
        model.config.mask_ratio = 0.0  # MAE's own would hide most of the image at random
    if absent := sorted(map(str, (*keys["missing_keys"], *keys["mismatched_keys"]))):
        raise ModelError(
            f"{source} does not hold weights of {kind}: keys {len(absent)} missing or of another shape "
            f"(such as {absent[0]}); its config.json and its weights do not belong together"
        )
    return model


def _check_types(directory: Path) -> None:
    """Refuse weights that the library would turn into floats without a word: integers, complex numbers."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(directory.glob("*.safetensors")):
        refuse_what_stands_for_weights(path)
        try:
            with safe_open(path, framework="pt") as file:
                kinds = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{path} cannot be read as safetensors ({error}); take an undamaged copy"
            ) from error
        for key, kind in kinds.items():
            if kind not in _FLOATS and not key.endswith("position_ids"):
                raise ModelError(
                    f"{key} of {path} is of type {kind}; needed {', '.join(_FLOATS)}: save it as one of these"
                )


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the library's bar and report quiet, and give the global generator back as it was."""
    from transformers.utils import logging as library

    level, bar = logging.root.manager.disable, library.is_progress_bar_enabled()
    logging.disable(logging.WARNING)
    library.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        logging.disable(level)
        if bar:
            library.enable_progress_bar()


def _check_catalog(backbone: Backbone) -> None:
    """Refuse a directory under a catalog's name when it holds another model."""
    for entry in catalog().values():
        if entry.loads == backbone.name:
            norm: Any = backbone.sites.final_norm
            needed = (entry.patch_size, entry.registers, entry.embedding)
            given = (backbone.patch_size[0], backbone.layout.registers, len(norm.weight))
            if given != needed:
                raise ModelError(
                    f"{backbone.weights} is not {backbone.name}: its patch size, registers and width are "
                    f"{given}, needed {needed}; name the directory itself, {PREFIX}DIRECTORY"
                )
