"""Draw docs/attributions.png: five attributions of a real DINOv2 ViT-S/14, of it with artifacts, and wrapped.

The class of a picture is the picture itself: a head of one row an image, its own feature of the original,
centred, as a one-shot classifier has it. All models are asked by the same head.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import ttr
from ttr.backbones.base import Backbone
from ttr.datasets.registry import open_image, sample_paths
from ttr.drawing.maps import ATTENTION_MAP, below_extremes, colourise, png_of
from ttr.drawing.picture_table import Cell, draw_table

METHODS = ("attention", "value-attention", "rollout", "legrad", "gradcam")
WITH_A_CLASS = ("legrad", "gradcam")
SIZE = 518


def one_shot(features: Tensor) -> nn.Linear:
    """Return a head whose classes are the images themselves, of features [B, D]."""
    rows = nn.functional.normalize(features - features.mean(dim=0))
    head = nn.Linear(features.shape[1], len(features), bias=False)
    head.weight.data = rows
    return head


def maps(backbone: Backbone, images: Tensor, head: nn.Linear) -> dict[str, np.ndarray]:
    """Return [B, rows, columns] of each method."""
    asked = {"head": head, "target": range(len(images))}
    return {
        method: ttr.attribute(backbone, images, method=method, **(asked if method in WITH_A_CLASS else {}))
        .cpu()
        .numpy()
        for method in METHODS
    }


def main() -> None:
    """Measure and draw."""
    pictures = {name: open_image(path) for name, path in sample_paths().items()}
    original = ttr.load("dinov2-vit-s-14", pretrained=True, image_size=SIZE)
    planted = ttr.load("phantom-dinov2", pretrained=True, image_size=SIZE)
    images = torch.stack([original.preprocess(each) for each in pictures.values()])
    head = one_shot(original.embed(images))
    found = {"as it is": maps(original, images, head), "artifacts planted": maps(planted, images, head)}
    with ttr.TestTimeRegisters(planted, ttr.RegisterNeurons.from_pairs(planted.planted), num_registers=1):
        found["one register"] = maps(planted, images, head)
    rows = {}
    for number, (name, picture) in enumerate(pictures.items()):
        pixels = np.asarray(picture.convert("RGB").resize((224, 224)))
        for state, of_methods in found.items():
            cells = [Cell(pixels)]
            for method, values in of_methods.items():
                truth = found["as it is"][method][number]
                cosine = (
                    np.vdot(values[number], truth) / np.linalg.norm(values[number]) / np.linalg.norm(truth)
                )
                drawn = colourise(values[number], below_extremes(truth), ATTENTION_MAP, (224, 224))
                cells.append(Cell(drawn, "" if state == "as it is" else f"cosine {cosine:.3f}"))
            rows[f"{name}, {state}"] = cells
    figure = draw_table(("image", *METHODS), rows)
    with Image.open(png_of(figure)) as drawn:
        drawn.convert("RGB").quantize(160).save(Path(__file__).with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
