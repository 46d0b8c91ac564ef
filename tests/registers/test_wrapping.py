import pytest

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.registers.wrapping import Wrap


class Marks(Wrap):
    """Leaves three marks on the model, and may stumble before the last."""

    stumbles = False

    def _put_in(self, undo):
        for mark in range(3):
            if mark == 2 and self.stumbles:
                raise RuntimeError("stumbled")
            self.backbone.model.marks.append(mark)
            undo.callback(self.backbone.model.marks.remove, mark)


@pytest.fixture
def wrap():
    model = scramble(tiny_vit())
    model.marks = []
    return Marks(model, ttr.RegisterNeurons.from_pairs([]))


def test_a_wrap_goes_in_whole_or_not_at_all_and_comes_out_once(wrap):
    model = wrap.backbone.model
    assert wrap.install() is wrap
    assert (wrap.installed, model.marks) == (True, [0, 1, 2])
    wrap.remove()
    wrap.remove()
    assert (wrap.installed, model.marks) == (False, [])
    wrap.stumbles = True
    with pytest.raises(RuntimeError, match="stumbled"):
        wrap.install()
    assert (wrap.installed, model.marks) == (False, [])


def test_an_install_that_is_refused_leaves_the_one_that_stands(wrap):
    with wrap as entered:
        assert entered is wrap
        wrap.stumbles = True
        with pytest.raises(RuntimeError, match="stumbled"):
            wrap.install()
        assert (wrap.installed, sorted(wrap.backbone.model.marks)) == (True, [0, 1, 2])
    assert (wrap.installed, wrap.backbone.model.marks) == (False, [])
