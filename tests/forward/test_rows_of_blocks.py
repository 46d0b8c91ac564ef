"""Attention rows of a whole pass, and what must not change them. Families are compared in test_contract."""

from __future__ import annotations

import pytest
import torch
from timm.layers.attention import Attention

import ttr
from tests.backbones.test_contract import neurons_of
from tests.tools.tiny_models import scramble, tiny_beit, tiny_clip, tiny_eva, tiny_vit
from ttr.forward import rows_of_blocks
from ttr.forward.attention import attention_rows
from ttr.forward.record import record
from ttr.hooks import capture

CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def projected_again(backbone, images):
    """CLS rows of every block by a second projection of what its attention was given."""
    rows = []

    def see(index, x, kwargs):
        rows.append(attention_rows(backbone, backbone.sites.attention[index].module, x, kwargs, slice(0, 1)))

    with torch.no_grad(), capture(backbone.sites.attention, see):
        backbone.embed(images)
    return torch.stack(rows)


@pytest.mark.parametrize("most", [0, 1, 10_000, 2**40])
@pytest.mark.parametrize("make", [tiny_vit, tiny_clip, tiny_beit])
def test_how_many_blocks_are_taken_at_once_changes_nothing(make, images, most, monkeypatch):
    backbone = ttr.adapt(scramble(make()))
    monkeypatch.setattr(rows_of_blocks, "MOST_WAITING", most)
    found = record(backbone, images, attention=True).attention
    torch.testing.assert_close(found, projected_again(backbone, images), **CLOSE)


@pytest.mark.parametrize(
    "model",
    [
        tiny_vit(qk_norm=True),
        tiny_eva(num_reg_tokens=2, rope_rotate_half=True, qk_norm=True),
        tiny_eva(attn_type="rope", dynamic_img_size=True),
        tiny_eva(num_kv_heads=1, attn_type="rope", qkv_fused=False),
    ],
    ids=["norms", "norms and a rotary embedding", "timm's rotary attention", "one key for two heads"],
)
def test_queries_and_keys_are_taken_behind_norms_and_rotation(model, images):
    backbone = ttr.adapt(scramble(model))
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=2):
        found = record(backbone, images, attention=True).attention
        torch.testing.assert_close(found, projected_again(backbone, images), **CLOSE)


def test_nothing_is_projected_a_second_time(images):
    model = scramble(tiny_vit())
    backbone, calls = ttr.adapt(model), []
    for block in model.blocks:
        block.attn.qkv.register_forward_hook(lambda *_: calls.append(1))
    record(backbone, images, attention=True)
    assert len(calls) == len(model.blocks)


class KeysFirst(Attention):
    """An attention whose owner wrote its forward: keys come ahead of queries."""

    def forward(self, x, attn_mask=None, is_causal=False):
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        k, q = self.k_norm(k), self.q_norm(q)
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class PastTheNorms(Attention):
    """One that passes the modules by where they do nothing."""

    def forward(self, x, attn_mask=None, is_causal=False):
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("kind", [KeysFirst, PastTheNorms])
@pytest.mark.parametrize("blocks", [(0, 1, 2), (1,), (2,)])
def test_an_attention_of_ones_own_is_seen_in_its_own_order_or_projected_again(images, kind, blocks):
    backbone = ttr.adapt(scramble(tiny_vit()))
    expected = record(backbone, images, attention=True).attention
    for block in blocks:
        backbone.model.blocks[block].attn.__class__ = kind
    found = record(backbone, images, attention=True).attention
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("make", [tiny_vit, tiny_clip])
def test_the_key_of_an_attention_bias_takes_part(make, images):
    backbone = ttr.adapt(scramble(make()))
    neurons = neurons_of(backbone)
    with ttr.AttentionBias(backbone, neurons, ttr.calibrate_bias(backbone, neurons, images)):
        found = record(backbone, images, attention=True).attention
        torch.testing.assert_close(found, projected_again(backbone, images), **CLOSE)
    assert (found.sum(dim=-1) < 1 - 1e-3).any()
