"""The harness finds ratios that are known, writes what it says, and its cases run; no speed is asserted."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.benchmarks import cases, limit, memory, models, raced, racing, session, ten_million
from tests.benchmarks.__main__ import main, parsed, settings_of
from tests.benchmarks.cases.forward import item_by_item
from tests.benchmarks.machine import machine
from tests.benchmarks.racing import Budget, TooLongError, race, ratio
from tests.benchmarks.report import write_into
from tests.benchmarks.results import LeftOut, Measured, Report, Tabled
from tests.benchmarks.settings import Settings
from tests.tools.tiny_models import DEPTH, PATCH, SIZE, WIDTH

ROUNDS = Budget(seconds=1e9, fewest=20, most=20, sample=0)


class MadeClock:
    """A clock on which a task takes the seconds that it returns, times a drift and a noise of its own."""

    def __init__(self, seed: int = 0, noise: float = 0.0, drift: float = 0.0) -> None:
        self.random, self.noise, self.drift = np.random.default_rng(seed), noise, drift
        self.samples: list[float] = []

    def __call__(self, task, calls: int) -> float:
        self.samples.append(task())
        slowed = 1 + self.drift * len(self.samples)
        return self.samples[-1] * slowed * float(np.exp(self.noise * self.random.normal()))


def made_race(cost: float, **clock: float) -> racing.Ratio:
    times = race({"bare": lambda: 1.0, "other": lambda: cost}, MadeClock(**clock), ROUNDS, seed=1)
    return ratio(times["other"], times["bare"], seed=2)


def test_a_known_ratio_is_found_while_the_machine_slows_down_fourfold():
    found = made_race(1.2, drift=0.07)
    assert found.value == pytest.approx(1.2, rel=0.03)
    assert found.low <= 1.2 <= found.high


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    found = [made_race(1.05, seed=seed, noise=0.05) for seed in range(200)]
    covered = np.mean([each.low <= 1.05 <= each.high for each in found])
    assert 0.88 <= covered <= 0.99
    assert np.median([each.value for each in found]) == pytest.approx(1.05, abs=0.005)


def test_over_two_rounds_everybody_stands_in_the_same_place_on_average():
    clock = MadeClock()
    times = race(
        {name: lambda cost=cost: cost for name, cost in zip("abcd", range(1, 5), strict=True)},
        clock,
        ROUNDS,
        3,
    )
    turns = np.array(clock.samples[8:]).reshape(
        10, 2, 4
    )  # the first 8 are the cold ones and those for the estimate
    assert (turns[:, 0] == turns[:, 1, ::-1]).all()
    assert len({tuple(turn) for turn in turns[:, 0]}) > 3
    assert [len(own) for own in times.values()] == [20] * 4


def test_the_same_seed_gives_the_same_interval():
    assert made_race(1.1, noise=0.1) == made_race(1.1, noise=0.1)


def test_what_would_not_fit_is_left_out_and_said():
    budget = Budget(seconds=1.0, fewest=6)
    with pytest.raises(TooLongError, match="one round takes"):
        race({"bare": lambda: 2.0}, MadeClock(), budget, 0)
    settings = Settings(budget=budget)
    (row,) = raced.rows(settings, {"bare": lambda: 2.0}, [], MadeClock(), case="made", model="a model")
    assert row == LeftOut(case="made", what="a model", reason="one round takes 2.0 s; give more --seconds")


def test_a_time_is_over_the_other_and_a_throughput_under_it():
    tasks = {"bare": lambda: 1.0, "slow": lambda: 2.0}
    settings, asked = Settings(budget=ROUNDS), [raced.Against("slow", "bare", 1.5)]
    (time,) = raced.rows(settings, tasks, asked, MadeClock(), case="made")
    (rate,) = raced.rows(settings, tasks, asked, MadeClock(), case="made", of="throughput")
    assert (time.ratio, time.verdict, time.ms, time.against_ms) == (2.0, "missed", 2000.0, 1000.0)
    assert (rate.ratio, rate.verdict) == (0.5, "missed")


def test_what_a_start_takes_is_taken_off():
    tasks = {"bare": lambda: 1.0, "start": lambda: 5.0, "command": lambda: 7.0}
    settings, asked = Settings(budget=ROUNDS), [raced.Against("command", "bare")]
    (row,) = raced.rows(settings, tasks, asked, MadeClock(), starts={"command": "start"}, case="made")
    assert (row.ratio, row.ms) == (2.0, 2000.0)


@pytest.mark.parametrize(
    ("of", "low", "high", "verdict"),
    [
        ("time", 0.9, 1.0, "met"),
        ("time", 0.9, 1.2, "open"),
        ("time", 1.1, 1.2, "missed"),
        ("throughput", 1.0, 1.1, "met"),
        ("throughput", 0.9, 1.1, "open"),
        ("throughput", 0.8, 0.9, "missed"),
    ],
)
def test_a_target_is_met_or_missed_by_a_whole_interval(of, low, high, verdict):
    shared = {"case": "made", "what": "a", "against": "b", "rounds": 6, "ms": 1, "against_ms": 1}
    assert Measured(of=of, ratio=1.0, low=low, high=high, target=1.0, **shared).verdict == verdict


def test_operations_are_those_of_the_closed_form():
    backbone = models.build("timm-tiny", "cpu", "fp32")
    patches = (SIZE // PATCH) ** 2
    tokens = patches + 1
    a_block = 2 * tokens * WIDTH * (3 + 1 + 4 + 4) * WIDTH + 2 * 2 * tokens**2 * WIDTH
    embedding = 2 * patches * 3 * PATCH**2 * WIDTH
    assert limit.flops(backbone, models.pictures(backbone, 2)) == 2 * (DEPTH * a_block + embedding)


@pytest.mark.parametrize(
    "key",
    [
        "timm-tiny",
        pytest.param("open_clip-tiny", marks=pytest.mark.slow),  # each imports a library of its own
        pytest.param("transformers-tiny", marks=pytest.mark.slow),
    ],
)
def test_an_arm_is_a_second_model_and_the_bare_one_stays_bare(key):
    bare = models.build(key, "cpu", "fp32")
    images = models.pictures(bare, 2)
    arms = {name: models.wrapped(key, bare, *arm) for name, arm in models.arms(Settings(), key).items()}
    held = {name: arm.tokens(images).test_time.shape[1] for name, arm in arms.items()}
    assert held == {name: int(name.partition("R=")[2] or 0) for name in arms}
    features = {name: models.forward(arm)(images) for name, arm in arms.items()}
    torch.testing.assert_close(features["bare"], bare.embed(images))
    assert not torch.equal(features["ttr R=0"], features["bare"])
    assert not torch.equal(features["ttr R=1"], features["blank R=1"])


def test_the_predecessors_way_gives_the_same_features():
    call = models.forward(models.build("timm-tiny", "cpu", "fp32"))
    images = models.pictures(models.build("timm-tiny", "cpu", "fp32"), 3)
    torch.testing.assert_close(torch.cat(item_by_item(call, images)), call(images))


TINY = ["--quick", "--models", "timm-tiny", "--batches", "2", "--seconds", "600", "--rounds", "2"]


def test_quick_cases_run_and_the_file_holds_what_is_shown(tmp_path, capsys):
    out = tmp_path / "speed.json"
    report = main(["forward", "detection", "norms", "attention", "embed", *TINY, "--out", str(out)])
    shown = capsys.readouterr().out
    assert Report.read(out) == report
    assert {row.case for row in report.measured} >= {"forward", "norms", "attention"}
    assert {
        (row.library, row.model, row.dtype, row.batch) for row in report.measured if row.case == "forward"
    } == {("timm", "tiny", "fp32", 2)}
    assert {row.registers for row in report.measured} == {None, 0, 1, 4}
    assert ("ttr R=4", "blank R=4") in {(row.what, row.against) for row in report.measured}
    for row in report.measured:
        assert 0 < row.low <= row.ratio <= row.high
        assert report.limit_ms(row) > 0
    assert report.machine.gemm["fp32"] > 0
    assert "ratio of throughput" in shown
    assert shown.splitlines()[-1].startswith(f"On {report.machine.cpu} the dearest of ")


def test_peaks_stand_beside_each_arm_and_what_it_is_held_against(monkeypatch):
    def resident(key, dtype, arm, registers, batches):
        return {batch: 10.0 * batch + registers + (arm == "ttr") for batch in batches}

    monkeypatch.setattr(memory, "resident", resident)
    short = Budget(seconds=600, fewest=2, most=2, sample=0)
    settings = Settings(models=("timm-tiny",), batches=(2,), registers=(4,), budget=short)
    written = [json.loads(row.model_dump_json()) for row in cases.CASES["forward"](settings)]
    peaks = {(row["what"], row["against"]): (row["peak_mib"], row["against_peak_mib"]) for row in written}
    assert peaks["ttr R=4", "blank R=4"] == (25.0, 24.0)
    assert peaks["ttr R=4", "bare"] == (25.0, 20.0)


def test_a_file_of_another_shape_is_refused(tmp_path):
    out = tmp_path / "speed.json"
    main(["bench", "--quick", "--out", str(out)])
    found = json.loads(out.read_text())
    out.write_text(json.dumps({**found, "speed": 1}))
    with pytest.raises(ValidationError, match="speed"):
        Report.read(out)


def test_a_page_gets_its_tables_between_the_marks_and_keeps_the_rest(tmp_path):
    page = tmp_path / "speed.md"
    begin, end = (f"<!-- measured on cpu: {word} -->" for word in ("begin", "end"))
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    report = main(["norms", *TINY, "--into", str(page)])
    once = page.read_text()
    assert "old" not in once
    assert once.startswith(f"before\n{begin}\n```\npython -m tests.benchmarks")
    assert once.endswith(f"{end}\nafter\n")
    assert "| timm tiny | fp32 |" in once
    write_into(report, page)
    assert page.read_text() == once
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks marks; needed <!-- measured on cpu: begin -->"):
        write_into(report, page)


def test_ten_million_images_take_what_the_rates_say(tmp_path):
    machine = main(["bench", "--quick"]).machine.model_copy(update={"gemm": {"fp32": 1e-6}})
    shared = {"case": "scale", "model": "m", "dtype": "fp32", "pixels": 224, "images": 10, "rounds": 4}
    row = Measured(
        what="ttr", against="bare", ratio=2, low=2, high=2, ms=2000, against_ms=1000, flops=500, **shared
    )
    files = Tabled(case="scale", title="files", columns=("a second",), rows=((4.0,),))
    report = Report(machine=machine, measured=(row,), tables=(files,))
    assert ten_million.rows(report) == [
        ("m", "fp32", "224", "bare", "10.00", "277.8", "138.9", "2.500"),
        ("m", "fp32", "224", "ttr", "5.00", "555.6", "138.9", "1.250"),
    ]
    out, page = tmp_path / "speed.json", tmp_path / "scale.md"
    report.write(out)
    page.write_text("<!-- ten million on cpu: begin --><!-- ten million on cpu: end -->")
    assert main(["--of", str(out), "--into", str(page)]) == report
    assert "| m | fp32 | 224 | ttr | 5.00 | 555.6 | 138.9 | 1.250 |" in page.read_text()


def test_runs_of_one_machine_are_joined_and_those_of_two_are_not():
    one, two = (main([case, *TINY]) for case in ("norms", "attention"))
    joined = Report.joined([one, two])
    assert joined.measured == one.measured + two.measured
    assert joined.machine.gemm == {"fp32": max(each.machine.gemm["fp32"] for each in (one, two))}
    assert joined.machine.command == f"{one.machine.command}\n{two.machine.command}"
    elsewhere = two.model_copy(update={"machine": two.machine.model_copy(update={"cpu": "another"})})
    with pytest.raises(ValueError, match="the runs differ in cpu; needed runs of one machine"):
        Report.joined([one, elsewhere])


def test_what_is_said_to_repeat_a_run_holds_no_path(monkeypatch):
    words = [
        "norms",
        *TINY,
        "--into",
        "/home/a/speed.md",
        "/home/a/scale.md",
        "--out",
        "/home/a/b.json",
        "--seed",
        "3",
    ]
    monkeypatch.setattr("sys.argv", ["-m", *words])
    said = machine(settings_of(parsed(words))).command
    assert said == f"python -m tests.benchmarks norms {' '.join(TINY)} --seed 3"


def test_a_case_that_fails_is_said_and_the_next_one_runs(monkeypatch):
    def broken(settings):
        raise RuntimeError("a reason\nand more")

    monkeypatch.setitem(cases.CASES, "norms", broken)
    report = main(["norms", "attention", *TINY])
    assert report.left_out == (LeftOut(case="norms", what="timm-tiny", reason="RuntimeError: a reason"),)
    assert {row.case for row in report.measured} == {"attention"}


def test_what_a_deadline_cuts_off_is_said():
    report = main(["norms", *TINY, "--minutes", "0"])
    assert report.measured == ()
    assert report.left_out[0].reason == "out of time; give more --minutes"


def test_options_go_over_quick_and_quick_over_the_device():
    given = settings_of(parsed(["--quick", "--batches", "3", "5", "--seconds", "7", "--dtype", "bf16"]))
    assert (given.batches, given.dtypes, given.models) == ((3, 5), ("bf16",), ("timm-s",))
    assert given.budget == replace(Settings(quick=True).budget, **vars(given.budget) | {"seconds": 7.0})
    assert settings_of(parsed(["--device", "cuda"])).ways == ("eager", "graph")
    with pytest.raises(SystemExit):
        parsed(["fast"])


def test_the_gpu_session_names_cases_and_models_that_there_are():
    planned = session.plan(Settings(device="cuda"))
    assert {case for case, _ in planned} <= set(cases.CASES)
    assert {key for _, settings in planned for key in settings.models} <= set(models.MODELS)
    assert {settings.device for _, settings in planned} == {"cuda"}


@pytest.mark.slow
def test_the_gpu_session_runs_through_on_a_cpu():
    report = main(["--gpu-session", "--quick"])
    assert {row.way for row in report.measured} >= {"eager", "compiled"}
    assert {row.library for row in report.measured} >= {"timm", "open_clip", "transformers"}
    failed = [out for out in report.left_out if "Error" in out.reason and "CUDA graph" not in out.reason]
    assert failed == []
