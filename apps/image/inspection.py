"""One image through the bare model and through the wrapped one, whole. It has no widgets.

:func:`inspect` computes everything that can be asked of one image once (every block, head and query before
and after), so that looking at another block is looking up, not computing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ttr.analysis.faithfulness import record_with_faithfulness
from ttr.analysis.patch_colours import fit_colours
from ttr.analysis.reference import Reference, refer
from ttr.apps.image.framing import Frame, frame_of
from ttr.backbones.base import Backbone
from ttr.digests import sha256
from ttr.errors import OptionError
from ttr.forward.preprocessing import pixels_of
from ttr.hooks import keep
from ttr.norms import outlier_threshold
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.variants import ALGORITHM
from ttr.registers.wrap import TestTimeRegisters
from ttr.studies.compare.comparison import ImageComparison, yardstick
from ttr.studies.compare.view import view_of
from ttr.studies.provenance import provenance
from ttr.tokens import TokenLayout

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ttr.forward.record import Record


@dataclass(frozen=True, eq=False)
class Trace:
    """One image through one model, whole; arrays are float32.

    Attributes:
        layout: its tokens, test-time registers included.
        norms: of every token at each block's output, [L, N].
        attention: of each token ahead of the patches (CLS first) over all tokens, [L, heads, Q, N], 0..1.
        feature: the image's global feature, [D].
        colours: the patches at the last block as colours, uint8 [rows, columns, 3], on a basis that both
            runs share.
    """

    layout: TokenLayout
    norms: np.ndarray = field(repr=False)
    attention: np.ndarray = field(repr=False)
    feature: np.ndarray = field(repr=False)
    colours: np.ndarray = field(repr=False)

    @property
    def queries(self) -> tuple[str, ...]:
        """Names of the tokens that attention can be asked of, in their order."""
        trained = (f"trained register {i + 1}" for i in range(self.layout.registers))
        test_time = (f"test-time register {i + 1}" for i in range(self.layout.test_time))
        return ("CLS", *trained, *test_time)

    def norm_map(self, layer: int) -> np.ndarray:
        """Return the patch norms at a block's output, [rows, columns]."""
        return self._grid(self.norms[layer])

    def attention_map(self, layer: int, head: int | None = None, query: str = "CLS") -> np.ndarray | None:
        """Return the attention of a query to each patch, [rows, columns], 0..1; None without that query.

        ``head``: one of them, or None for their mean.
        """
        row = self._row(layer, head, query)
        return None if row is None else self._grid(row)

    def head_maps(self, layer: int, query: str = "CLS") -> np.ndarray | None:
        """Return the attention of a query to each patch by head, [heads, rows, columns]; None without it."""
        if query not in self.queries:
            return None
        rows = self.attention[layer, :, self.queries.index(query)]
        return rows[:, self.layout.where("patches")].reshape(len(rows), *self.layout.grid)

    def register_share(self, layer: int, head: int | None = None, query: str = "CLS") -> float | None:
        """Return how much of a query's attention all registers hold together, 0..1; None without it."""
        row = self._row(layer, head, query)
        return None if row is None else float(row[self.layout.where("all_registers")].sum())

    def _row(self, layer: int, head: int | None, query: str) -> np.ndarray | None:
        if query not in self.queries:
            return None
        rows = self.attention[layer, :, self.queries.index(query)]
        return rows.mean(axis=0) if head is None else rows[head]

    def _grid(self, tokens: np.ndarray) -> np.ndarray:
        return tokens[self.layout.where("patches")].reshape(self.layout.grid)


@dataclass(frozen=True, eq=False)
class Inspection:
    """One image before and after, with all that the page can ask of it. Make one with :func:`inspect`.

    Attributes:
        image: as a person sees it, RGB.
        frame: the part of it that the model saw.
        comparison: the numbers, as ``ttr compare`` writes them.
        before: the bare model.
        after: the wrapped model.
        num_neurons: register neurons that were moved.
        original: of a model with planted artifacts, the same without them: the truth; else None.
    """

    image: Image
    frame: Frame
    comparison: ImageComparison
    before: Trace
    after: Trace
    num_neurons: int
    original: Trace | None = None

    @cached_property
    def identity(self) -> str:
        """What tells the maps of this image through this model and wrap from all others."""
        return sha256((run.norms.tobytes() for run in self.shown), 16)

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.before.norms)

    @property
    def heads(self) -> int:
        """Number of attention heads of a block."""
        return self.before.attention.shape[1]

    @property
    def runs(self) -> tuple[Trace, Trace]:
        """The two runs, before and after."""
        return self.before, self.after

    @property
    def shown(self) -> tuple[Trace, ...]:
        """The runs whose maps are shown: the original where there is one, then before and after."""
        return (*filter(None, [self.original]), *self.runs)

    def likeness(self, layer: int, head: int | None, query: str) -> tuple[float, float] | None:
        """Return the cosine of the attention maps before and after with the original's; None without one."""
        truth = None if self.original is None else self.original.attention_map(layer, head, query)
        maps = [run.attention_map(layer, head, query) for run in self.runs]
        if truth is None or maps[0] is None or maps[1] is None:
            return None
        return _cosine(truth, maps[0]), _cosine(truth, maps[1])

    def check(self, layer: int, head: int | None, query: str) -> None:
        """Raise OptionError unless there is such a block, head and query."""
        if not 0 <= layer < self.layers or not (head is None or 0 <= head < self.heads):
            raise OptionError(
                f"block {layer}, head {head}; needed a block 0..{self.layers - 1} and a head "
                f"0..{self.heads - 1}, or None for their mean"
            )
        if query not in self.after.queries:
            raise OptionError(f"query {query!r}; needed one of {', '.join(self.after.queries)}")


def inspect(
    backbone: Backbone,
    neurons: RegisterNeurons,
    image: Image,
    *,
    name: str = "image",
    num_registers: int = 1,
    original: Backbone | None = None,
    references: tuple[Reference | None, ...] | None = None,
) -> Inspection:
    """Run one image through the bare model and through the wrapped one, and keep all of it.

    Two passes, whatever is looked at afterwards; three where ``original`` is given, the model without the
    artifacts that were planted in ``backbone``. ``references`` are those of :func:`references_of`, where they
    are known already.

    Raises:
        NeuronsError: the neurons belong to another backbone.
        ModelError: the model has no CLS token, or is wrapped already.
        OptionError: ``num_registers`` is out of its range.
    """
    backbone.require_cls()
    rule, layer = yardstick(backbone, neurons, None, None)
    batch = backbone.preprocess(image)[None]
    passed, last = [], []
    if references is None:
        references = references_of(backbone, neurons, num_registers, original)
    for (model, context), others in zip(
        ways(backbone, neurons, num_registers, original), references, strict=True
    ):
        with context, keep(model.sites.blocks[-1:]) as seen:
            run, trust = record_with_faithfulness(model, batch, attention="ahead", reference=others)
        passed.append((run.cpu(), trust))
        last.append(seen[0])  # faithfulness runs the last block again, on CLS alone
    (bare, trust_before), (moved, trust_after) = passed[:2]
    limit = float(outlier_threshold(bare.layout.select(bare.norms[layer], "patches"), rule)[0])
    before, after, *truth = _traces([run for run, _ in passed], last)
    settings = {
        "num_registers": num_registers,
        "variant": ALGORITHM,
        "threshold": rule,
        "outlier_layer": layer,
        "batch_size": 1,
    }
    numbers = ImageComparison(
        image=name,
        outlier_layer=layer,
        outlier_threshold=limit,
        before=view_of(bare, trust_before, 0, layer, limit),
        after=view_of(moved, trust_after, 0, layer, limit),
        pixels=pixels_of(backbone, batch)[0],
        provenance=provenance(backbone, **settings),
    )
    frame = frame_of(backbone, image.size)
    return Inspection(image, frame, numbers, before, after, len(neurons), next(iter(truth), None))


def _traces(runs: Sequence[Record], last: Sequence[Tensor]) -> list[Trace]:
    """Return what is kept of each run; ``last``: its tokens behind the last block, coloured on one basis."""
    patches = [
        _unit(run.layout.select(tokens, "patches")[0].float().cpu().numpy())
        for run, tokens in zip(runs, last, strict=True)
    ]
    basis = fit_colours(np.concatenate(patches))
    return [
        Trace(
            layout=run.layout,
            norms=run.norms[:, 0].numpy(),
            attention=run.attention[:, 0].numpy(),
            feature=run.embedding[0].float().numpy(),
            colours=basis.paint(part, run.layout.grid),
        )
        for run, part in zip(runs, patches, strict=True)
    ]


def references_of(
    backbone: Backbone, neurons: RegisterNeurons, num_registers: int = 1, original: Backbone | None = None
) -> tuple[Reference | None, ...]:
    """Return what faithfulness is centred on in each run of :func:`inspect`: it is nobody's image."""
    found = []
    for model, context in ways(backbone, neurons, num_registers, original):
        with context:
            found.append(refer(model))
    return tuple(found)


def ways(
    backbone: Backbone, neurons: RegisterNeurons, num_registers: int, original: Backbone | None
) -> list[tuple[Backbone, AbstractContextManager[object]]]:
    """Return each run's model, and what stands in it meanwhile."""
    wrap = TestTimeRegisters(backbone, neurons, num_registers=num_registers)
    ways: list[tuple[Backbone, AbstractContextManager[object]]] = [
        (backbone, nullcontext()),
        (backbone, wrap),
    ]
    return ways if original is None else [*ways, (original, nullcontext())]


def _unit(patches: np.ndarray) -> np.ndarray:
    """Return patches of length one: colours show what they say, and not how long they are."""
    return patches / np.linalg.norm(patches, axis=1, keepdims=True).clip(min=1e-12)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
