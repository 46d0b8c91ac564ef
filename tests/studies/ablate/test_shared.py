"""``torchrun -m ttr ablate``: the processes share the images of every step, and the first writes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import ttr
from tests.tools.turns import in_turns
from ttr.cli.main import app
from ttr.datasets.phantom_set import phantom_set
from ttr.errors import OutputError
from ttr.features import sharing
from ttr.ranks import Rank
from ttr.registers.arms import PLAIN
from ttr.run import Run
from ttr.studies.ablate import collected, write
from ttr.studies.ablate.settings import AblationSettings
from ttr.studies.ablate.write import measure_ablation

SETTINGS = AblationSettings(
    tasks=("probe", "segmentation"), calibration_images=10, analysis_images=4, layers=2
)
#: Those that take other images' tokens, at random or from a bank, and those that draw places.
CONDITIONS = ["registers:shuffle@last", "cls:resample@3..5", "patches-4:noise@4"]


@pytest.fixture
def given(monkeypatch):
    monkeypatch.setattr("ttr.features.chunks.PART", 4)
    dataset = phantom_set(counts={"train": 10, "val": 2, "test": 8})
    return ttr.load("phantom-reg4", image_size=64), PLAIN, dataset, CONDITIONS, SETTINGS


def contents(folder):
    files = (path for path in folder.rglob("*.*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_ranks_measure_what_one_process_measures_and_each_chunk_once(given, tmp_path, monkeypatch):
    computed: list[int] = []
    compute = collected._compute

    def counted(chunk, *rest):
        computed.append(chunk.index)
        return compute(chunk, *rest)

    monkeypatch.setattr(collected, "_compute", counted)
    run = Run(batch_size=4, cache=tmp_path / "one")
    one = measure_ablation(*given, run)
    alone = sorted(computed)
    assert alone == [0, 0, 0, 1, 1, 2], "of 12, 8 and 4 images"
    computed.clear()
    # The one calibration: a shared one is equal to rounding, and the replacements are its own then.
    calibration = SimpleNamespace(value=one.subject.calibration, skipped={})
    monkeypatch.setattr(write, "calibrated_tokens", lambda *_: calibration)
    shared = replace(run, cache=tmp_path / "shared")
    both = in_turns(monkeypatch, lambda rank: measure_ablation(*given, replace(shared, rank=rank)), (0, 1))
    assert sorted(computed) == alone
    for found in both:
        for which in ("training", "scored", "analysed"):
            mine, others = getattr(found, which), getattr(one, which)
            assert mine.items == others.items
            for condition, arrays in others.arrays.items():
                for name, array in arrays.items():
                    np.testing.assert_array_equal(mine.arrays[condition][name], array, f"{condition} {name}")
    expected = contents(tmp_path / "one")
    assert contents(tmp_path / "shared") == {
        name: file for name, file in expected.items() if not name.startswith("calibrations")
    }


def test_it_waits_only_so_long_and_keeps_what_it_did(given, tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "PATIENCE", 0.06)
    run = Run(batch_size=4, cache=tmp_path, rank=Rank(0, 2))
    with pytest.raises(OutputError, match=r"1 chunks of training did not come .* 0.001 minutes"):
        measure_ablation(*given[:3], ["cls:zero"], SETTINGS, run)
    assert len(list(tmp_path.rglob("part-00000-*"))) == 2, "full and cls:zero"


@pytest.mark.parametrize(("rank", "writes"), [(0, ["write"]), (1, ["measure"])])
def test_the_first_process_alone_writes_a_result(tmp_path, monkeypatch, rank, writes):
    done: list[str] = []

    def noted(what):
        def call(*given, **more):
            assert given[-1].rank == Rank(rank, 2, rank)
            done.append(what)
            raise OutputError("enough")

        return call

    monkeypatch.setattr(write, "write_ablation", noted("write"))
    monkeypatch.setattr(write, "measure_ablation", noted("measure"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(rank))
    words = "ablate --backbone phantom-reg4 --image-size 64 --dataset phantom --conditions cls:mean --out"
    CliRunner().invoke(app, [*words.split(), str(tmp_path / "out"), "--cache", str(tmp_path / "cache")])
    assert done == writes
