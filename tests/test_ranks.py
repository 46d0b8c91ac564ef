"""Which of several processes this one is."""

from __future__ import annotations

import pytest

from ttr.errors import OptionError
from ttr.ranks import Rank


def said(**values: object) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def test_a_process_is_what_torchrun_says_or_the_only_one():
    assert Rank.of({}) == Rank.of(said(LOCAL_RANK=3)) == Rank()
    assert Rank.of(said(RANK=5, WORLD_SIZE=8, LOCAL_RANK=1)) == Rank(5, 8, 1)
    assert Rank.of(said(RANK=5, WORLD_SIZE=8)).local == 5


def test_each_piece_of_the_work_is_one_processs():
    ranks = [Rank(index, 3) for index in range(3)]
    assert all(sum(rank.takes(piece) for rank in ranks) == 1 for piece in range(10))
    assert [piece for piece in range(10) if ranks[1].takes(piece)] == [1, 4, 7]


def test_each_process_has_its_own_gpu_unless_one_was_named():
    assert Rank(5, 8, 1).device("cuda") == "cuda:1"
    assert Rank(5, 8, 1).device("cuda:0") == "cuda:0"
    assert Rank(5, 8, 1).device("cpu") == "cpu"
    assert Rank().device("cuda") == "cuda"


@pytest.mark.parametrize(
    "given",
    [
        said(RANK=0),
        said(WORLD_SIZE=2),
        said(RANK=2, WORLD_SIZE=2),
        said(RANK=-1, WORLD_SIZE=2),
        said(RANK="x", WORLD_SIZE=2),
    ],
)
def test_what_no_process_can_be_is_refused(given):
    with pytest.raises(OptionError, match="needed .*RANK"):
        Rank.of(given)


def test_what_does_not_share_its_work_runs_alone():
    Rank.of(said(RANK=0, WORLD_SIZE=1)).check_alone("ttr this")
    with pytest.raises(OptionError, match="ttr this runs in one process, .* WORLD_SIZE=2; start it without"):
        Rank.of(said(RANK=1, WORLD_SIZE=2)).check_alone("ttr this")
