"""What is sent and asked for, on the CPU and as CUDA would see it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ttr.backbones import transfer
from ttr.backbones.transfer import ask, send, wide

CPU, CUDA, APPLE = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
def test_on_the_cpu_nothing_is_copied(kind):
    x = torch.arange(6).to(kind)
    assert send(x, CPU) is x
    assert ask(x.float())().tolist() == list(range(6))


def test_apples_devices_have_no_float64():
    assert (wide(CPU), wide(CUDA), wide(APPLE)) == (torch.float64, torch.float64, torch.float32)


class Given:
    """A tensor on the CPU that notes what is done to it."""

    device, dtype = CPU, torch.float32

    def __init__(self) -> None:
        self.done = []

    def pin_memory(self) -> Given:
        self.done.append("pinned")
        return self

    def to(self, device, non_blocking) -> Given:
        self.done.append(f"{'sent' if non_blocking else 'waited for'} to {device}")
        return self


def test_what_goes_to_cuda_is_pinned_first_and_not_waited_for():
    x = Given()
    send(x, CUDA)
    assert x.done == ["pinned", "sent to cuda"]
    x = Given()
    send(x, APPLE)
    assert x.done == ["waited for to mps"]


def test_what_comes_from_cuda_is_read_when_it_has_arrived(monkeypatch):
    """A host tensor that is filled at the event alone, as an asynchronous copy may fill it."""
    here = torch.full((3,), -1.0)

    class Event:
        def record(self, stream) -> None:
            self.stream = stream

        def synchronize(self) -> None:
            assert self.stream == "the stream"
            here.fill_(7)

    class There:
        device, shape, dtype = CUDA, (3,), torch.float32

        def detach(self):
            return self

    asked = []
    monkeypatch.setattr(transfer.torch, "empty", lambda shape, dtype, pin_memory: here)
    monkeypatch.setattr(torch.Tensor, "copy_", lambda self, x, non_blocking: asked.append(non_blocking))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the stream")
    wait = ask(There())
    assert asked == [True]
    assert here.tolist() == [-1, -1, -1]
    np.testing.assert_array_equal(wait(), [7, 7, 7])
