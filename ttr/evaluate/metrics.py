"""The benchmark's metrics, from class probabilities, through scikit-learn where it has them.

A metric that is not defined on the images at hand is NaN with its reason, never a number and never an
exception. The names are those of ``results.csv``:

    top1, top3            share of images whose class is the best, among the best three
    f1_macro, precision_macro, recall_macro   mean over the classes; a class never predicted counts 0
    auc_ovr               mean over the classes of the one-versus-rest area under the ROC curve
    balanced_accuracy     mean recall over the classes that the images have
    qwk                   quadratic weighted kappa (Cohen 1968), for ordinal classes alone
    ece                   expected calibration error, 15 equal bins of confidence (Guo et al. 2017)
    brier                 mean squared distance from the one-hot truth, 0..2 (Brier 1950)

scikit-learn is imported when a metric is computed: whoever finds the numbers in the cache needs none of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ttr.errors import OptionError

BINS = 15


@dataclass(frozen=True)
class Metric:
    """A value, or the reason why there is none.

    Attributes:
        name: one of :data:`METRICS`.
        value: the metric, NaN where it is not defined.
        reason: why it is NaN, else empty.
    """

    name: str
    value: float
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a head said of some images.

    Attributes:
        targets: int64 [N], 0..C-1.
        probabilities: float64 [N, C], each row a distribution.
        ordinal: whether the classes are grades in order.

    Raises:
        OptionError: shapes do not match, a target is out of range, or a row is no distribution.
    """

    targets: np.ndarray
    probabilities: np.ndarray
    ordinal: bool = False

    def __post_init__(self) -> None:
        y, p = self.targets, self.probabilities
        if p.ndim != 2 or y.shape != p.shape[:1] or not len(y):
            raise OptionError(
                f"got targets {y.shape} and probabilities {p.shape}; needed [N] and [N, C], N >= 1"
            )
        if y.min() < 0 or y.max() >= p.shape[1]:
            raise OptionError(f"targets reach from {y.min()} to {y.max()}; needed 0..{p.shape[1] - 1}")
        if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(axis=1), 1, atol=1e-5)):
            raise OptionError("probabilities must be >= 0 and sum to 1 in each row")

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each image, int64 [N]."""
        return self.probabilities.argmax(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """Whether that is its class, bool [N]."""
        return self.predicted == self.targets

    def take(self, chosen: np.ndarray) -> Predictions:
        """Return the predictions for some images, by index or as a mask."""
        return Predictions(self.targets[chosen], self.probabilities[chosen], self.ordinal)


class Undefined(Exception):  # noqa: N818
    """Carries the reason why a metric has no value."""


def ranks(found: Predictions) -> np.ndarray:
    """Return at which place each image's own class stands, int64 [N], 0 the best; ties by class index."""
    p, y = found.probabilities, found.targets
    own = p[np.arange(len(y)), y][:, None]
    ahead = np.arange(p.shape[1]) < y[:, None]
    return ((p > own) | ((p == own) & ahead)).sum(axis=1)


def squared_distances(found: Predictions) -> np.ndarray:
    """Return each image's squared distance from its one-hot truth, float64 [N]."""
    truth = np.eye(found.probabilities.shape[1])[found.targets]
    return ((found.probabilities - truth) ** 2).sum(axis=1)


def bins(found: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's confidence bin, int64 [N], and its correctness minus confidence, float64 [N]."""
    confidence = found.probabilities.max(axis=1)
    return np.minimum((confidence * BINS).astype(int), BINS - 1), found.correct - confidence


def require_defined(name: str, found: Predictions) -> None:
    """Raise Undefined where a metric makes no sense for these classes, whatever the images."""
    classes = found.probabilities.shape[1]
    if name == "top3" and classes <= 3:
        raise Undefined(f"top 3 of {classes} classes is always right")
    if name == "qwk" and not found.ordinal:
        raise Undefined("the classes are not ordinal")


def _top1(found: Predictions) -> float:
    from sklearn.metrics import accuracy_score

    return accuracy_score(found.targets, found.predicted)


def _macro(score: str, found: Predictions) -> float:
    from sklearn import metrics as sk

    labels = range(found.probabilities.shape[1])
    options = {"labels": labels, "average": "macro", "zero_division": 0}
    return getattr(sk, f"{score}_score")(found.targets, found.predicted, **options)


def _auc_ovr(found: Predictions) -> float:
    from sklearn.metrics import roc_auc_score

    areas = []
    for label in range(found.probabilities.shape[1]):
        truth = found.targets == label
        if truth.all() or not truth.any():
            raise Undefined(f"class {label} has {'every' if truth.any() else 'no'} test image")
        areas.append(roc_auc_score(truth, found.probabilities[:, label]))
    return float(np.mean(areas))


def _balanced_accuracy(found: Predictions) -> float:
    from sklearn.metrics import balanced_accuracy_score

    with warnings.catch_warnings():
        # A predicted class without images is said; here it is a wrong answer like any other.
        warnings.simplefilter("ignore", UserWarning)
        return balanced_accuracy_score(found.targets, found.predicted)


def _qwk(found: Predictions) -> float:
    from sklearn.metrics import cohen_kappa_score

    if len({*found.targets, *found.predicted}) < 2:
        raise Undefined("only one class is there, in truth and prediction")
    labels = range(found.probabilities.shape[1])
    return cohen_kappa_score(found.targets, found.predicted, labels=labels, weights="quadratic")


def _ece(found: Predictions) -> float:
    place, gap = bins(found)
    return np.abs(np.bincount(place, gap, BINS)).sum() / len(place)


_FUNCTIONS: dict[str, Callable[[Predictions], float]] = {
    "top1": _top1,
    "top3": lambda found: (ranks(found) < 3).mean(),
    "f1_macro": partial(_macro, "f1"),
    "precision_macro": partial(_macro, "precision"),
    "recall_macro": partial(_macro, "recall"),
    "auc_ovr": _auc_ovr,
    "balanced_accuracy": _balanced_accuracy,
    "qwk": _qwk,
    "ece": _ece,
    "brier": lambda found: squared_distances(found).mean(),
}
METRICS: tuple[str, ...] = tuple(_FUNCTIONS)


def metric(name: str, found: Predictions) -> Metric:
    """Return one metric of :data:`METRICS`.

    Raises:
        OptionError: there is no such metric.
    """
    check_name(name)
    try:
        require_defined(name, found)
        return Metric(name, float(_FUNCTIONS[name](found)))
    except Undefined as reason:
        return Metric(name, float("nan"), str(reason))


def check_name(name: str) -> None:
    """Raise OptionError unless ``name`` is one of :data:`METRICS`."""
    if name not in METRICS:
        raise OptionError(f"metric {name!r} is not known; needed one of {', '.join(METRICS)}")


def confusion(found: Predictions) -> np.ndarray:
    """Return the confusion matrix, int64 [C, C]: rows are the truth, columns the predictions."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(found.targets, found.predicted, labels=range(found.probabilities.shape[1]))
