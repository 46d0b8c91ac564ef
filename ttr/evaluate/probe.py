"""Linear heads on frozen features: the seed paper's probe to the letter, and logistic regression beside it.

The first is Kukade and Bansal's (2025): AdamW (learning rate 1e-3, weight decay 0.05), a cosine to 1e-4 over
50 epochs, batches of 32, gradients clipped to norm 1, the epoch with the lowest validation loss kept. The
second is convex, so that its result depends on no seed, order or schedule: standardised features, L2 penalty,
its strength C chosen by validation loss. Where the two disagree, the optimiser speaks and not the features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ttr.datasets.registry import Dataset, Item, Split
from ttr.errors import OptionError
from ttr.evaluate.head_names import NAMES
from ttr.evaluate.heads import LinearHead
from ttr.threads import one_thread

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

STRENGTHS = tuple(float(c) for c in 10.0 ** np.arange(-4, 3))


@dataclass(frozen=True, eq=False)
class Labelled:
    """Features with their classes.

    Attributes:
        x: float32 [N, D].
        y: int64 [N], 0..C-1.
    """

    x: np.ndarray
    y: np.ndarray

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or self.y.shape != self.x.shape[:1] or not len(self.y):
            raise OptionError(
                f"got features {self.x.shape} and targets {self.y.shape}; needed [N, D] and [N], N >= 1"
            )
        if not np.isfinite(self.x).all():
            raise OptionError("features hold NaN or infinite values; look for the images that made them")


def labelled(dataset: Dataset, items: Sequence[Item], x: np.ndarray, split: Split) -> Labelled:
    """Return the vectors [N, D] of those items that are of a split, with their classes."""
    chosen = [index for index, item in enumerate(items) if item.split == split]
    return Labelled(x[chosen], dataset.targets(items[index] for index in chosen))


@dataclass(frozen=True)
class Recipe:
    """How the linear probe is trained.

    Attributes:
        epochs: passes over the training vectors.
        batch_size: vectors a step.
        learning_rate: at the start.
        final_rate: at the end of the cosine.
        weight_decay: of AdamW.
        clip: largest norm of a step's gradient.
    """

    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 1e-3
    final_rate: float = 1e-4
    weight_decay: float = 0.05
    clip: float = 1.0


PUBLISHED = Recipe()


def train_linear(
    train: Labelled,
    val: Labelled,
    classes: tuple[str, ...],
    *,
    seed: int = 42,
    recipe: Recipe = PUBLISHED,
) -> LinearHead:
    """Train the published probe; see the module. The same seed gives the same head on the same machine.

    Args:
        train: what it learns from.
        val: what chooses the epoch.
        classes: C names.
        seed: of the initial weights and of the order of the images.
        recipe: how it is trained.
    """
    # Steps this small gain nothing from more threads, and the result then depends on no machine's cores.
    with one_thread():
        weight, bias = _descend(train, val, len(classes), torch.Generator().manual_seed(seed), recipe)
    return LinearHead(weight, bias, classes)


def _descend(
    train: Labelled,
    val: Labelled,
    classes: int,
    generator: torch.Generator,
    recipe: Recipe,
) -> tuple[Tensor, Tensor]:
    """Return the weight and bias of the epoch with the lowest validation loss."""
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    val_x, val_y = torch.from_numpy(val.x), torch.from_numpy(val.y)
    bound = x.shape[1] ** -0.5
    weight = nn.Parameter((2 * torch.rand(classes, x.shape[1], generator=generator) - 1) * bound)
    bias = nn.Parameter((2 * torch.rand(classes, generator=generator) - 1) * bound)
    optimiser = torch.optim.AdamW([weight, bias], lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs, recipe.final_rate)
    best, kept = float("inf"), (weight.detach().clone(), bias.detach().clone())
    for _ in range(recipe.epochs):
        for chosen in torch.randperm(len(x), generator=generator).split(recipe.batch_size):
            loss = nn.functional.cross_entropy(x[chosen] @ weight.T + bias, y[chosen])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([weight, bias], recipe.clip)
            optimiser.step()
        schedule.step()
        with torch.no_grad():
            found = float(nn.functional.cross_entropy(val_x @ weight.T + bias, val_y))
        if found < best:
            best, kept = found, (weight.detach().clone(), bias.detach().clone())
    return kept


def train_logistic(train: Labelled, val: Labelled, classes: tuple[str, ...], *, seed: int = 42) -> LinearHead:
    """Fit L2-penalised logistic regression on standardised features; validation loss chooses its C.

    The standardisation (mean and SD of ``train``) is folded into the head, which takes raw features.

    Args:
        train: what it learns from; every class must be in it.
        val: what chooses C.
        classes: C names.
        seed: without effect, since the problem is convex; there so that all heads are called alike.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.preprocessing import StandardScaler

    missing = sorted(set(range(len(classes))) - set(train.y.tolist()))
    if missing:
        raise OptionError(
            f"class {classes[missing[0]]!r} has no image among the {len(train.y)} to train on; add one, take "
            "more of them (a sample may leave a class out), or leave the class out"
        )
    scaler = StandardScaler().fit(train.x.astype(np.float64))
    x, val_x = (scaler.transform(part.x.astype(np.float64)) for part in (train, val))
    best, kept = float("inf"), None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit(x, train.y)
        found = log_loss(val.y, model.predict_proba(val_x), labels=range(len(classes)))
        if found < best:
            best, kept = found, model
    assert kept is not None
    return on_raw_features(kept, scaler, classes)


def on_raw_features(
    model: LogisticRegression, scaler: StandardScaler, classes: tuple[str, ...]
) -> LinearHead:
    """Return the head that on raw features says what a logistic regression says on standardised ones."""
    coefficients, intercept = model.coef_, model.intercept_
    if len(intercept) == 1:
        # scikit-learn keeps one row for two classes: the margin, which is the difference of two logits.
        coefficients = np.vstack([-coefficients, coefficients]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    weight = coefficients / scaler.scale_
    bias = intercept - weight @ scaler.mean_
    return LinearHead(_tensor(weight), _tensor(bias), classes)


def probabilities(head: LinearHead, x: np.ndarray) -> np.ndarray:
    """Return the softmax of a head's logits in float64, [N, D] -> [N, C]."""
    # Waking more threads takes longer than so small a product, and one thread rounds alike on every machine.
    with torch.no_grad(), one_thread():
        logits = head.logits(torch.from_numpy(x)).double()
        return torch.softmax(logits, dim=1).numpy()


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()


HEADS: dict[str, Callable[..., LinearHead]] = dict(zip(NAMES, (train_linear, train_logistic), strict=True))
