import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ttr.errors import ModelError
from ttr.tokens import TokenLayout, aside

layouts = st.builds(
    TokenLayout,
    cls=st.integers(0, 1),
    registers=st.integers(0, 5),
    test_time=st.integers(0, 5),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
)


def numbered(layout: TokenLayout) -> torch.Tensor:
    return torch.arange(layout.length, dtype=torch.float32)[None, :, None].expand(2, -1, 3)


@given(layouts)
def test_the_groups_are_disjoint_in_order_and_complete(layout):
    x = numbered(layout)
    parts = [layout.select(x, g) for g in ("cls", "registers", "test_time", "patches")]
    assert torch.equal(torch.cat(parts, dim=1), x)
    assert [p.shape[1] for p in parts] == [layout.cls, layout.registers, layout.test_time, layout.patches]
    assert torch.equal(layout.select(x, "prefix"), torch.cat(parts[:2], dim=1))


@given(layouts)
def test_inserting_then_dropping_is_the_identity_and_inserts_zeros(layout):
    bare = numbered(layout.with_test_time(0)) + 1
    inserted = layout.insert_test_time(bare)
    assert inserted.shape[1] == layout.length
    assert not layout.select(inserted, "test_time").any()
    assert torch.equal(layout.drop_test_time(inserted), bare)
    assert layout.with_test_time(0).for_length(layout.length) == layout


@given(layouts)
def test_registers_that_are_set_aside_belong_to_one_tensor_as_it_is(layout):
    x = numbered(layout) + 1
    bare = layout.set_aside(x, "a")
    if not layout.test_time:
        assert (bare is x, aside(bare, "a")) == (True, None)
        return
    assert bare.shape[1] == layout.prefix + layout.patches
    assert torch.equal(layout.insert_test_time(bare, aside(bare, "a")), x)
    assert aside(bare, "b") is None
    assert aside(bare + 0, "a") is aside(bare[:1], "a") is aside(bare.clone(), "a") is None
    bare += 1
    assert torch.equal(aside(bare, "a"), layout.select(x, "test_time"))


@given(layouts)
def test_split_and_grid_put_patch_zero_first(layout):
    tokens = layout.split(numbered(layout))
    assert (tokens.cls is None) == (layout.cls == 0)
    grid = layout.to_grid(tokens.patches)
    assert grid.shape == (2, *layout.grid, 3)
    assert float(grid[0, 0, 0, 0]) == layout.prefix + layout.test_time


def test_lengths_that_cannot_be_are_refused():
    layout = TokenLayout(1, 4, 0, (2, 2))
    with pytest.raises(ModelError, match="cannot hold 5 prefix tokens"):
        layout.for_length(8)
    with pytest.raises(ModelError, match="got 8 tokens"):
        layout.split(torch.zeros(1, 8, 3))
