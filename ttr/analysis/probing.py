"""When content can be read from a token: a linear probe at every layer and for every token.

Each probe is the same convex problem, so that layers can be compared and nothing depends on a seed: features
standardised by the training images, multinomial logistic regression with an L2 penalty of fixed strength.
The interval is Wilson's over test images (or groups). Chance is what a probe that sees nothing gets:
always saying the training images' most frequent class.

What a probe can read, the model need not use; only an intervention tells that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ttr.errors import OptionError
from ttr.statistics.estimates import Interval, share
from ttr.statistics.inference import paired_permutation
from ttr.wording import counted

STRENGTH = 0.1


def default_layers(num_layers: int, count: int = 7) -> tuple[int, ...]:
    """Return up to ``count`` layers spread evenly, first and last among them: 0,2,4,6,8,10,11 of 12.

    Raises:
        OptionError: fewer than one layer, or fewer than two to choose.
    """
    if num_layers < 1 or count < 2:
        raise OptionError(f"num_layers={num_layers}, count={count}; needed at least 1 layer and 2 to choose")
    return tuple(sorted({-(-i * (num_layers - 1) // (count - 1)) for i in range(count)}))


@dataclass(frozen=True, eq=False)
class Probe:
    """One probe: a layer and a token.

    Attributes:
        layer: index of the block whose output it read.
        token: its name, such as ``cls`` or ``register-1``.
        accuracy: share of the test images that it got right, 0..1.
        interval: of the accuracy, 95 %.
        chance: accuracy of the training images' most frequent class, 0..1.
        p: two-sided, of accuracy = chance on the same images; not corrected for the number of probes.
        correct: which test images it got right, bool [N].
    """

    layer: int
    token: str
    accuracy: float
    interval: Interval
    chance: float
    p: float
    correct: np.ndarray


def probe_layers(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    layers: Sequence[int],
    tokens: Sequence[str],
    groups: Sequence[str] | None = None,
    strength: float = STRENGTH,
    seed: int = 42,
) -> Iterator[Probe]:
    """Probe every layer and token; probes come as they are done, layer by layer.

    Args:
        train: of the training images, features float [N, L, T, D] and classes int64 [N].
        test: of the test images, [M, L, T, D] and [M].
        layers: L block indices, the second axis of both.
        tokens: T names, the third.
        groups: of the test images, each one piece of evidence.
        strength: C of the logistic regression, the inverse of its penalty.
        seed: of the permutations.

    Raises:
        OptionError: shapes that do not belong together, values that are not finite, or a single class.
    """
    (train_x, train_y), (test_x, test_y) = train, test
    _check(train, test, len(layers), len(tokens))
    classes, counts = np.unique(train_y, return_counts=True)
    if len(classes) < 2:
        raise OptionError("all training images are of one class; a probe needs two")
    guessed = np.asarray(test_y) == classes[counts.argmax()]

    def probe(i: int, j: int) -> Probe:
        predicted = _predictions(train_x[:, i, j], train_y, test_x[:, i, j], strength)
        correct = predicted == test_y
        accuracy = float(correct.mean())
        return Probe(
            layer=layers[i],
            token=tokens[j],
            accuracy=accuracy,
            interval=share(correct.astype(np.float64), groups).interval(),
            chance=float(guessed.mean()),
            p=paired_permutation(correct, guessed, groups=groups, seed=seed),
            correct=correct,
        )

    return (probe(i, j) for i in range(len(layers)) for j in range(len(tokens)))


def _check(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], layers: int, tokens: int
) -> None:
    for name, (x, y) in (("train", train), ("test", test)):
        if x.ndim != 4 or x.shape[:3] != (len(y), layers, tokens) or not len(y):
            raise OptionError(
                f"got {name} features {x.shape} with {counted(len(y), 'target')}, {layers} layers and "
                f"{tokens} tokens; needed [N, layers, tokens, D]"
            )
        if not np.isfinite(x).all():
            raise OptionError(f"{name} features hold NaN or infinite values; look for what made them")
    widths = train[0].shape[3], test[0].shape[3]
    if widths[0] != widths[1]:
        raise OptionError(
            f"got train features of width {widths[0]}, test of {widths[1]}; needed one backbone's"
        )


def _predictions(train: np.ndarray, y: np.ndarray, test: np.ndarray, strength: float) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    return model.fit(train.astype(np.float64), y).predict(test.astype(np.float64))
