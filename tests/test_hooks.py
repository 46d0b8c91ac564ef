import pytest
import torch
from torch import nn

from ttr.hooks import Site, attach, capture, detach, edit, edits_at, evaluation_mode


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


def test_evaluation_mode_gives_each_module_its_own_flag_back():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(1, 1)))
    model[1][0].eval()
    flags = [m.training for m in model.modules()]
    with pytest.raises(RuntimeError, match="stop"), evaluation_mode(model):
        assert not any(m.training for m in model.modules())
        raise RuntimeError("stop")
    assert [m.training for m in model.modules()] == flags
