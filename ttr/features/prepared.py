"""What a benchmark finds on training images before it looks at any arm: register neurons, attention bias.

Both are found once and kept beside the features, under everything that decides them: the backbone, the
settings, and the bytes of the sampled images. A second run over the same set then has nothing to run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttr.backbones.base import Backbone
from ttr.datasets.registry import Dataset, Item, OpenedImages, draw_sample
from ttr.digests import sha256_of
from ttr.errors import ImageError, ModelError, NeuronsError
from ttr.features.chunks import content_hash
from ttr.features.shelf import cache_key
from ttr.forward.calibration import Calibration, calibrate
from ttr.forward.preprocessing import Preprocessing
from ttr.registers.arms import Arm
from ttr.registers.attention_bias import BiasCalibration, calibrate_bias
from ttr.registers.detection import detect
from ttr.registers.neurons import RegisterNeurons
from ttr.version import __version__

if TYPE_CHECKING:
    from PIL.Image import Image

DETECTION_IMAGES = 200
CALIBRATION_IMAGES = 1000
TOKEN_IMAGES = 5000


def found_neurons(
    backbone: Backbone,
    dataset: Dataset,
    cache: Path,
    *,
    images: int = DETECTION_IMAGES,
    seed: int = 42,
    on_error: str = "raise",
    progress: bool = False,
    **settings: Any,
) -> RegisterNeurons:
    """Return the register neurons of a seeded sample of training images, from the cache where they are there.

    Args:
        backbone: the bare backbone.
        dataset: the labelled set.
        cache: folder of the feature cache.
        images: size of the sample; fewer training images: all.
        seed: of the sample.
        on_error: ``"raise"`` or ``"skip"`` a bad image.
        progress: show a progress bar.
        settings: of :func:`ttr.detect`.

    Raises:
        TTRError: as :func:`ttr.detect` does, or the cache cannot be written.
    """
    items = _sample(dataset, images, seed)
    nothing = Arm("plain", RegisterNeurons.from_pairs([]), 0)
    path = cache / "neurons" / f"{_digest(backbone, nothing, dataset, items, settings)}.json"
    with suppress(NeuronsError):
        return RegisterNeurons.load(path)
    neurons = detect(backbone, _opened(dataset, items, on_error), progress=progress, **settings)
    neurons.save(path)
    return neurons


def calibrated(
    backbone: Backbone,
    neurons: RegisterNeurons,
    dataset: Dataset,
    cache: Path,
    *,
    images: int = CALIBRATION_IMAGES,
    seed: int = 42,
    on_error: str = "raise",
    progress: bool = False,
) -> BiasCalibration:
    """Return the attention bias calibrated on such a sample; as :func:`found_neurons`."""
    items = _sample(dataset, images, seed)
    zeroed = Arm("neurons", neurons, 0)
    path = cache / "bias" / f"{_digest(backbone, zeroed, dataset, items, {})}.safetensors"
    with suppress(ModelError):
        return BiasCalibration.load(path)
    bias = calibrate_bias(backbone, neurons, _opened(dataset, items, on_error), progress=progress)
    bias.save(path)
    return bias


def token_calibration(
    backbone: Backbone,
    arm: Arm,
    dataset: Dataset,
    cache: Path,
    *,
    images: int = TOKEN_IMAGES,
    seed: int = 42,
    batch_size: int = 32,
    on_error: str = "raise",
    progress: bool = False,
) -> Calibration:
    """Return what tokens are like at each block, over such a sample, of the model under an arm."""
    items = _sample(dataset, images, seed)
    decides = {"seed": seed, "batch_size": batch_size}
    path = cache / "calibrations" / f"{_digest(backbone, arm, dataset, items, decides)}.safetensors"
    with suppress(ModelError):
        return Calibration.load(path)
    with arm.applied(backbone):
        found = calibrate(
            backbone,
            _opened(dataset, items, on_error),
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )
    found.save(path)
    return found


def _sample(dataset: Dataset, count: int, seed: int) -> list[Item]:
    return draw_sample(dataset.select("train"), count, seed)


def _opened(dataset: Dataset, items: Sequence[Item], on_error: str) -> Iterable[Image]:
    return OpenedImages(items, dataset.open) if on_error == "raise" else _readable(dataset, items)


def _readable(dataset: Dataset, items: Sequence[Item]) -> Iterator[Image]:
    for item in items:
        with suppress(ImageError):
            yield dataset.open(item)


def _digest(
    backbone: Backbone, arm: Arm, dataset: Dataset, items: Sequence[Item], settings: dict[str, Any]
) -> str:
    key = cache_key(backbone, arm, Preprocessing(backbone))
    hashes = [content_hash(dataset.content_hash, item) for item in items]
    return sha256_of([__version__, key, settings, hashes], digits=24)
