"""The parts of the training loss, each a sum over the batch with the number it is divided by kept apart.

Dividing by numbers that are summed over all micro-batches and processes is what makes gradient accumulation,
several processes and different K give the gradient of one big batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .collator import IGNORED


def answer_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    row_weights: torch.Tensor,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> torch.Tensor:
    """Weighted cross-entropy over answer tokens, summed.

    Args:
        logits: `(answer tokens, vocab_size)`, in the order of `scored_positions(labels)`.
        labels: `(rows, length)`, -100 where nothing is asked.
        row_weights: `(rows,)`.
        label_smoothing: Share of the target spread over the vocabulary (Szegedy et al. 2016, section 7).
        focal_gamma: Each token's loss is multiplied by (1 - p) ** gamma (Lin et al. 2017, eq. 4).

    Returns:
        The sum, a float32 scalar; divide by `answer_tokens` of the whole batch.
    """
    scored = labels[:, 1:] != IGNORED
    targets, logits = labels[:, 1:][scored], logits.float()
    losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    if focal_gamma:
        certainty = logits.softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
        losses = losses * (1 - certainty) ** focal_gamma
    weights = row_weights[:, None].expand(scored.shape)[scored]
    return (losses * weights).sum()


def scored_positions(labels: torch.Tensor) -> torch.Tensor:
    """Where logits are needed, `(rows, length)`: position t predicts token t + 1.

    Most positions are prompt or padding, and the vocabulary is the widest axis of the network.
    """
    return F.pad(labels[:, 1:] != IGNORED, (0, 1))


def answer_tokens(labels: torch.Tensor, row_weights: torch.Tensor) -> torch.Tensor:
    """Number of scored tokens, each counted with its row's weight: what `answer_loss` is divided by."""
    return ((labels[:, 1:] != IGNORED).sum(-1) * row_weights).sum()


def known_patches(patch_labels: torch.Tensor) -> torch.Tensor:
    """Number of known patch labels: what the summed patch loss is divided by."""
    return (patch_labels != IGNORED).sum()


def rows_with_evidence(evidence: torch.Tensor) -> torch.Tensor:
    """Number of rows `(rows, patches)` that have evidence: what the summed grounding loss is divided by."""
    return evidence.any(-1).sum()


def sigmoid_loss(
    image_embeddings: torch.Tensor,
    text_embeddings: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    positive: bool = True,
) -> torch.Tensor:
    """Pairwise sigmoid loss of SigLIP (Zhai et al. 2023, eq. 1), summed over all pairs of one chunk.

    Args:
        image_embeddings: `(images, size)`, of unit length.
        text_embeddings: `(texts, size)`, of unit length.
        scale: Scalar t, the temperature's exponential already taken.
        bias: Scalar b.
        positive: Whether text i belongs to image i. False for a chunk of texts from another process, all of
            them negatives: chunks travel round the processes, so that no process ever holds all pairs
                (section 3.3).
    """
    logits = image_embeddings @ text_embeddings.T * scale + bias
    signs = -torch.ones_like(logits)
    if positive:
        signs = signs + 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype)
    return -F.logsigmoid(signs * logits).sum()
