"""Supervised grounding: what stands in each patch, and whether chosen heads look at the evidence.

Both are training aids. An exported checkpoint may drop the patch head (`num_patch_labels = 0`) without a
change in its answers, and the grounding loss has no weights at all.
"""

import torch
from torch import nn

from .configuration_traffic_vlm import TrafficVLMConfig


class PatchHead(nn.Module):
    """Says for each patch which labels (categories, light colours, ...) touch it."""

    def __init__(self, config: TrafficVLMConfig):
        super().__init__()
        width = config.vision_config.hidden_size
        self.norm = nn.LayerNorm(width, eps=config.vision_config.layer_norm_eps)
        self.classifier = nn.Linear(width, config.num_patch_labels)

    def forward(self, patch_states: torch.Tensor) -> torch.Tensor:
        """`(num_images, num_patches, width)` -> logits `(num_images, num_patches, num_patch_labels)`."""
        return self.classifier(self.norm(patch_states))


def patch_loss(patch_logits: torch.Tensor, patch_labels: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy over the patch labels that are known.

    Args:
        patch_logits: `(num_images, num_patches, num_patch_labels)`.
        patch_labels: Same shape, 1 = touches the patch, 0 = does not, -100 = unknown (not scored).

    Returns:
        A scalar in nats; 0 when nothing is known.
    """
    known = patch_labels >= 0
    targets = patch_labels.clamp(min=0).to(patch_logits.dtype)
    losses = nn.functional.binary_cross_entropy_with_logits(patch_logits, targets, reduction="none")
    # Summed in float32: hundreds of thousands of terms do not fit bfloat16's 8 bits.
    return losses.mul(known).sum(dtype=torch.float32) / known.sum().clamp(min=1)


def grounding_loss(grounding_maps: torch.Tensor, evidence: torch.Tensor) -> torch.Tensor:
    """-log of the attention mass inside the evidence, mean over heads and over rows that have evidence.

    Args:
        grounding_maps: Attention probabilities `(rows, num_grounding_heads, num_patches)`, each summing to 1.
        evidence: `(rows, num_patches)`, 1 where a patch touches an evidence box, else 0. Rows without any 1
            are skipped (no evidence is not evidence of absence).

    Returns:
        A scalar in nats; 0 when no row has evidence.
    """
    inside = evidence > 0
    has_evidence = inside.any(dim=-1)
    mass = (grounding_maps.float() * inside[:, None, :]).sum(dim=-1)
    losses = -torch.log(mass + 1e-6).mean(dim=-1)
    return losses.mul(has_evidence).sum() / has_evidence.sum().clamp(min=1)
