"""The kernels for CUDA, run by Triton's interpreter on the CPU, in one process of their own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types

import pytest
import torch

from ttr.registers import move

BOTH = "from tests.registers import activity_kernel_cases, kernel_cases as edit_cases; "


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="the kernels are Triton's, which is not installed"
)
def test_the_kernels_equal_plain_pytorch():
    interpreted = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", f"{BOTH} edit_cases.main(); activity_kernel_cases.main()"]
    done = subprocess.run(command, env=interpreted, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["equal", "equal"], done.stderr


@pytest.fixture
def no_device_tried(monkeypatch):
    """A machine where CUDA can be asked for, and whose kernel was not tried yet."""
    monkeypatch.setattr(move, "_KERNEL_WORKS", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return torch.device("cuda", 0)


def test_no_kernel_is_tried_while_a_graph_is_captured(no_device_tried, monkeypatch):
    tried = []
    monkeypatch.setattr(move, "_try_kernel", lambda device: not tried.append(device))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert not move.kernel_works(no_device_tried)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert move.kernel_works(no_device_tried)
    assert move.kernel_works(no_device_tried)
    assert tried == [no_device_tried]


def test_a_kernel_that_cannot_be_built_is_said_once_and_plain_pytorch_goes_on(no_device_tried, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("Failed to find C compiler.")

    monkeypatch.setitem(sys.modules, "ttr.registers.kernel", types.SimpleNamespace(move=fail))
    monkeypatch.setattr("ttr.registers.kernel", sys.modules["ttr.registers.kernel"], raising=False)
    monkeypatch.setattr(torch.cuda, "device", fail)
    with pytest.warns(RuntimeWarning, match="plain PyTorch on cuda:0.*Failed to find C compiler.*C compiler"):
        assert not move.kernel_works(no_device_tried)
    assert not move.kernel_works(no_device_tried)


def test_without_triton_there_is_no_kernel_and_nothing_to_say(no_device_tried, monkeypatch, recwarn):
    import ttr.registers

    monkeypatch.delattr(ttr.registers, "kernel", raising=False)
    monkeypatch.setitem(sys.modules, "ttr.registers.kernel", None)
    assert not move.kernel_works(no_device_tried)
    assert not recwarn
