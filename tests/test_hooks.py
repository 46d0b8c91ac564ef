import pytest
import torch
from torch import nn

from ttr.hooks import Site, attach, capture, detach, edit, edits_at, evaluation_mode, keep, remove_edits


@pytest.fixture
def pair():
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def test_edit_replaces_inputs_and_outputs_for_the_block_only(pair):
    x = torch.randn(5, 3)
    bare = pair(x)
    with edit([(Site(pair[0], "input"), lambda t: t * 0), (Site(pair[1], "output"), lambda t: t + 1)]):
        assert torch.allclose(pair(x), pair[1].forward(pair[0].bias.expand(5, 4)) + 1)
    assert torch.equal(pair(x), bare)


def test_hooks_are_gone_after_an_exception(pair):
    def fail(tensor):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), edit([(Site(pair[0], "input"), fail)]):
        pair(torch.randn(1, 3))
    with pytest.raises(ValueError, match="no"), capture([Site(pair[0], "output")], lambda *_: fail(None)):
        pair(torch.randn(1, 3))
    assert not pair[0]._forward_pre_hooks
    assert not pair[0]._forward_hooks


def test_attaching_halfway_leaves_nothing_behind(pair):
    with pytest.raises(AttributeError):
        attach([(Site(pair[0], "input"), torch.relu), (Site(None, "input"), torch.relu)])
    assert not pair[0]._forward_pre_hooks


def test_detaching_twice_does_no_harm(pair):
    handles = attach([(Site(pair[0], "input"), torch.relu)])
    assert edits_at(Site(pair[0], "input")) == [torch.relu]
    detach(handles)
    detach(handles)
    assert edits_at(Site(pair[0], "input")) == []


def test_capture_sees_what_edits_left_and_keyword_arguments():
    class Takes(nn.Module):
        def forward(self, x, *, rope=None):
            return x, rope

    module = Takes()
    seen = []
    with (
        edit([(Site(module, "input"), lambda t: t + 1)]),
        capture([Site(module, "input"), Site(module, "output")], lambda *call: seen.append(call)),
    ):
        module(torch.zeros(1), rope="turn")
    (first, given, kwargs), (second, output, _) = seen
    assert (first, second) == (0, 1)
    assert float(given) == float(output) == 1
    assert kwargs == {"rope": "turn"}


@torch.no_grad()
def test_keep_holds_what_passes_in_its_order_and_what_is_made_of_it(pair):
    x = torch.randn(5, 3)
    with (
        keep([Site(pair[1], "output"), Site(pair[0], "output")]) as passed,
        keep([Site(pair[0], "input")]) as given,
    ):
        result = pair(x)
        assert len(passed) == 2
        pair(2 * x)
    assert torch.equal(passed[0], pair[0](x))
    assert passed[1] is result
    assert [torch.equal(one, other) for one, other in zip(given, (x, 2 * x), strict=True)] == [True, True]
    with keep([Site(module, "output") for module in pair], lambda tensor: tensor.amax()) as most:
        pair(x)
    assert [float(value) for value in most] == [float(passed[0].amax()), float(result.amax())]


def test_what_is_kept_is_no_longer_filled_behind_the_block_and_after_an_exception(pair):
    def fail(tensor):
        raise ValueError("no")

    with keep([Site(pair[0], "input")]) as passed:
        pass
    with pytest.raises(ValueError, match="no"), keep([Site(pair[0], "input"), Site(pair[1], "output")], fail):
        pair(torch.randn(1, 3))
    pair(torch.randn(1, 3))
    assert passed == []
    assert not pair[0]._forward_pre_hooks
    assert not pair[1]._forward_hooks


def test_evaluation_mode_gives_each_module_its_own_flag_back():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(1, 1)))
    model[1][0].eval()
    flags = [m.training for m in model.modules()]
    with pytest.raises(RuntimeError, match="stop"), evaluation_mode(model):
        assert not any(m.training for m in model.modules())
        raise RuntimeError("stop")
    assert [m.training for m in model.modules()] == flags


def test_what_enters_and_leaves_is_edited_outside_of_all_others(pair):
    """Whoever came first: others of ttr see and edit what is inside."""
    inner, seen = pair[0], []
    layer = (Site(inner, "input"), lambda t: t + 1), (Site(inner, "output"), lambda t: 10 * t)
    boundary = (
        (Site(inner, "entering"), lambda module, t, others: (2 * t, others)),
        (Site(inner, "leaving"), lambda t: t - 1),
    )
    x = torch.ones(1, 3)
    with (
        edit(layer[:1]),
        edit(boundary),
        edit(layer[1:]),
        capture([Site(inner, "output")], lambda *a: seen.append(a)),
    ):
        found = inner(x)
    assert torch.equal(seen[0][1], 10 * inner.forward(2 * x + 1))
    assert torch.equal(found, seen[0][1] - 1)
    assert not inner._forward_pre_hooks
    assert not inner._forward_hooks


def test_what_leaves_runs_after_an_exception_too(pair):
    left = []

    def fail(*_):
        raise ValueError("no")

    pair[0].register_forward_hook(fail)
    with edit([(Site(pair[0], "leaving"), lambda t: left.append(t))]), pytest.raises(ValueError, match="no"):
        pair(torch.ones(1, 3))
    assert len(left) == 1


def test_what_enters_may_edit_every_argument_by_name_or_place():
    class Sum(nn.Module):
        def forward(self, x, y, z=0):
            return x + 10 * y + 100 * z

    def edited(module, x, others):
        return x + 1, {name: value + (2 if name == 1 else 3) for name, value in others.items()}

    module = Sum()
    with edit([(Site(module, "entering"), edited)]):
        assert module(0, 0, z=0) == 1 + 20 + 300
        assert module(x=0, y=0) == 1 + 30


def test_edits_of_a_kind_are_removed_and_the_hooks_of_others_stay(pair):
    class Double:
        def __call__(self, t):
            return 2 * t

    x, seen = torch.ones(1, 3), []
    bare = pair(x)
    pair[1].register_forward_hook(lambda *_: seen.append(1), always_call=True)
    attach([(Site(pair[0], "input"), Double()), (Site(pair[1], "leaving"), Double())])
    handles = attach([(Site(pair[0], "output"), torch.relu)])
    remove_edits(pair, (Double,))
    assert edits_at(Site(pair[0], "output")) == [torch.relu]
    detach(handles)
    assert torch.equal(pair(x), bare)
    assert seen == [1]
    assert pair[1]._forward_hooks_always_called
