"""What a study finds on images before it measures anything: register neurons, attention bias, calibration.

This is the one way to them. Each is found once and kept beside the features, under everything that decides
it: the backbone, the settings, and the bytes of the images. Whoever asks again, another study or another
command, is given what was found.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from ttr.backbones.base import Backbone
from ttr.datasets.registry import OpenedImages, ReadAhead, bad_image
from ttr.digests import sha256, sha256_of
from ttr.errors import ModelError, NeuronsError, OutputError
from ttr.features.shared import Shared
from ttr.features.shared_calibration import SharedCalibration
from ttr.features.shared_detection import SharedDetection
from ttr.features.sharing import arrive
from ttr.features.shelf import cache_key
from ttr.files import MOST_TENSORS, read_bytes, read_json, whole_file, write_json
from ttr.forward.calibration import Calibration, calibrate
from ttr.forward.preprocessing import Preprocessing
from ttr.ranks import Rank
from ttr.registers.arms import PLAIN, Arm
from ttr.registers.attention_bias import BiasCalibration, calibrate_bias
from ttr.registers.detection import DetectionRule, detect
from ttr.registers.evidence import FEWEST, STABLE
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run
from ttr.version import __version__

DETECTION_IMAGES = 200
CALIBRATION_IMAGES = 1000
T = TypeVar("T")


class _Beside(BaseModel):
    """What lies beside a finding: {name: reason} of the images left out for it, and the seal of both."""

    model_config = ConfigDict(strict=True)

    skipped: dict[str, str]
    seal: str


@dataclass(frozen=True)
class Prepared(Generic[T]):
    """What was found on some images, now or by an earlier run.

    Attributes:
        value: the finding.
        skipped: {name: reason} of the images that could not be read.
        kept: whether it lies in the cache now.
    """

    value: T
    skipped: dict[str, str] = field(default_factory=dict)
    kept: bool = True


def found_neurons(
    backbone: Backbone, images: OpenedImages, run: Run, rule: DetectionRule | None = None
) -> Prepared[RegisterNeurons]:
    """Return the register neurons of some images, from the cache where they are there.

    Args:
        backbone: the bare backbone.
        images: to look at, see :func:`ttr.datasets.registry.sampled_images`.
        run: how; its batch size decides rounding alone, so neurons that were found with another one count.
        rule: what makes a register neuron; None: the default.

    Raises:
        TTRError: as :func:`ttr.detect` does, or the cache cannot be written.
    """
    rule = (DetectionRule() if rule is None else rule).of(backbone)
    path = _place_of_neurons(backbone, images, run, rule)
    if run.shared:
        shared = SharedDetection(path.with_suffix(""), backbone, images, run, rule)
        return _together(path, RegisterNeurons, shared)

    def find(reading: ReadAhead) -> RegisterNeurons:
        return detect(
            backbone,
            reading,
            **asdict(rule),
            batch_size=run.batch_size,
            image_set=images.words,
            progress=run.progress,
        )

    return _kept(path, images, run, RegisterNeurons, find)


@dataclass(frozen=True)
class StillToCome:
    """What other processes have still to find before there is a finding.

    Attributes:
        missing: parts that are not there.
        parts: of so many.
        folder: where they are to lie.
    """

    missing: int
    parts: int
    folder: Path


def shared_neurons(
    backbone: Backbone, images: OpenedImages, run: Run, rule: DetectionRule, rank: Rank
) -> Prepared[RegisterNeurons] | StillToCome:
    """Do this process's share of :func:`found_neurons`; whoever ends last has them.

    They are those that one process finds (:mod:`ttr.features.shared_detection`). The parts stay in the cache.

    Raises:
        TTRError: as :func:`ttr.detect` does, a part is missing or damaged, or the cache cannot be written.
    """
    path = _place_of_neurons(backbone, images, run, rule.of(backbone))
    shared = SharedDetection(path.with_suffix(""), backbone, images, run, rule)
    taken: Prepared[RegisterNeurons] | None = _taken(path, run, RegisterNeurons)
    if taken is not None:
        return taken
    shared.write_own(rank)
    if missing := shared.missing():
        return StillToCome(missing, len(shared.stretches), shared.folder)
    return _made(path, images, run, lambda reading: shared.merged(reading.skipped))


def _together(path: Path, kind: Any, shared: Shared[T]) -> Prepared[T]:
    """Load a finding, or make it with those that share the run; of several processes the first merges."""
    run = shared.run
    taken: Prepared[T] | None = _taken(path, run, kind)
    if taken is not None:
        return taken
    shared.write_own(run.rank)
    if run.rank.index:
        return _of_the_first(path, run, kind)
    arrive(shared.missing, f"parts of {shared.label}", shared.folder)
    return _made(path, shared.images, run, lambda reading: shared.merged(reading.skipped))


def _of_the_first(path: Path, run: Run, kind: Any) -> Prepared[Any]:
    """Return what the first process finds, once it has."""
    taken: list[Prepared[Any]] = []

    def missing() -> int:
        taken.extend(filter(None, [_taken(path, run, kind)]))
        return int(not taken)

    arrive(missing, "finding of the first process", path)
    return taken[0]


def _place_of_neurons(backbone: Backbone, images: OpenedImages, run: Run, rule: DetectionRule) -> Path:
    decides = {**asdict(rule), "evidence": [FEWEST, STABLE]}
    return _place(backbone, PLAIN, images, run, "neurons", decides).with_suffix(".json")


def calibrated_bias(
    backbone: Backbone, neurons: RegisterNeurons, images: OpenedImages, run: Run
) -> Prepared[BiasCalibration]:
    """Return the attention bias calibrated on some images; as :func:`found_neurons`.

    It is calibrated by one process, where the backbone is, whoever shares the rest.
    """
    run = run if run.machines is None else replace(run, machines=None, device=None)
    path = _place(backbone, Arm("neurons", neurons, 0), images, run, "bias", {})

    def find(reading: ReadAhead) -> BiasCalibration:
        return calibrate_bias(backbone, neurons, reading, batch_size=run.batch_size, progress=run.progress)

    return _kept(path.with_suffix(".safetensors"), images, run, BiasCalibration, find)


def calibrated_tokens(backbone: Backbone, arm: Arm, images: OpenedImages, run: Run) -> Prepared[Calibration]:
    """Return what tokens are like at each block, over some images, of the model under an arm.

    What is drawn for it depends on seed and batch size, so these belong to what decides it.
    """
    path = _place_of_tokens(backbone, arm, images, run)
    if run.shared:
        shared = SharedCalibration(path.with_suffix(""), backbone, images, run, arm)
        return _together(path, Calibration, shared)

    def find(reading: ReadAhead) -> Calibration:
        with arm.applied(backbone):
            return calibrate(
                backbone, reading, seed=run.seed, batch_size=run.batch_size, progress=run.progress
            )

    return _kept(path, images, run, Calibration, find)


def _place_of_tokens(backbone: Backbone, arm: Arm, images: OpenedImages, run: Run) -> Path:
    decides = {"seed": run.seed, "batch_size": run.batch_size}
    return _place(backbone, arm, images, run, "calibrations", decides).with_suffix(".safetensors")


def _kept(
    path: Path, images: OpenedImages, run: Run, kind: Any, find: Callable[[ReadAhead], T]
) -> Prepared[T]:
    """Load a finding and what was skipped for it, or find and keep both.

    What was skipped is written behind the finding, with a seal of both: without it, or where it does not fit,
    a finding is damaged or lies in another's place, and is made anew.
    """
    taken: Prepared[T] | None = _taken(path, run, kind)
    if taken is None and run.rank.index:
        return _of_the_first(path, run, kind)
    return _made(path, images, run, find) if taken is None else taken


def _taken(path: Path, run: Run, kind: Any) -> Prepared[Any] | None:
    """Return what an earlier run kept, or None.

    Raises:
        ImageError: it left out a bad image, and this run is not to.
    """
    beside = path.with_suffix(".skipped.json")
    with suppress(NeuronsError, ModelError, OSError, ValueError):
        said = _Beside.model_validate(read_json(beside))
        if said.seal == _seal(path, said.skipped):
            kept = Prepared(kind.load(path), said.skipped)
            if said.skipped and run.on_error == "raise":
                raise bad_image(*next(iter(said.skipped.items())))
            run.tell(f"{path.parent.name}: taken from the cache, as an earlier run found them")
            return kept
    return None


def _made(path: Path, images: OpenedImages, run: Run, find: Callable[[ReadAhead], T]) -> Prepared[T]:
    """Find, and keep what was found with what was skipped for it."""
    can_keep = _can_keep(path, run)
    reading = ReadAhead(images, run)
    found: Any = find(reading)
    if can_keep:
        found.save(path)
        skipped = dict(reading.skipped)
        write_json(path.with_suffix(".skipped.json"), {"skipped": skipped, "seal": _seal(path, skipped)})
    return Prepared(found, dict(reading.skipped), can_keep)


def _seal(path: Path, skipped: dict[str, str]) -> str:
    """Return the SHA-256 of a finding's file, of its place, and of what was skipped for it."""
    place = f"{path.parent.name}/{path.name}"
    return sha256([json.dumps([place, skipped], sort_keys=True), "\n", read_bytes(path, MOST_TENSORS)])


def _can_keep(path: Path, run: Run) -> bool:
    """Return whether a finding can be kept, before the work is done.

    A folder that was named must take it. Where the user's own cache cannot be written (a container, a
    read-only home), the finding is made all the same.

    Raises:
        OutputError: the folder that was named cannot be written.
    """
    try:
        with whole_file(path.with_suffix(".writable")) as probe:
            probe.touch()
        path.with_suffix(".writable").unlink(missing_ok=True)  # of two at once, one is first
        return True
    except (OutputError, OSError):
        if run.cache is not None:
            raise
        return False


def _place(
    backbone: Backbone, arm: Arm, images: OpenedImages, run: Run, kind: str, settings: dict[str, Any]
) -> Path:
    """Return where a finding lies, its suffix aside.

    What the images are called decides as well: a finding says on what it was made, and what was left out.
    """
    run.check(backbone)
    key = cache_key(backbone, arm, Preprocessing(backbone), run.computes_on(backbone))
    seen = [images.words, *zip(images.names, images.hashes(), strict=True)]
    return run.shelves / kind / sha256_of([__version__, key, settings, seen], digits=24)
