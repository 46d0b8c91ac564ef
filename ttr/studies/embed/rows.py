"""What is kept of each image of a batch, all of one pass: the embedding, and whatever else was asked for."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.analysis.integration import full_output, restricted
from ttr.analysis.reference import Reference, refer
from ttr.backbones.base import Backbone
from ttr.forward.blocks import watch
from ttr.hooks import evaluation_mode, keep
from ttr.norms import Threshold, outlier_threshold, token_norms
from ttr.registers.neurons import RegisterNeurons
from ttr.studies.compare.comparison import yardstick
from ttr.studies.embed.settings import EmbedSettings


@dataclass(frozen=True)
class Rows:
    """How a batch becomes rows.

    Attributes:
        backbone: whose feature is the embedding.
        settings: what is kept.
        rule: what makes a patch an outlier.
        layer: block at whose output outliers are counted.
    """

    backbone: Backbone
    settings: EmbedSettings
    rule: Threshold
    layer: int

    @classmethod
    def of(cls, backbone: Backbone, neurons: RegisterNeurons, settings: EmbedSettings) -> Rows:
        """Return how batches of a backbone become rows.

        Raises:
            TTRError: what is asked for cannot be had of this model.
        """
        if settings.faithfulness:
            backbone.require_cls()
        rule, layer = yardstick(backbone, neurons, settings.threshold, settings.outlier_layer)
        return cls(backbone.with_pooling(settings.pooling), settings, rule, layer)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return what is kept of a batch [B, C, H, W], on its device; an installed wrap takes part.

        ``embedding`` [B, D]; if asked ``outlier_share`` [B], ``faithfulness`` [B], ``patches`` [B, P, D].
        """
        backbone, last, wanted = self.backbone, self.backbone.num_layers - 1, self.settings
        images = backbone.prepare(images)
        norms: list[Tensor] = []
        found: dict[str, Tensor] = {}
        with ExitStack() as stack:
            stack.enter_context(evaluation_mode(backbone.model))
            if wanted.outlier_share:
                norms = stack.enter_context(keep([backbone.sites.blocks[self.layer]], token_norms))
            seen = stack.enter_context(watch(backbone, last)) if wanted.faithfulness else {}
            if wanted.patch_tokens:
                found["embedding"], tokens = backbone.one_pass(images)
                found["patches"] = tokens.patches
            else:
                found["embedding"] = backbone.features(images)
        if wanted.outlier_share:
            layout = backbone.layout_of(images, norms[0].shape[1])
            found["outlier_share"] = _outlier_share(layout.select(norms[0], "patches"), self.rule)
        if wanted.faithfulness:
            layout = backbone.layout_of(images, seen[last].output.shape[1])
            patches = restricted(backbone, layout, last, seen, parts=["patches"])["patches"]
            found["faithfulness"] = self._amount(patches, full_output(backbone, layout, seen))
        return found

    @cached_property
    def reference(self) -> Reference | None:
        """What faithfulness is centred on: the library's images, through the model as it stands."""
        return refer(self.backbone)

    def _amount(self, patches: Tensor, full: Tensor) -> Tensor:
        """Return the centred cosine of each image, or where there is nothing to centre on the plain one."""
        plain = F.cosine_similarity(patches, full)
        if self.reference is None:
            return plain
        centred = self.reference.compared(patches.cpu(), full.cpu())["centred"].to(plain)
        return torch.where(centred.isnan(), plain, centred)

    def of_nothing(self) -> dict[str, Tensor]:
        """Return the rows of one blank image: their widths, where none of a shard could be read."""
        return self(torch.zeros(1, self.backbone.channels, *self.backbone.image_size))


def _outlier_share(patch_norms: Tensor, rule: Threshold) -> Tensor:
    """Return the share of patches above each map's own threshold, [B, P] -> [B]."""
    return (patch_norms > outlier_threshold(patch_norms, rule)[:, None]).float().mean(dim=1)
