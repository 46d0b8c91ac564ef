"""Neurons by gradient: what the outliers' norm would lose, to first order, if a neuron were silent there.

    c_l,i = mean over outliers t of |a_l,i(t) dn / da_l,i(t)|,    n = sum over outliers t of ||x_t||

where a is the input of block l's down-projection and x_t the token at the output of the block where outliers
are read. It is activation times gradient (Shrikumar et al. 2016, arXiv 1605.01713; for neurons: Leino et al.
2018, arXiv 1802.03788). One backward pass a batch; images do not touch each other's gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.errors import ModelError
from ttr.hooks import evaluation_mode, keep


def contributions(backbone: Backbone, images: Tensor, layer: int, outliers: Tensor) -> Tensor:
    """Return the contribution of every neuron at the outliers of each image, float32 [L, B, hidden].

    Args:
        backbone: the bare backbone; its weights gather no gradient.
        images: [B, C, H, W], on the model's device.
        layer: block at whose output outliers are read; later blocks contribute nothing.
        outliers: bool [B, N].

    Raises:
        ModelError: the model passes no gradient.
    """
    sites = backbone.sites
    seen = images.to(backbone.dtype).detach().requires_grad_()
    blocks = slice(0, layer + 1)
    with (
        torch.enable_grad(),
        evaluation_mode(backbone.model),
        keep(sites.neurons[blocks]) as activations,
        keep([sites.blocks[layer]]) as tokens,
    ):
        backbone.features(seen)
        norms = torch.linalg.vector_norm(tokens[0].float(), dim=-1)
        try:
            gradients = torch.autograd.grad((norms * outliers).sum(), activations)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ModelError(
                f"{backbone.name} passes no gradient ({str(error).splitlines()[0]}); detect outside of "
                "torch.inference_mode and before quantising the model, or by norms"
            ) from error
    found = images.new_zeros((backbone.num_layers, len(images), backbone.num_neurons), dtype=torch.float32)
    weights = outliers / outliers.sum(dim=1, keepdim=True).clamp(min=1)
    for block, (a, gradient) in enumerate(zip(activations, gradients, strict=True)):
        product = (a.detach().float() * gradient.float()).abs_()
        found[block] = torch.einsum("bn,bnh->bh", weights.float(), product)
    return found
