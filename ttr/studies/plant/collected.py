"""One pass of the model that is to be planted in: what the fits need of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.forward.record import record
from ttr.hooks import keep
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.wrap import TestTimeRegisters

BATCH = 20


@dataclass(frozen=True, eq=False)
class Collected:
    """What the untouched model made of B images.

    Attributes:
        mlp_input: what the block's MLP was given, [B, N, D].
        stream: the block's output with one blank register in the sequence, [B, N + 1, D].
        embedding: [B, E].
        maps: CLS's attention over the patches in the last block, mean of the heads, sum 1, [B, P].
        mean: of each neuron of the block over all tokens, [hidden].
        sd: of each neuron.
        norm: median patch norm behind the last block.
    """

    mlp_input: Tensor
    stream: Tensor
    embedding: Tensor
    maps: Tensor
    mean: Tensor
    sd: Tensor
    norm: float


@torch.no_grad()
def collect(backbone: Backbone, images: Tensor, layer: int) -> Collected:
    """Run images [B, 3, H, W] through the bare model, and once more with a blank register."""
    inputs, streams, embeddings, maps, norms = [], [], [], [], []
    sums = torch.zeros(2, backbone.num_neurons, dtype=torch.float64)
    seen = 0

    def add(block: int, active: Tensor) -> None:
        nonlocal sums, seen
        if block == layer:
            wide = active.flatten(0, 1).double().cpu()
            sums += torch.stack([wide.sum(dim=0), wide.pow(2).sum(dim=0)])
            seen += len(wide)

    blank = TestTimeRegisters(backbone, RegisterNeurons.from_pairs([]))
    for batch in images.split(BATCH):
        passed = record(backbone, batch, attention=True, neurons=add)
        inputs.append(passed.mlp_inputs[layer])
        embeddings.append(passed.embedding)
        maps.append(last_map(passed.cls_attention, passed.layout.where("patches")))
        norms.append(passed.layout.select(passed.norms[-1], "patches"))
        with blank, keep([backbone.sites.blocks[layer]]) as stream:
            backbone.embed(batch)
        streams += stream
    mean = sums[0] / seen
    return Collected(
        mlp_input=torch.cat(inputs),
        stream=torch.cat(streams),
        embedding=torch.cat(embeddings),
        maps=torch.cat(maps),
        mean=mean.float(),
        sd=(sums[1] / seen - mean**2).clamp_min(0).sqrt().float(),
        norm=float(torch.cat(norms).median()),
    )


def last_map(cls_attention: Tensor, patches: slice) -> Tensor:
    """Return CLS's attention over the patches in the last block, mean of the heads, sum 1: [B, P]."""
    rows = cls_attention[-1].mean(dim=1)[:, patches]
    return rows / rows.sum(dim=1, keepdim=True)
