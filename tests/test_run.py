"""How a study runs: defaults, ranges, and that a backbone is where the run says."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ttr.errors import OptionError
from ttr.run import Run


def test_a_run_is_a_value():
    assert Run(seed=1) == Run(seed=1) != Run(seed=2)
    with pytest.raises(FrozenInstanceError):
        Run().seed = 3
    assert Run(batch_size=np.int64(4), seed=np.int32(1)).only("batch_size", "seed") == {
        "batch_size": 4,
        "seed": 1,
    }


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"seed": -1}, "seed=-1; needed an integer, at least 0"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"seed": True}, "seed=True"),
        ({"batch_size": 0}, "batch_size=0; needed an integer, at least 1"),
        ({"workers": 0}, "workers=0; needed an integer, at least 1"),
        ({"workers": "2"}, "workers='2'"),
        ({"on_error": "ignore"}, "on_error='ignore'; needed 'raise' or 'skip'"),
        ({"cache": 3}, "cache=3; needed a folder"),
        ({"device": 3}, "device=3; needed a name"),
        ({"dtype": "int8"}, "dtype='int8'; needed one of float32, bfloat16"),
        ({"dtype": torch.float32}, "dtype=torch.float32; needed one of"),
        ({"dtype": "half"}, "dtype='half'; needed one of .*, fp32, bf16, fp16, fp64"),
    ],
)
def test_values_outside_their_range_are_refused(options, complaint):
    with pytest.raises(OptionError, match=complaint):
        Run(**options)


def test_a_type_may_be_called_by_its_short_name():
    short = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp64": "float64"}
    assert {name: Run(dtype=name).dtype for name in short} == short


def test_the_cache_is_the_one_that_was_named_or_the_users_own(monkeypatch, tmp_path):
    assert Run(cache=tmp_path).shelves == Run(cache=str(tmp_path)).shelves == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert Run().shelves == tmp_path / "mine" / "ttr" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Run().shelves == Path.home() / ".cache" / "ttr" / "features"


def test_a_backbone_that_is_elsewhere_is_refused_and_left_where_it_is():
    backbone = SimpleNamespace(name="b", device=torch.device("cuda:1"), dtype=torch.bfloat16)
    for fits in ({}, {"device": "cuda"}, {"device": "cuda:1", "dtype": "bfloat16"}):
        Run(**fits).check(backbone)
    for other, complaint in (
        ({"device": "cpu"}, "asks for device cpu, and b is on cuda:1; load it with"),
        ({"device": "cuda:0"}, "asks for device cuda:0"),
        ({"dtype": "float32"}, "asks for dtype float32, and b is on bfloat16"),
    ):
        with pytest.raises(OptionError, match=complaint):
            Run(**other).check(backbone)
