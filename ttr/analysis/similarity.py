"""Linear CKA: whether two features arrange the same images alike (Kornblith et al. 2019, arXiv 1905.00414).

With features X [n, d1] and Y [n, d2] of the same n images, mean-centred, and K = X X^T, L = Y Y^T,

    CKA(X, Y) = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)),     HSIC(K, L) = tr(K L) = ||Y^T X||_F^2,

0..1, unchanged by rotation and isotropic scaling of either side. With fewer images than the features have
dimensions it is biased upwards: two independent features come out far from 0. The debiased estimator takes
Song et al.'s (2012) unbiased HSIC, which leaves out every image's pair with itself; it may be negative.

:class:`StreamingCKA` takes the images in batches and keeps moments in float64 (two squared widths), so its
memory does not depend on their number. The bootstrap resamples images. Copies of one image are no pair of
images: counted as such they would raise every resample above the sample itself, so their pairs are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ttr.errors import OptionError
from ttr.statistics.estimates import Interval
from ttr.statistics.inference import bootstrap_interval
from ttr.wording import counted

TILE = 512
FEWEST = 4


def linear_cka(x: np.ndarray | Tensor, y: np.ndarray | Tensor, *, debiased: bool = False) -> float:
    """Return the linear CKA of two features of the same images.

    Args:
        x: [n, d1], any floating-point type.
        y: [n, d2].
        debiased: take the unbiased estimator of HSIC.

    Returns:
        0..1 (debiased: up to 1, around 0 for unrelated features); NaN where one side is the same everywhere.

    Raises:
        OptionError: numbers of images differ, there are fewer than four, or values are not finite.
    """
    a, b = _checked(x, y)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    k, l = a @ a.T, b @ b.T  # noqa: E741
    if debiased:
        np.fill_diagonal(k, 0)
        np.fill_diagonal(l, 0)
        return _ratio(_unbiased(k, l), _unbiased(k, k), _unbiased(l, l))
    return _ratio(float((k * l).sum()), float((k * k).sum()), float((l * l).sum()))


def _unbiased(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    """Return HSIC_1 of two Gram matrices with zero diagonals, but for the factor 1 / (n (n - 3))."""
    n = len(k)
    sums = k.sum() * l.sum() / (n - 1) / (n - 2) - 2 * (k.sum(axis=0) @ l.sum(axis=0)) / (n - 2)
    return float((k * l).sum() + sums)


def _ratio(both: float, first: float, second: float) -> float:
    scale = first * second
    return both / math.sqrt(scale) if first > 0 and second > 0 and scale > 0 else float("nan")


def _checked(x: np.ndarray | Tensor, y: np.ndarray | Tensor) -> tuple[np.ndarray, np.ndarray]:
    a, b = (np.asarray(part.detach().cpu().double() if isinstance(part, Tensor) else part) for part in (x, y))
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
        raise OptionError(f"got features of shapes {a.shape} and {b.shape}; needed [n, d1] and [n, d2]")
    if len(a) < FEWEST:
        raise OptionError(f"CKA of {counted(len(a), 'image')}; needed {FEWEST} or more")
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise OptionError("features hold NaN or infinite values; look for the images that made them")
    return a, b


class _Moments:
    """Sums over images of one pair of features, about the mean of the first batch; float64."""

    def __init__(self, widths: tuple[int, int]) -> None:
        first, second = widths
        self.products = torch.zeros(first, second, dtype=torch.float64)
        self.squares = torch.zeros((), dtype=torch.float64)
        self.by_square = [torch.zeros(width, dtype=torch.float64) for width in widths]

    def add(self, x: Tensor, y: Tensor) -> None:
        norms = x.square().sum(dim=1), y.square().sum(dim=1)
        self.products += x.T @ y
        self.squares += norms[0] @ norms[1]
        self.by_square[0] += norms[1] @ x
        self.by_square[1] += norms[0] @ y

    def hsic(
        self, n: int, sums: tuple[Tensor, Tensor], squares: tuple[Tensor, Tensor], debiased: bool
    ) -> float:
        """Return HSIC but for its factor; for the debiased one all is expanded in sums over images."""
        sx, sy = sums
        if not debiased:
            return float((self.products - sx[:, None] * sy / n).square().sum())
        pairs = self.products.square().sum() - self.squares
        rows = sx @ self.products @ sy - self.by_square[0] @ sx - self.by_square[1] @ sy + self.squares
        totals = (sx @ sx - squares[0]) * (sy @ sy - squares[1])
        return float(pairs + totals / (n - 1) / (n - 2) - 2 * rows / (n - 2))


class StreamingCKA:
    """Linear CKA over any number of images, batch by batch.

    Example:
        >>> cka = StreamingCKA()
        >>> for x, y in batches:
        ...     cka.add(x, y)
        >>> cka.value()
    """

    def __init__(self) -> None:
        self.images = 0
        self._shift: tuple[Tensor, Tensor] | None = None

    def add(self, x: np.ndarray | Tensor, y: np.ndarray | Tensor) -> None:
        """Add a batch of images, [b, d1] and [b, d2].

        Raises:
            OptionError: numbers of images differ, or widths differ from the batch before.
        """
        a, b = (torch.as_tensor(part).detach().cpu().double() for part in (x, y))
        if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
            raise OptionError(f"got features of shapes {tuple(a.shape)} and {tuple(b.shape)}; needed [b, d]")
        if not len(a):
            return
        if self._shift is None:
            self._shift = a.mean(dim=0), b.mean(dim=0)
            widths = a.shape[1], b.shape[1]
            self._sums = [torch.zeros(width, dtype=torch.float64) for width in widths]
            self._squares = [torch.zeros((), dtype=torch.float64) for _ in widths]
            pairs = {"xy": widths, "xx": (widths[0],) * 2, "yy": (widths[1],) * 2}
            self._moments = {name: _Moments(pair) for name, pair in pairs.items()}
        given, known = (a.shape[1], b.shape[1]), tuple(len(part) for part in self._shift)
        if given != known:
            raise OptionError(f"got features of widths {given}; the batches before had {known}")
        a, b = a - self._shift[0], b - self._shift[1]
        self.images += len(a)
        for index, part in enumerate((a, b)):
            self._sums[index] += part.sum(dim=0)
            self._squares[index] += part.square().sum()
        for name, pair in (("xy", (a, b)), ("xx", (a, a)), ("yy", (b, b))):
            self._moments[name].add(*pair)

    def value(self, *, debiased: bool = False) -> float:
        """Return the CKA of all images so far; see :func:`linear_cka`.

        Raises:
            OptionError: fewer than four images.
        """
        if self.images < FEWEST:
            raise OptionError(f"CKA of {counted(self.images, 'image')}; needed {FEWEST} or more")
        found = []
        for name in ("xy", "xx", "yy"):
            places = ["xy".index(letter) for letter in name]
            sums, squares = ((part[places[0]], part[places[1]]) for part in (self._sums, self._squares))
            found.append(self._moments[name].hsic(self.images, sums, squares, debiased))
        return _ratio(*found)


def cka_interval(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray, value: float, *, debiased: bool = False
) -> Interval:
    """Return the 95 % bootstrap interval of a linear CKA over images.

    The Gram matrices are read in tiles of columns, so that memory grows with the images times the resamples,
    not with their square; ``x`` and ``y`` may lie in files (``numpy.memmap``).

    Args:
        x: [n, d1].
        y: [n, d2].
        weights: how often each image was drawn, int [resamples, n], of
            :func:`ttr.statistics.inference.resample_weights`; whole groups where images belong together.
        value: the CKA of the sample itself.
        debiased: of the unbiased estimator.
    """
    return bootstrap_interval(value, resampled_cka(x, y, weights, debiased=debiased))


def resampled_cka(x: np.ndarray, y: np.ndarray, weights: np.ndarray, *, debiased: bool = False) -> np.ndarray:
    """Return the CKA of each resample, float64 [resamples]; arguments as in :func:`cka_interval`.

    With w the draws, HSIC = w^T (K o L) w - 2/n sum_i w_i (K w)_i (L w)_i + (w^T K w) (w^T L w) / n^2, where
    the pairs of an image's own copies are taken out of the first term, centred as the rest.
    """
    w = weights.astype(np.float64)
    sums = {name: _Sums(len(w)) for name in ("xy", "xx", "yy")}
    for columns, k, l in _gram_tiles(x, y):  # noqa: E741
        for name, first, second in (("xy", k, l), ("xx", k, k), ("yy", l, l)):
            sums[name].add(w, columns, first, second, debiased)
    both, first, second = (part.hsic(w, debiased) for part in sums.values())
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((first > 0) & (second > 0), both / np.sqrt(first * second), np.nan)


def _gram_tiles(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield columns of both Gram matrices, [n, tile] each; the features are centred on the sample's mean."""
    n = len(x)
    means = [np.mean(part, axis=0, dtype=np.float64) for part in (x, y)]
    for start in range(0, n, TILE):
        columns = slice(start, min(start + TILE, n))
        grams = []
        for part, mean in zip((x, y), means, strict=True):
            chosen = part[columns].astype(np.float64) - mean
            rows = [part[at : at + TILE].astype(np.float64) - mean for at in range(0, n, TILE)]
            grams.append(np.concatenate([row @ chosen.T for row in rows]))
        yield columns, grams[0], grams[1]


class _Sums:
    """The sums of one HSIC over the tiles, one number a resample."""

    def __init__(self, resamples: int) -> None:
        self.pairs, self.rows, self.first, self.second, self.copies = np.zeros((5, resamples))
        self.diagonals: list[tuple[slice, np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, w: np.ndarray, columns: slice, k: np.ndarray, l: np.ndarray, debiased: bool) -> None:  # noqa: E741
        own = np.arange(columns.start, columns.stop)
        diagonals = k[own, own - columns.start].copy(), l[own, own - columns.start].copy()
        if debiased:
            k, l = k.copy(), l.copy()  # noqa: E741
            k[own, own - columns.start] = l[own, own - columns.start] = 0
        here, kw, lw = w[:, columns], w @ k, w @ l
        self.pairs += (here * (w @ (k * l))).sum(axis=1)
        self.rows += (here * kw * lw).sum(axis=1)
        self.first += (here * kw).sum(axis=1)
        self.second += (here * lw).sum(axis=1)
        if not debiased:
            self.diagonals.append((columns, *diagonals, kw, lw))

    def hsic(self, w: np.ndarray, debiased: bool) -> np.ndarray:
        n = w[0].sum()
        if debiased:
            return self.pairs + self.first * self.second / (n - 1) / (n - 2) - 2 * self.rows / (n - 2)
        total = self.pairs - 2 * self.rows / n + self.first * self.second / n**2
        for columns, k, l, kw, lw in self.diagonals:  # noqa: E741
            here = w[:, columns]
            centred = (k - 2 * kw / n + self.first[:, None] / n**2) * (
                l - 2 * lw / n + self.second[:, None] / n**2
            )
            total -= ((here**2 - here) * centred).sum(axis=1)
        return total
