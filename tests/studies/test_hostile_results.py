"""Results that somebody changed at random: read, or refused in one sentence; the list always stands."""

from __future__ import annotations

import json
import random

import pytest

from ttr.errors import TTRError
from ttr.studies import results as module
from ttr.studies.results import Results
from ttr.studies.schemas import BENCHMARK, is_result

VALUES = (
    *("", None, True, -1, 0.5, "NaN", "inf", "-inf", "9" * 400, 10**400, 1e308, 2**63, "x" * 5000),
    *([], {}, [[]], {"a": {}}, "\x00", '",\n', "é", "../../etc/passwd", "<script>"),
)


def changed(value, chance):
    """Return JSON values with one of them, anywhere, made another or taken out."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        rest = {name: each for name, each in value.items() if name != key}
        return rest if chance.random() < 0.1 else {**rest, key: changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        return [*value[:place], changed(value[place], chance), *value[place + 1 :]]
    return chance.choice(VALUES)


def harmed(content, chance):
    """Return bytes with a few flipped, cut off, doubled, or all others."""
    way, flipped = chance.random(), bytearray(content)
    for _ in range(chance.choice((1, 3, 30))):
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    others = (content[: chance.randrange(len(content))], content * 2, chance.randbytes(99), b"[" * 99_999)
    return bytes(flipped) if way < 0.5 else chance.choice(others)


def other_cells(content, chance):
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(chance.choice((1, 2, 5))):
        row = chance.choice(rows)
        row[chance.randrange(len(row))] = str(chance.choice(VALUES)).replace("\n", " ")
    if chance.random() < 0.2:
        chance.shuffle(rows)
    return ("\n".join(map(",".join, rows)) + "\n").encode()


def spoiled(path, chance):
    content = path.read_bytes()
    if chance.random() < 0.3:
        return harmed(content, chance)
    if path.suffix == ".csv":
        return other_cells(content, chance)
    return json.dumps(changed(json.loads(content), chance)).encode()


def benchmark(folder):
    """Write what is read of a benchmark, by hand: numbers of two arms, and their difference."""
    folder.mkdir()
    (folder / "results.csv").write_text(
        "dataset,backbone,arm,num_registers,head,metric,feature,seed,value,ci_low,ci_high,n,reason\n"
        "phantom,phantom,plain,0,linear,top1,embedding,42,0.5,0.4,0.6,12,\n"
        "phantom,phantom,ttr,1,linear,top1,embedding,42,0.5,,,12,resampled\n"
    )
    (folder / "comparisons.csv").write_text(
        "head,feature,metric,first,second,num_registers,difference,ci_low,ci_high,p,p_holm,p_mcnemar_holm,"
        "smallest_detectable,n,verdict\n"
        "linear,embedding,top1,ttr,plain,1,0.0,-0.1,0.1,1.0,1.0,1.0,0.2,12,not distinguishable\n"
    )
    made = {"ttr": "0.1.0", "warning": "", "backbone": {"name": "phantom", "weights": "random"}}
    card = {"title": "Phantom", "problems": ""}
    data = {"name": "phantom", "classes": ["a"], "images": {"test": 12}, "skipped": {"x": "y"}, "card": card}
    manifest = {
        "schema": BENCHMARK,
        "files": ["results.csv", "comparisons.csv"],
        "dataset": data,
        "provenance": made,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def attack(folder, rounds, seed):
    """Return how many of the rounds were refused; anything but a refusal is raised."""
    chance, refused = random.Random(seed), []
    benchmark(folder / "bench")
    benchmark(folder / "good")
    whole = {path: path.read_bytes() for path in sorted((folder / "bench").iterdir())}
    results = Results(folder)
    for _ in range(rounds):
        path = chance.choice(list(whole))
        path.write_bytes(spoiled(path, chance))
        assert "good" in results.names(BENCHMARK)
        is_result(folder / "bench")
        module._benchmark.cache_clear()  # what was read is kept until a manifest changes
        try:
            results.benchmark("bench")
        except TTRError as error:
            refused.append(str(error))
        path.write_bytes(whole[path])
    assert not any("\n" in said or str(folder) in said for said in refused)
    return len(refused)


def test_a_result_that_was_changed_at_random_is_read_or_refused(tmp_path):
    assert 20 < attack(tmp_path, 60, seed=1) < 60


@pytest.mark.slow
def test_ten_thousand_results_that_were_changed_at_random_are_read_or_refused(tmp_path):
    assert attack(tmp_path, 10_000, seed=2) > 5_000
