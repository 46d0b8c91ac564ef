"""Examine an installation: what is there, what computes, and whether the instrument measures right.

Libraries are imported, every device runs the phantom, the hub's cache is looked at, and then the instrument
is calibrated as medical physics does it: on an object whose truth is known. On a few phantom images
detection must find exactly the planted neurons, and one test-time register must take the outliers' norm and
attention, each within a stated range. Where the extra ``[real]`` is installed, a real model with planted
artifacts must get its own maps back. A phantom proves the instrument, not the biology.

Nothing heavy is imported before the first check, so that a broken library is a finding, not a crash.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ttr.wording import install

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from ttr.backbones.base import Backbone

State = Literal["ok", "note", "off"]

REINSTALL = "install the tested set again: pip install -c constraints.txt ."
DISTRUST = "trust no result of this installation; report this table, and try the tested set (constraints.txt)"
IMPORTED = {"torch": "torch", "torchvision": "torchvision", "timm": "timm", "open_clip": "open_clip_torch"}
#: Distributions whose module has another name.
MODULES = {
    "pillow": "PIL",
    "open_clip_torch": "open_clip",
    "scikit-learn": "sklearn",
    "huggingface-hub": "huggingface_hub",
}
#: Extras, their modules, and what they are for.
OPTIONAL = {
    "dicom": (
        ("gdcm", "pylibjpeg", "openjpeg", "highdicom"),
        "DICOM in lossless JPEG, JPEG-LS and deep or high-throughput JPEG 2000, and DICOM out,",
    ),
    "onnx": (
        ("onnx", "onnxruntime", "onnxscript"),
        "ttr export --format onnx",
    ),
    "ray": (("ray",), "ttr embed --engine ray"),
    "samples": (("skimage",), "making the samples anew"),
    "transformers": (
        ("transformers",),
        "its vision models, rad-dino and biomedclip",
    ),
}
IMAGES = 6
ROOM = 5 * 10**9


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        group: what it belongs to.
        name: what was looked at.
        expected: what is right, as text.
        measured: what was found.
        state: ``ok``; ``note``, worth knowing but no fault; ``off``, a fault.
        advice: what to do unless it is ok.
    """

    group: str
    name: str
    expected: str
    measured: str
    state: State
    advice: str = ""


def examine() -> Iterator[Check]:
    """Yield the findings one by one. A check that fails to run is a fault that names its error."""
    for group, checks in (
        ("libraries", _libraries),
        ("devices", _devices),
        ("hub cache", _hub_cache),
        ("phantom", _phantom),
        ("phantom-dinov2", _real_phantom),
    ):
        try:
            yield from checks()
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
            yield Check(group, group, "runs", reason, "off", REINSTALL)


def _libraries() -> Iterator[Check]:
    def found(name: str, expected: str, measured: str, state: State = "ok", advice: str = "") -> Check:
        return Check("libraries", name, expected, measured, state, advice)

    recent = sys.version_info >= (3, 10)
    yield found("python", "3.10 or newer", platform.python_version(), "ok" if recent else "off", REINSTALL)
    required = _requirements()
    for module, distribution in IMPORTED.items():
        try:
            importlib.import_module(module)
            fault = next(filter(None, (_misfit(each) for each in required if each.name == distribution)), "")
            measured = fault or metadata.version(distribution)
            yield found(module, "imports", measured, "off" if fault else "ok", REINSTALL)
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
            yield found(module, "imports", reason, "off", REINSTALL)
    others = [each for each in required if each.name not in IMPORTED.values()]
    faults = [fault for requirement in others if (fault := _fault(requirement))]
    state: State = "off" if faults else "ok"
    yield found("the others", "installed", "; ".join(faults) or "yes", state, REINSTALL)
    for extra, (modules, use) in OPTIONAL.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        advice = f"needed for {use} alone: {install(extra)}"
        measured = f"missing: {', '.join(missing)}" if missing else "installed"
        yield found(f"extra {extra}", "optional", measured, "note" if missing else "ok", advice)


def _requirements() -> list[Requirement]:
    """Return what ttr itself requires, extras left out, as its installation says it."""
    from packaging.requirements import Requirement

    declared = metadata.requires("test-time-registers") or []
    found = [Requirement(line) for line in declared]
    return [each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]


def _fault(requirement: Requirement) -> str:
    """Return what is wrong with a required library, or nothing."""
    module = MODULES.get(requirement.name, requirement.name)
    try:
        misfit = _misfit(requirement)
        importlib.import_module(module)
    except Exception as error:
        return f"{requirement.name}: {type(error).__name__}"
    return misfit


def _misfit(requirement: Requirement) -> str:
    """Return which version is there and which is needed, or nothing where it fits."""
    version = metadata.version(requirement.name)
    fits = requirement.specifier.contains(version, prereleases=True)
    return "" if fits else f"{requirement.name} {version}, needed {requirement.specifier}"


def _devices() -> Iterator[Check]:
    """Run the wrapped phantom on every device that there is, and compare with the CPU."""
    import torch

    threads = torch.get_num_threads()
    expected = _wrapped_features("cpu")
    finite = bool(expected.isfinite().all())
    yield Check("devices", "cpu", "computes", f"yes, {threads} threads", "ok" if finite else "off", REINSTALL)
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    for device, available in there.items():
        if not available:
            yield Check("devices", device, "optional", "none", "ok")
            continue
        try:
            difference = float((_wrapped_features(device) - expected).abs().max())
            state: State = "ok" if difference <= 1e-2 else "off"
            measured = f"differs by {difference:.1e}"
        except Exception as error:
            state, measured = "off", f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        advice = f"use --device cpu; check the driver, and that this PyTorch was built for {device}"
        yield Check("devices", device, "cpu within 1e-2", measured, state, advice)


def _wrapped_features(device: str) -> Any:
    from ttr.backbones import load
    from ttr.datasets.phantom import phantom_image
    from ttr.registers.neurons import RegisterNeurons
    from ttr.registers.wrap import TestTimeRegisters

    backbone = load("phantom", image_size=64, device=device)
    image = backbone.preprocess(phantom_image(0).image)
    with TestTimeRegisters(backbone, RegisterNeurons.from_pairs(backbone.planted)):
        return backbone.embed(image[None]).cpu()


def _hub_cache() -> Iterator[Check]:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    files = (path for path in cache.rglob("*") if path.is_file() and not path.is_symlink())
    size = sum(path.stat().st_size for path in files)
    there = next(path for path in (cache, *cache.parents) if path.exists())
    writable = there.is_dir() and os.access(there, os.W_OK)
    move = "weights already there still load; to fetch others point HF_HOME to a folder that you may write"
    told = f"{cache}, {size / 1e9:.1f} GB" + ("" if cache.exists() else ", not made yet")
    yield Check("hub cache", "folder", "writable", told, "ok" if writable else "note", move)
    free = shutil.disk_usage(there).free
    wanted = f"{ROOM / 1e9:.0f} GB or more"
    advice = "large models may not fit; free some space, or point HF_HOME to another disk"
    yield Check(
        "hub cache", "free disk", wanted, f"{free / 1e9:.0f} GB", "ok" if free >= ROOM else "note", advice
    )


def _phantom() -> Iterator[Check]:
    """Calibrate: planted truth against what detection and one test-time register make of it."""
    from statistics import fmean

    import torch

    from ttr.backbones import load
    from ttr.datasets.phantom import phantom_images
    from ttr.registers.detection import detect
    from ttr.studies.compare.comparison import compare

    backbone = load("phantom")
    images = torch.stack([backbone.preprocess(p.image) for p in phantom_images(IMAGES)])
    planted, found = set(backbone.planted), detect(backbone, images)
    right = len(planted & set(found.pairs))
    yield _within("recall of the planted neurons", right / len(planted), 1, 1)
    yield _within("precision", right / max(len(found), 1), 1, 1)
    compared = list(compare(backbone, found, images))
    before, after = [c.before for c in compared], [c.after for c in compared]

    def mean(views: list[Any], what: str) -> float:
        return fmean(getattr(view, what) or 0 for view in views)

    yield _within("outlier patches, bare", mean(before, "outlier_patches"), 8, 8)
    yield _within("outlier patches, wrapped", mean(after, "outlier_patches"), 0, 0)
    fall = mean(after, "max_patch_norm") / mean(before, "max_patch_norm")
    yield _within("max patch norm, wrapped / bare", fall, 0.05, 0.2)
    carried = mean(after, "register_norm") / mean(before, "max_patch_norm")
    yield _within("register norm / max patch norm", carried, 0.8, 1.2)
    yield _within("max patch attention, bare", mean(before, "max_patch_attention"), 0.08, 0.16)
    yield _within("max patch attention, wrapped", mean(after, "max_patch_attention"), 0, 0.02)
    yield _within("attention to the register", mean(after, "register_attention"), 0.7, 0.95)
    yield from _equalities(backbone, images)


def _real_phantom() -> Iterator[Check]:
    """Calibrate on real weights: what the model shows without its artifacts is the truth."""
    import copy

    from ttr.backbones import load
    from ttr.backbones.phantoms.hybrid import HYBRIDS, plant_named, source_of, without_weights
    from ttr.datasets.bundled import sample_paths
    from ttr.datasets.folder import open_image
    from ttr.studies.plant.truth import show_truth, summary

    name = "phantom-dinov2"
    missing = without_weights(name)
    if missing:
        yield Check(name, "weights", "optional", "not installed", "note", missing)
        return
    original = load(HYBRIDS[name].base, weights=source_of(name), image_size=224)
    planted = plant_named(name, copy.deepcopy(original))
    images = [open_image(path) for path in sample_paths().values()]
    found = summary(show_truth(original, planted, images))
    for what, key, low, high in (
        ("images with artifacts", "with_artifacts", 2, 2),
        ("map cosine, planted", "wrecked", 0, 0.7),
        ("map cosine, one register", "restored_map", 0.98, 1),
        ("embedding cosine, one register", "restored_embedding", 0.96, 1),
        ("map and embedding, zeroed", "zeroed", 0.999, 1),
    ):
        yield replace(_within(what, round(found[key], 6), low, high), group=name)


def _equalities(backbone: Backbone, images: Any) -> Iterator[Check]:
    """Check what holds exactly: an empty wrap is the bare model, and a batch is its images."""
    import torch

    from ttr.registers.neurons import RegisterNeurons
    from ttr.registers.wrap import TestTimeRegisters

    bare = backbone.embed(images)
    with TestTimeRegisters(backbone, RegisterNeurons.from_pairs([]), num_registers=0):
        yield _within("empty wrap against bare", float((backbone.embed(images) - bare).abs().max()), 0, 0)
    with TestTimeRegisters(backbone, RegisterNeurons.from_pairs(backbone.planted)):
        alone = torch.cat([backbone.embed(image[None]) for image in images])
        difference = float((backbone.embed(images) - alone).abs().max())
    yield _within("batch against single images", difference, 0, 1e-3)
    left = float((backbone.embed(images) - bare).abs().max())
    yield _within("wrap removed against bare", left, 0, 0)


def _within(name: str, measured: float, low: float, high: float) -> Check:
    expected = f"{low:g}" if low == high else f"{low:g} .. {high:g}"
    state: State = "ok" if low <= measured <= high else "off"
    return Check("phantom", name, expected, f"{measured:.4g}", state, DISTRUST)
