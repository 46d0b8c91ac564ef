"""What a head says of an image, before and after, with a probability that means what it says.

A softmax is no probability until it was checked. The heads of a ``ttr bench`` folder come with their answers
on that folder's test images, so one temperature T is fitted to those (Guo et al. 2017, arXiv 1706.04599):

    p_T = softmax(log(p) / T),     T minimises the negative log-likelihood on the test images.

A head from a bare file has no such record, and its numbers are called uncalibrated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ttr.backbones.base import Backbone
from ttr.errors import DataError, ModelError, OptionError
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.zero_shot import class_embeddings
from ttr.studies.schemas import BENCHMARK, read_manifest
from ttr.studies.table_files import Kind, read_rows

ARM, FEATURE = "plain", "embedding"
PREFERRED = ("logistic", "linear")
ANSWERS: dict[str, Kind] = {
    **dict.fromkeys(("arm", "head", "feature", "label"), "text"),
    "seed": "number",
    "probabilities": "numbers",
}


@dataclass(frozen=True, eq=False)
class Reader:
    """A head with what is known of its probabilities.

    Attributes:
        head: trained on the bare model's features, as a deployed one is.
        name: what to call it.
        temperature: T of the module's formula, 1 where nothing is known.
        calibrated_on: how many images T was fitted on; 0: none, so the probabilities are uncalibrated.
        weights_hash: of the backbone that it belongs to, or None.
        pooling: what that backbone's own feature was, in a word; "": before results said so, CLS wherever
            there was one; None: not known.
    """

    head: LinearHead
    name: str
    temperature: float = 1.0
    calibrated_on: int = 0
    weights_hash: str | None = None
    pooling: str | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, or their numbers."""
        return self.head.classes or tuple(f"class {index}" for index in range(len(self.head.bias)))

    def fits(self, backbone: Backbone, features: int) -> bool:
        """Return whether the head belongs to a backbone whose features have that many numbers."""
        known = self.weights_hash in (None, backbone.weights_hash)
        pooled = self.pooling in (None, backbone.pooling) or (not self.pooling and not backbone.beside_cls)
        return known and pooled and self.head.weight.shape[1] == features

    def probabilities(self, feature: np.ndarray) -> np.ndarray:
        """Return the probability of each class, float64 [C], of a feature [D]."""
        with torch.no_grad():
            logits = self.head.logits(torch.from_numpy(feature)[None]).double()[0]
        return torch.softmax(logits / self.temperature, dim=0).numpy()


@dataclass(frozen=True, eq=False)
class TextReader:
    """Texts as classes for a CLIP model: p = softmax(exp(logit_scale) cos(feature, w_c)), or a sigmoid each.

    Radford et al. (2021); with a ``logit_bias``, Zhai et al. (2023): see :mod:`ttr.evaluate.zero_shot`.

    Attributes:
        classes: the texts.
        words: their unit vectors, float32 [C, D].
        scale: exp(logit_scale).
        bias: logit_bias, or None.
    """

    classes: tuple[str, ...]
    words: np.ndarray
    scale: float
    bias: float | None = None

    def probabilities(self, feature: np.ndarray) -> np.ndarray:
        """Return the probability of each text, float64 [C], of a feature [D]."""
        x = feature.astype(np.float64)
        logits = torch.from_numpy(self.scale * (self.words.astype(np.float64) @ x) / np.linalg.norm(x))
        return (logits.softmax(dim=0) if self.bias is None else (logits + self.bias).sigmoid()).numpy()


@torch.no_grad()
def read_classes(backbone: Backbone, texts: Sequence[str]) -> TextReader:
    """Return texts as a CLIP model's classes.

    Raises:
        ModelError: no text tower, or no tokenizer that fits it.
        OptionError: fewer than two texts, or texts that cannot be used.
    """
    if len(texts) < 2:
        raise OptionError("one text is no choice; type two or more answers, separated by commas")
    words = class_embeddings(backbone, texts, templates=["{}"])
    model: Any = backbone.model
    bias = getattr(model, "logit_bias", None)
    return TextReader(
        tuple(texts),
        words.cpu().numpy(),
        float(model.logit_scale.exp()),
        None if bias is None else float(bias),
    )


def fitting(heads: Iterable[Reader], backbone: Backbone, features: int) -> Reader | None:
    """Return the first head that fits a backbone whose features have that many numbers, or None."""
    return next((head for head in heads if head.fits(backbone, features)), None)


def read_head(file: Path) -> Reader:
    """Return the head of a file, uncalibrated.

    Raises:
        ModelError: no such file, or no linear head.
    """
    return Reader(LinearHead.load(file), file.stem)


def read_bench_head(folder: Path) -> Reader | None:
    """Return the deployed head of a ``ttr bench`` folder, calibrated on its test images; None without one.

    Raises:
        DataError: the folder's tables cannot be read.
    """
    try:
        manifest = read_manifest(folder, BENCHMARK)
        found = _first_head(manifest)
        if found is None:
            return None
        file, kind, seed = found
        head = LinearHead.load(folder / file)
        probabilities, targets = _answers(folder / "predictions.parquet", kind, seed, head.classes or ())
        backbone = manifest["provenance"]["backbone"]
        belongs = (backbone["weights_hash"], str(backbone.get("pooling", "")))
    except (ValueError, KeyError, DataError, ModelError) as error:
        why = " ".join(str(error).split())[:300]
        raise DataError(f"the heads of {folder.name} cannot be read; run ttr bench again ({why})") from error
    temperature = fitted_temperature(probabilities, targets)
    return Reader(head, f"{kind} head of {folder.name}", temperature, len(targets), *belongs)


def fitted_temperature(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return T of the module's formula, between 0.05 and 20."""
    from scipy.optimize import minimize_scalar

    logits = torch.from_numpy(np.log(np.clip(probabilities, 1e-12, 1)))
    truth = torch.from_numpy(np.asarray(targets))

    def loss(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / np.exp(log_temperature), truth))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def _first_head(manifest: dict[str, Any]) -> tuple[str, str, int] | None:
    for kind in PREFERRED:
        start = f"head-{ARM}-0-{FEATURE}-{kind}-"
        for file in manifest["files"]:
            if file.startswith(start):
                return file, kind, int(file.removeprefix(start).removesuffix(".safetensors"))
    return None


def _answers(table: Path, kind: str, seed: int, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    rows = read_rows(table, ANSWERS, "ttr bench")
    own = rows[(rows.arm == ARM) & (rows["head"] == kind) & (rows.seed == seed) & (rows.feature == FEATURE)]
    targets = np.array([classes.index(label) for label in own.label])
    found = np.stack(own.probabilities.to_list()).astype(float)
    if found.shape[1] != len(classes) or not ((found >= 0) & (found <= 1)).all():
        raise ValueError("no probability of each class in every row")
    return found, targets
