"""Pictures of what a model looks at while it answers one question about one frame.

Every heat map stands beside its faithfulness: how the answer fares when the map's strongest patches are
deleted, and when only they are shown.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Rectangle
from PIL import Image

from . import faithfulness, maps
from .command import CHECKPOINT, new_parser, run_command
from .figures import STYLE
from .grounding import Boxes, score_map
from .overlay import draw_heat, draw_overlay
from .predict import load_model

PANEL = 3.2
MOST_TOKENS = 12


def _panels(count: int, picture: Image.Image, columns: int = 4) -> tuple[Any, list[Any]]:
    """A figure with so many panels of the picture's shape."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    height = PANEL * picture.height / picture.width + 0.45
    size = (PANEL * columns, height * rows + 0.5)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    return figure, list(axes.flat)[:count]


def _show(axis: Any, picture: Image.Image, attention: np.ndarray, title: str, boxes: Boxes) -> None:
    """A heat map over the frame at its own resolution, with the labelled evidence outlined."""
    axis.imshow(draw_heat(picture, attention))
    for x1, y1, x2, y2 in boxes:
        corner, size = (x1 * picture.width, y1 * picture.height), (x2 - x1, y2 - y1)
        for colour, width in (("black", 2.6), ("white", 1.2)):
            axis.add_patch(
                Rectangle(
                    corner, size[0] * picture.width, size[1] * picture.height, fill=False, ec=colour, lw=width
                )
            )
    axis.set_title(title, fontsize=8.5)


def _finish(figure: Any, title: str, path: Path) -> Path:
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _answer(
    model: Any, processor: Any, picture: Image.Image, question: str
) -> tuple[dict[str, torch.Tensor], list[int]]:
    """The inputs of the question, and the tokens of the model's answer."""
    inputs = dict(processor(images=[picture], text=[question], return_tensors="pt"))
    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=32, do_sample=False)
    tokens = out[0, inputs["input_ids"].shape[1] :].tolist()
    ends = {processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id}
    length = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return inputs, tokens[:length]


def _words(processor: Any, tokens: Sequence[int]) -> list[str]:
    """Each token as it would be read; what is not a letter is shown by name."""
    names = {"\n": "(end)", "": "?"}
    texts = [processor.tokenizer.decode([token]) for token in tokens]
    return [names.get(text, text).strip() or "(space)" for text in texts]


def explain(
    model: Any, processor: Any, picture: Image.Image, question: str, output: Path, boxes: Boxes = ()
) -> dict[str, Any]:
    """Draw everything that there is to see about one answer.

    Args:
        model, processor: a checkpoint with cross-attention.
        picture: the frame.
        question: the question.
        output: folder of the pictures.
        boxes: labelled evidence, as fractions of the frame, outlined in the pictures and scored.

    Returns:
        answer, confidence (of its first word), scores (for each kind of map: deletion and insertion area,
        and with boxes the mass ratio and the pointing game), and pictures (their paths).

    Raises:
        ValueError: if the model has no cross-attention.
    """
    if not model.config.uses_cross_attention:
        raise ValueError(f"a model with fusion {model.config.fusion!r} has no cross-attention to draw")
    output.mkdir(parents=True, exist_ok=True)
    picture = picture.convert("RGB")
    inputs, tokens = _answer(model, processor, picture, question)
    answer = processor.tokenizer.decode(tokens).strip()
    probability = faithfulness.DecisionProbability(model, processor)
    confidence = float(probability.first_words([picture], [question]).max())
    kinds = {name: method(model, inputs)[0] for name, method in maps.METHODS.items()}
    scores = {name: _scores(probability, picture, question, m, boxes) for name, m in kinds.items()}
    title = f"{question}  \N{RIGHTWARDS ARROW}  {answer}  ({confidence:.0%} sure)"
    caption = _caption(scores["evidence"])
    overlay = output / "evidence.png"
    box = boxes[0] if boxes else None
    draw_overlay(picture, kinds["evidence"], question, f"{answer}  [{caption}]", confidence, box=box).save(
        overlay
    )
    full = {
        **inputs,
        "input_ids": torch.cat([inputs["input_ids"], torch.tensor([tokens], device=model.device)], dim=1),
    }
    full["attention_mask"] = torch.ones_like(full["input_ids"])
    with torch.inference_mode(), maps.eager_attention(model):
        out = model(**full, output_attentions=True, use_cache=False)
    grid, start = maps.grid_of(model, inputs), inputs["input_ids"].shape[1] - 1
    cross = torch.stack([layer[0] for layer in out.cross_attentions]).float().cpu().numpy()
    cross = cross.reshape(*cross.shape[:-1], *grid)
    pictures = [
        overlay,
        _kinds(picture, kinds, scores, title, boxes, output / "kinds-of-maps.png"),
        _tokens(
            picture,
            cross,
            start,
            _words(processor, tokens),
            f"{title}\n{caption}",
            boxes,
            output / "answer-tokens.png",
        ),
        _heads(
            picture, cross[:, :, start], f"{title}\n{caption}", boxes, output / "cross-attention-heads.png"
        ),
        _vision(picture, out.vision_attentions, kinds["evidence"], output / "vision-self-attention.png"),
        _language(
            out.attentions,
            _words(processor, full["input_ids"][0].tolist()),
            output / "language-self-attention.png",
        ),
    ]
    return {
        "answer": answer,
        "confidence": round(confidence, 4),
        "scores": scores,
        "pictures": [str(p) for p in pictures],
    }


def _scores(
    probability: Any, picture: Image.Image, question: str, attention: np.ndarray, boxes: Boxes
) -> dict[str, float]:
    """Faithfulness of one map, and with boxes its grounding."""
    curves = faithfulness.curves(probability, [picture], [question], attention[None])
    result = {"deletion": curves["deletion_area"], "insertion": curves["insertion_area"]}
    if len(boxes):
        found = score_map(attention, boxes)
        result |= {"ratio": round(found["ratio"], 3), "pointing": found["pointing"]}
    return result


def _caption(scores: dict[str, float]) -> str:
    text = f"faithfulness: deletion {scores['deletion']:.2f}, insertion {scores['insertion']:.2f}"
    return text + (f", mass ratio {scores['ratio']:.1f}" if "ratio" in scores else "")


def _kinds(picture: Image.Image, kinds: dict, scores: dict, title: str, boxes: Boxes, path: Path) -> Path:
    """Evidence map, gradient-weighted attention and rollout side by side."""
    figure, axes = _panels(len(kinds), picture, columns=3)
    for axis, (name, attention) in zip(axes, kinds.items(), strict=True):
        _show(
            axis,
            picture,
            attention,
            f"{name}\n{_caption(scores[name]).removeprefix('faithfulness: ')}",
            boxes,
        )
    return _finish(figure, title, path)


def _tokens(
    picture: Image.Image,
    cross: np.ndarray,
    start: int,
    words: list[str],
    title: str,
    boxes: Boxes,
    path: Path,
) -> Path:
    """Where the model looks before it says each word, and on average; means over layers and heads."""
    by_token = cross[:, :, start : start + max(len(words), 1)].mean((0, 1))
    shown = list(zip(words[:MOST_TOKENS], by_token, strict=False))
    figure, axes = _panels(len(shown) + 1, picture)
    for axis, (word, attention) in zip(axes, shown, strict=False):
        _show(
            axis,
            picture,
            attention,
            f"before \N{LEFT DOUBLE QUOTATION MARK}{word}\N{RIGHT DOUBLE QUOTATION MARK}",
            boxes,
        )
    _show(axes[-1], picture, by_token.mean(0), "average over the answer", boxes)
    return _finish(figure, title, path)


def _heads(picture: Image.Image, cross: np.ndarray, title: str, boxes: Boxes, path: Path) -> Path:
    """Every layer and head at the question's last token."""
    layers, heads = cross.shape[:2]
    figure, axes = _panels(layers * heads, picture, columns=heads)
    for axis, (layer, head) in zip(axes, np.ndindex(layers, heads), strict=True):
        _show(axis, picture, cross[layer, head], f"layer {layer}, head {head}", boxes)
    return _finish(figure, title, path)


def _vision(
    picture: Image.Image, attentions: Sequence[torch.Tensor], evidence: np.ndarray, path: Path
) -> Path:
    """What the patch that the answer looks at most gathers from, in every layer and head of the encoder."""
    at = int(evidence.argmax())
    row, column = np.unravel_index(at, evidence.shape)
    stacked = torch.stack([layer[0, :, at] for layer in attentions]).float().cpu().numpy()
    layers, heads = stacked.shape[:2]
    figure, axes = _panels(layers * heads, picture, columns=heads)
    high, wide = 1 / evidence.shape[0], 1 / evidence.shape[1]
    patch = [(column * wide, row * high, (column + 1) * wide, (row + 1) * high)]
    for axis, (layer, head) in zip(axes, np.ndindex(layers, heads), strict=True):
        attention = stacked[layer, head].reshape(evidence.shape)
        _show(axis, picture, attention, f"layer {layer}, head {head}", patch)
    return _finish(
        figure,
        "Vision encoder: what the outlined patch gathers from (self-attention, no claim of cause)",
        path,
    )


def _language(attentions: Sequence[torch.Tensor], words: list[str], path: Path) -> Path:
    """Which earlier word each word reads, in every layer and head of the decoder."""
    stacked = torch.stack([layer[0] for layer in attentions]).float().cpu().numpy()
    layers, heads = stacked.shape[:2]
    size = max(2.4, 0.17 * len(words) + 0.9)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        shape = (size * heads, size * layers + 0.6)
        figure, axes = plt.subplots(layers, heads, figsize=shape, squeeze=False, layout="constrained")
        for layer, head in np.ndindex(layers, heads):
            axis: Any = axes[layer, head]
            axis.imshow(np.sqrt(stacked[layer, head]), cmap="cividis", vmin=0, vmax=1)
            axis.set_title(f"layer {layer}, head {head}", fontsize=9)
            axis.set_xticks(range(len(words)), words if layer == layers - 1 else [], rotation=90, fontsize=7)
            axis.set_yticks(range(len(words)), words if head == 0 else [], fontsize=7)
        return _finish(
            figure,
            "Decoder: which earlier word (column)\neach word (row) reads, brightest most",
            path,
        )


def main(arguments: list[str] | None = None, description: str | None = __doc__) -> int:
    """The command line of scripts/visualize.py.

    Args:
        arguments: by default those of the process.
        description: shown by `--help`.

    Returns:
        0, or 2 after one line that says what was wrong.
    """
    parser = new_parser(description)
    parser.add_argument("--image", type=Path, required=True, help="the frame")
    parser.add_argument("--text", required=True, help="the question")
    parser.add_argument("--output", type=Path, default=Path("attention"), help="folder of the pictures")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="folder of the model")
    parser.add_argument(
        "--box", type=float, nargs=4, action="append", default=[], metavar=("X1", "Y1", "X2", "Y2"),
        help="labelled evidence as fractions of the frame; may be repeated",
    )  # fmt: skip
    args = parser.parse_args(arguments)

    def work() -> str:
        from traffic_vlm.processing.image_processing_traffic_vlm import open_image

        picture = open_image(args.image)
        result = explain(*load_model(args.checkpoint), picture, args.text, args.output, args.box)
        said = f"{args.text} -> {result['answer']} ({result['confidence']:.0%} sure)"
        return "\n".join([said, *result["pictures"]])

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
