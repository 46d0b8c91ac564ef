"""What a detection asks of a device: one answer a batch, and operations that do not grow with the images.

Counted on the CPU, with a tile of a whole batch: so the operations are those of a device without the kernel.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.forward.record import record
from ttr.registers import activity
from ttr.registers.evidence import Evidence
from ttr.registers.seen import see

#: Methods by which the host learns a value, so that it waits for the device; and operations that wait inside.
METHODS = {"cpu", "tolist", "item", "__bool__", "__int__", "__float__", "__index__", "__array__"}
INSIDE = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim"}
#: Operations that launch nothing.
FREE = {"empty", "empty_strided", "empty_like", "new_empty", "detach", "promote_types"}


class Methods(TorchFunctionMode):
    """Counts the methods that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: Counter[str] = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if (name := getattr(function, "__name__", "")) in METHODS:
            self.waited[name] += 1
        return function(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    """Counts the operations that a device would launch, and those that wait inside."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: Counter[str] = Counter()
        self.waited: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.removeprefix("aten::")
        by_mask = name.startswith("index") and any(
            index is not None and index.dtype == torch.bool
            for places in args
            if isinstance(places, list | tuple)
            for index in places
        )
        if name in INSIDE or by_mask:
            self.waited[name] += 1
        if not function.is_view and name not in FREE:
            self.launched[name] += 1
        return function(*args, **(kwargs or {}))


def counted(work):
    """Return the methods and operations that waited in some work, and the number of operations."""
    with Methods() as methods, Operations() as operations:
        work()
    return methods.waited, operations.waited, operations.launched.total()


@pytest.fixture
def detecting(monkeypatch):
    """Count what batches of images cost whose images all have outliers, on a model of so many blocks."""
    monkeypatch.setattr(activity, "TILE", 2**40)

    def count(batches: int, images: int, depth: int = 3):
        backbone = ttr.adapt(scramble(tiny_vit(depth=depth)))
        pixels = torch.randn(batches * images, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        threshold = float(record(backbone, pixels).norms[-2][:, 1:].amax(dim=1).min() / 2)
        evidence = Evidence(backbone)

        def detect() -> None:
            for batch in pixels.split(images):
                evidence.add(see(backbone, batch, depth - 2, threshold))
            evidence._compute()

        found = counted(detect)
        assert evidence.with_outliers == batches * images
        bare = counted(lambda: [backbone.features(batch) for batch in pixels.split(images)])
        return *found[:2], found[2] - bare[2]

    return count


@pytest.mark.parametrize(
    ("batches", "images", "depth"), [(1, 1, 3), (1, 6, 3), (5, 2, 3), (3, 6, 3), (2, 3, 6)]
)
def test_the_host_waits_once_a_batch_whatever_its_images_and_blocks(detecting, batches, images, depth):
    methods, inside, _ = detecting(batches, images, depth)
    assert methods == {"cpu": batches}
    assert not inside


def test_operations_do_not_grow_with_the_images_of_a_batch_and_little_with_the_blocks(detecting):
    assert len({detecting(1, images)[2] for images in (1, 2, 6)}) == 1
    batches = [detecting(number, 2)[2] for number in (1, 2, 3, 4)]
    assert batches[3] - batches[2] == batches[2] - batches[1]
    of_blocks = [detecting(1, 2, depth)[2] for depth in (3, 4, 5)]
    a_block = of_blocks[1] - of_blocks[0]
    assert of_blocks[2] - of_blocks[1] == a_block
    assert a_block <= 12


@pytest.mark.parametrize("depth", [2, 5])
def test_a_pass_with_the_norms_at_all_blocks_waits_once(images, depth):
    backbone = ttr.adapt(scramble(tiny_vit(depth=depth)))
    methods, inside, _ = counted(lambda: record(backbone, images))
    assert methods == {"cpu": 1}
    assert not inside
