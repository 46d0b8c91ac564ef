"""The study's numbers as tables, every one with its interval over images (over groups where there are some).

``integration.csv``, a row a backbone, block, number of registers and part:

    backbone, block, num_registers, part (patches | registers | cls | skip)
    cka                 linear CKA of the feature made of the part alone with the model's own
    ci_low, ci_high     its 95 % bootstrap interval over images (all others: Wilson's or Student's)
    cosine              mean over images of the cosine of the two, as published
    attention_share     attention of CLS to the part, mean of heads and images, 0..1 (empty for skip)
    norm                length of the part's contribution to CLS in the block, mean over images
    cosine_low, cosine_high   95 % interval of the cosine
    centred             mean cosine of the two less their means; of patches: the map's faithfulness
    centred_low, centred_high   its 95 % interval
    null                mean plain cosine of the feature with what other images' (other patients') part makes
    own                 mean share of these whose part fits the centred feature less than the image's own
    attended_cka, attended_cka_low, attended_cka_high   CKA of what attention alone gives CLS, of the part
                        with of all tokens: without skip connection, MLP and norm on either side
    attended_cosine, attended_cosine_low, attended_cosine_high   cosine of the two, mean over images
    share_without_cls   attention of CLS to the part, of that to patches and registers together: each image's
                        two add up to one (empty for cls and skip, and without registers)
    share_without_cls_low, share_without_cls_high   its 95 % interval
    norm_low, norm_high   that of norm
    agreement, deletion of patches in the last block, :mod:`ttr.analysis.which_patches`; else empty
    cka_debiased        the debiased CKA; trust it rather where images are fewer than dimensions
    images, dimensions, parameters   how many: images, dimensions of CLS, parameters of the model

Zero registers are the bare model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ttr.analysis.integration import PARTS
from ttr.analysis.reference import among
from ttr.analysis.similarity import FEWEST, TILE, StreamingCKA, cka_interval
from ttr.backbones.base import Backbone
from ttr.evaluate.oneshot import oneshot
from ttr.evaluate.probe import Labelled, probabilities, train_logistic
from ttr.statistics.contrasts import contrast, level
from ttr.statistics.estimates import Interval
from ttr.statistics.inference import resample_weights
from ttr.statistics.verdict import Judged, judge
from ttr.studies.integrate.parts import ATTENDED, PartSamples, Place
from ttr.studies.integrate.token_tables import shares_without_cls

DRAWS = 100
NAN = float("nan")
Groups = Sequence[str] | None


def integration_table(
    found: PartSamples, backbone: Backbone, *, groups: Groups = None, seed: int = 42
) -> pd.DataFrame:
    """Return the rows of ``integration.csv``; see the module for the columns."""
    weights = resample_weights(found.images, groups=groups, seed=seed)
    parameters = sum(p.numel() for p in backbone.sites.tower.parameters())
    rows = []
    for (registers, block, part), numbers in found.numbers.items():
        x = found.vectors[registers, block, part]
        full = found.vectors[registers, found.layers - 1, "full"]
        cka, debiased, interval = _cka(x, full, weights)
        cosine = level(numbers["cosine"], groups=groups)
        share = numbers.get("attention_share")
        attended = _attended(found, (registers, block, part), weights, groups)
        others = among(x, full, groups)
        centred = level(others["centred"], groups=groups)
        rows.append(
            {
                "backbone": backbone.name,
                "block": block,
                "num_registers": registers,
                "part": part,
                "cka": cka,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "cosine": cosine[0],
                "attention_share": NAN if share is None else float(share.mean()),
                "norm": float(numbers["norm"].mean()),
                "cosine_low": cosine[1].low,
                "cosine_high": cosine[1].high,
                "cka_debiased": debiased,
                "centred": centred[0],
                "centred_low": centred[1].low,
                "centred_high": centred[1].high,
                "null": _mean_of_known(others["null"]),
                "own": _mean_of_known(others["own"]),
                **attended,
                **_share_and_norm(found, (registers, block, part), groups),
                "agreement": _mean_of_known(numbers.get("agreement")),
                "deletion": _mean_of_known(numbers.get("deletion")),
                "images": found.images,
                "dimensions": x.shape[1],
                "parameters": parameters,
            }
        )
    table = pd.DataFrame(rows)
    table["order"] = [PARTS.index(part) for part in table.part]
    return table.sort_values(["block", "num_registers", "order"], ignore_index=True).drop(columns="order")


def _attended(found: PartSamples, place: Place, weights: np.ndarray, groups: Groups) -> dict[str, float]:
    """Return how what attention alone gives CLS of a part compares with what it gives of all, as columns."""
    registers, block, part = place
    x = found.vectors.get((registers, block, f"{ATTENDED}{part}"))
    nothing = Interval(NAN, NAN, "no attention")
    (cka, _, around), (cosine, interval) = (NAN, NAN, nothing), (NAN, nothing)
    if x is not None:
        cka, _, around = _cka(x, found.vectors[registers, block, f"{ATTENDED}full"], weights)
        cosine, interval = level(found.numbers[place]["attended_cosine"], groups=groups)
    return {
        "attended_cka": cka,
        "attended_cka_low": around.low,
        "attended_cka_high": around.high,
        "attended_cosine": cosine,
        "attended_cosine_low": interval.low,
        "attended_cosine_high": interval.high,
    }


def _share_and_norm(found: PartSamples, place: Place, groups: Groups) -> dict[str, float]:
    """Return the share of a part without CLS, and how sure its norm is, as columns."""
    registers, block, part = place
    share = shares_without_cls(found, registers, block).get(part)
    value, around = NAN, Interval(NAN, NAN, "no registers beside patches")
    if share is not None:
        value, around = level(share, groups=groups, shares=True)
    _, norm = level(found.numbers[place]["norm"], groups=groups)
    return {
        "share_without_cls": value,
        "share_without_cls_low": around.low,
        "share_without_cls_high": around.high,
        "norm_low": norm.low,
        "norm_high": norm.high,
    }


def _cka(x: np.ndarray, full: np.ndarray, weights: np.ndarray) -> tuple[float, float, Interval]:
    if len(x) < FEWEST:
        return NAN, NAN, Interval(NAN, NAN, f"needs {FEWEST} images")
    streaming = StreamingCKA()
    for start in range(0, len(x), TILE):
        streaming.add(np.array(x[start : start + TILE]), np.array(full[start : start + TILE]))
    value = streaming.value()
    return value, streaming.value(debiased=True), cka_interval(x, full, weights, value)


def _mean_of_known(values: np.ndarray | None) -> float:
    known = np.array([]) if values is None else values[np.isfinite(values)]
    return float(known.mean()) if len(known) else NAN


def changes_table(
    found: PartSamples, backbone: Backbone, *, groups: Groups = None, seed: int = 42
) -> pd.DataFrame:
    """Return how the map's faithfulness with R registers differs from the bare model's, image by image.

    Columns: backbone, block, num_registers, difference, ci_low, ci_high, p (paired, sign flips), images,
    and those of :class:`ttr.statistics.verdict.Judged`; all rows are one family, and the margin of
    equivalence is .01 of the cosine. Empty without the bare model.
    """
    rows, found_changes = [], []
    for registers, block, part in found.numbers:
        if part != "patches" or not registers or (0, block, part) not in found.numbers:
            continue
        amounts = [_amount(found, (r, block, part)) for r in (registers, 0)]
        change = contrast([(1, amounts[0]), (-1, amounts[1])], groups=groups, seed=seed)
        rows.append(
            {
                "backbone": backbone.name,
                "block": block,
                "num_registers": registers,
                "difference": change.value,
                "ci_low": change.interval.low,
                "ci_high": change.interval.high,
                "p": change.p,
                "images": change.n,
            }
        )
        found_changes.append(change)
    columns = ("backbone", "block", "num_registers", "difference", "ci_low", "ci_high", "p", "images")
    judged = pd.DataFrame([each.columns() for each in judge(found_changes)], columns=list(Judged().columns()))
    table = pd.DataFrame(rows, columns=columns).join(judged)
    return table.sort_values(["block", "num_registers"], ignore_index=True)


def _amount(found: PartSamples, place: Place) -> np.ndarray:
    """Return each image's faithfulness: the centred cosine, or where images are too few the plain one."""
    full = found.vectors[place[0], found.layers - 1, "full"]
    centred = among(found.vectors[place], full)["centred"]
    return found.numbers[place]["cosine"] if np.isnan(centred).all() else centred


def layers_table(
    found: PartSamples, backbone: Backbone, *, groups: Groups = None, seed: int = 42
) -> pd.DataFrame:
    """Return the cosine of CLS behind each block with CLS behind the last: backbone, num_registers, block,
    cosine, ci_low, ci_high."""
    rows = []
    for registers, cosines in found.cls_cosines.items():
        for block, values in enumerate(cosines.T):
            value, interval = level(values, groups=groups)
            rows.append((backbone.name, registers, block, value, interval.low, interval.high))
    return pd.DataFrame(rows, columns=["backbone", "num_registers", "block", "cosine", "ci_low", "ci_high"])


def accuracy_table(
    found: PartSamples,
    backbone: Backbone,
    train: dict[int, Labelled],
    labels: np.ndarray,
    classes: tuple[str, ...],
    *,
    groups: Groups = None,
    train_groups: Groups = None,
    seed: int = 42,
) -> pd.DataFrame:
    """Return how well heads made on the full feature read the features that are made of one part alone.

    One-shot: one full feature of a training image a class, in :data:`DRAWS` draws. Probe: logistic regression
    on the full features of the training images; a fifth of each class, in whole groups, chooses its strength.

    Args:
        found: measured on the test images.
        backbone: as measured.
        train: {number of registers: full features of the training images}.
        labels: classes of the test images, int [images].
        classes: their names.
        groups: of the test images.
        train_groups: of the training images.
        seed: of the draws.

    Returns:
        Columns: backbone, block, num_registers, part (full: nothing left out), task (one-shot | probe),
        accuracy, ci_low, ci_high, images.
    """
    heads = {
        registers: train_logistic(*_fifths(known, train_groups), classes)
        for registers, known in train.items()
    }
    rows = []
    for (registers, block, part), vectors in found.vectors.items():
        if part not in (*PARTS, "full"):
            continue
        x = np.array(vectors)
        tasks = {
            "one-shot": oneshot(train[registers], Labelled(x, labels), draws=DRAWS, seed=seed),
            "probe": (probabilities(heads[registers], x).argmax(axis=1) == labels).astype(float),
        }
        for task, right in tasks.items():
            value, interval = level(right, groups=groups, shares=True)
            place = (backbone.name, block, registers, part, task)
            rows.append((*place, value, interval.low, interval.high, found.images))
    columns = [
        "backbone",
        "block",
        "num_registers",
        "part",
        "task",
        "accuracy",
        "ci_low",
        "ci_high",
        "images",
    ]
    return pd.DataFrame(rows, columns=columns)


def _fifths(known: Labelled, groups: Groups) -> tuple[Labelled, Labelled]:
    """Split off the last fifth of each class to choose by, in whole groups (patients).

    From the last group on, one is held where a class of it still lacks some; no class is held as a whole.
    """
    member = np.arange(len(known.y)) if groups is None else np.unique(groups, return_inverse=True)[1]
    counts = np.bincount(known.y)
    wanted = np.where(counts > 1, np.maximum(1, counts // 5), 0)
    held = np.zeros(len(known.y), dtype=bool)
    for group in dict.fromkeys(member[::-1].tolist()):
        rows = member == group
        before, behind = (np.bincount(known.y[part], minlength=len(counts)) for part in (held, held | rows))
        if (before < wanted)[known.y[rows]].any() and (behind < counts)[counts > 0].all():
            held |= rows
    if not held.any():
        return known, known
    return Labelled(known.x[~held], known.y[~held]), Labelled(known.x[held], known.y[held])
