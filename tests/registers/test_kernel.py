"""The kernels for CUDA, run by Triton's interpreter on the CPU, in one process of their own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from ttr.registers import move, tried

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
    monkeypatch.setattr(tried, "_KNOWN", {})
    monkeypatch.setattr(tried, "find_spec", lambda name: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return torch.device("cuda", 0)


def works(device):
    return tried.kernel_works("the edit", device, move._moves)


def test_no_kernel_is_tried_while_a_graph_is_captured(no_device_tried, monkeypatch):
    asked = []
    monkeypatch.setattr(tried, "_try", lambda what, device, trial: not asked.append(device))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert not works(no_device_tried)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert works(no_device_tried)
    assert works(no_device_tried)
    assert asked == [no_device_tried]


def test_a_kernel_that_cannot_be_built_is_said_once_and_plain_pytorch_goes_on(no_device_tried, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("Failed to find C compiler.")

    monkeypatch.setattr(torch.cuda, "device", fail)
    with pytest.warns(RuntimeWarning, match="plain PyTorch on cuda:0.*Failed to find C compiler.*C compiler"):
        assert not works(no_device_tried)
    assert not works(no_device_tried)


def test_without_triton_there_is_no_kernel_and_nothing_to_say(no_device_tried, monkeypatch, recwarn):
    monkeypatch.setattr(tried, "find_spec", lambda name: None)
    assert not works(no_device_tried)
    assert not recwarn
