"""A pass edited by plain hooks, as the predecessors' code does it: one image, registers at the END."""

from __future__ import annotations

import torch


def feature_edited_by_hand(backbone, image, registers, edits):
    """Return the feature of ONE image [3, H, W], with zero tokens behind the patches.

    ``edits`` has for each block what is made of the input of its down-projection, [1, N + registers, hidden].
    """
    entry = backbone.sites.entry.module

    def blank(module, args):
        return torch.cat([args[0], torch.zeros(1, registers, args[0].shape[2])], dim=1)

    handles = [entry.register_forward_pre_hook(blank)]
    for layer, edit in edits.items():
        module = backbone.sites.neurons[layer].module
        handles.append(module.register_forward_pre_hook(lambda module, args, edit=edit: (edit(args[0]),)))
    try:
        with torch.no_grad():
            return backbone.features(image[None])[0]
    finally:
        for handle in handles:
            handle.remove()
