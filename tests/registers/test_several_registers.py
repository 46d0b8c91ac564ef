"""R test-time registers are one token R times: one key with log R on its logit."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import ttr
from tests.tools.tiny_models import scramble, tiny_clip, tiny_vit
from ttr.forward.attention import project
from ttr.forward.blocks import watch
from ttr.forward.record import record

NEURONS = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 7)])


@pytest.mark.parametrize("count", [2, 3, 7])
def test_equal_keys_are_one_key_with_the_logarithm_of_their_number_on_its_logit(count):
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 5, 4, generator=draw, dtype=torch.float64) for _ in range(3))
    repeated = [torch.cat([x[:, :, :1].expand(-1, -1, count, -1), x[:, :, 1:]], dim=2) for x in (k, v)]
    bias = torch.tensor([math.log(count), 0, 0, 0, 0], dtype=torch.float64)[None]
    expected = scaled_dot_product_attention(q, k, v, attn_mask=bias)
    torch.testing.assert_close(scaled_dot_product_attention(q, *repeated), expected)


@pytest.mark.parametrize("make", [tiny_vit, tiny_clip])
def test_registers_of_one_wrap_are_equal_in_every_block_and_add_log_r(make, images):
    """What CLS takes up of three registers is what it takes up of one with log 3 on its logit."""
    backbone = ttr.adapt(scramble(make()))
    with ttr.TestTimeRegisters(backbone, NEURONS, num_registers=3), watch(backbone, 0) as seen:
        layout = record(backbone, images).layout
    for block in seen.values():
        registers = layout.select(block.normed, "test_time")
        torch.testing.assert_close(registers, registers[:, :1].expand_as(registers), rtol=1e-5, atol=1e-5)
    last = seen[backbone.num_layers - 1]
    module = backbone.sites.attention[-1].module
    projected = project(backbone, module, last.normed, last.attention_arguments)
    cls, first = layout.where("cls"), layout.where("test_time").start
    three = projected.rows(cls)[:, :, 0]
    logits = (projected.queries[:, :, cls] @ projected.keys.mT)[:, :, 0]
    once = torch.ones(layout.length, dtype=torch.bool)
    once[first + 1 : first + 3] = False
    logits[:, :, first] += math.log(3)
    one = logits[:, :, once].softmax(dim=-1)
    torch.testing.assert_close(three[:, :, first : first + 3].sum(dim=-1), one[:, :, first])
    torch.testing.assert_close(layout.select(three, "patches", dim=2), one[:, :, first + 1 :])
