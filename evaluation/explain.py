"""Pictures of what a model looks at while it answers one question about one frame.

Every heat map stands beside its faithfulness: how the answer fares when the map's strongest patches are
deleted, and when only they are shown.
"""

from __future__ import annotations

import math
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
from traffic_vlm.processing.pipeline_traffic_vlm import TASK, TrafficQuestionAnsweringPipeline

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
    height = PANEL * picture.height / picture.width + 0.42
    size = (PANEL * columns, height * rows + 0.45)
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
    axis.set_title(title, fontsize=8)


def _finish(figure: Any, title: str, path: Path) -> None:
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)
    plt.close(figure)


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
    names = {"\n": "(newline)", "": "?"}
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
        answer, confidence, scores (for each kind of map: deletion and insertion area,
        and with boxes the mass ratio and the pointing game), and pictures (their paths): one sheet of each
        kind, and an overlay at the frame's own size for each of the first `MOST_TOKENS` answer tokens and
        for their mean.

    Raises:
        ValueError: if the model has no cross-attention.
    """
    if not model.config.uses_cross_attention:
        raise ValueError(f"a model with fusion {model.config.fusion!r} has no cross-attention to draw")
    output.mkdir(parents=True, exist_ok=True)
    for stale in output.glob("answer-token-*.png"):  # of a longer answer
        stale.unlink()
    picture = picture.convert("RGB")
    inputs, tokens = _answer(model, processor, picture, question)
    answer = processor.tokenizer.decode(tokens).strip()
    probability = faithfulness.DecisionProbability(model, processor)
    pipe = TrafficQuestionAnsweringPipeline(model=model, processor=processor, task=TASK)
    (said,) = pipe(image=picture, question=question, top_k=0)
    confidence = said["confidence"]
    looks = _attend(model, inputs, tokens)
    kinds = {name: method(model, inputs)[0] for name, method in maps.METHODS.items()}
    by_token = _by_token(looks["cross"], _words(processor, tokens)[:MOST_TOKENS])
    title = f"{question}  \N{RIGHTWARDS ARROW}  {answer}  ({confidence:.0%} sure)"
    vision = f"{title}\nVision encoder: what the outlined patch gathers from; mass ratio: from itself"
    sheets: dict[str, tuple[dict[str, np.ndarray], int, str, Boxes]] = {
        "kinds-of-maps": (kinds, 3, title, boxes),
        "answer-tokens": (by_token, 4, title, boxes),
        "cross-attention-heads": (*_by_head(looks["cross"][:, :, 0]), title, boxes),
        "vision-self-attention": (
            *_by_head(_gathered(looks["vision"], kinds["evidence"])), vision, [_patch_box(kinds["evidence"])]
        ),
    }  # fmt: skip
    weighed = {}
    for name, (heats, columns, head, outlined) in sheets.items():
        weighed[name] = _scores(probability, picture, question, np.stack(list(heats.values())), outlined)
        _draw(picture, heats, weighed[name], outlined, columns, head, output / f"{name}.png")
    _language(looks["language"], _words(processor, looks["ids"]), output / "language-self-attention.png")
    overlays = {"evidence": ("How faithful the heat is", kinds["evidence"], weighed["kinds-of-maps"][0])}
    for number, ((what, heat), found) in enumerate(
        zip(by_token.items(), weighed["answer-tokens"], strict=True)
    ):
        overlays[f"answer-token-{number + 1:02d}"] = (what, heat, found)
    for name, (what, heat, found) in overlays.items():
        note = f"{what}: {faithfulness.describe(found)}."
        drawn = draw_overlay(
            picture, heat, question, answer, confidence, said["abstained"], boxes=boxes, note=note
        )
        drawn.save(output / f"{name}.png")
    return {
        "answer": answer,
        "confidence": round(confidence, 4),
        "scores": dict(zip(kinds, weighed["kinds-of-maps"], strict=True)),
        "pictures": [str(output / f"{name}.png") for name in (*sheets, "language-self-attention", *overlays)],
    }


def _attend(model: Any, inputs: dict[str, torch.Tensor], tokens: list[int]) -> dict[str, Any]:
    """Every attention map while the answer is said.

    Returns:
        cross (layers, heads, 1 + answer tokens, grid height, grid width) from the question's last token on,
        vision (layers, heads, patches, patches), language (layers, heads, length, length), and the ids.
    """
    ids = torch.cat([inputs["input_ids"], torch.tensor([tokens], device=model.device)], dim=1)
    full = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.inference_mode(), maps.eager_attention(model):
        out = model(**full, output_attentions=True, use_cache=False)
    names = {"cross": "cross_attentions", "vision": "vision_attentions", "language": "attentions"}
    found: dict[str, Any] = {
        name: torch.stack([layer[0] for layer in out[attribute]]).float().cpu().numpy()
        for name, attribute in names.items()
    }
    cross = found["cross"][:, :, inputs["input_ids"].shape[1] - 1 :]
    found["cross"] = cross.reshape(*cross.shape[:-1], *maps.grid_of(model, inputs))
    return found | {"ids": ids[0].tolist()}


def _scores(
    probability: Any, picture: Image.Image, question: str, heats: np.ndarray, boxes: Boxes
) -> list[dict[str, float]]:
    """Faithfulness of every map, and with boxes its grounding."""
    found = faithfulness.areas(probability, picture, question, heats)
    for scores, heat in zip(found, heats if len(boxes) else (), strict=False):
        grounded = score_map(heat, boxes)
        scores |= {"ratio": round(grounded["ratio"], 3), "pointing": grounded["pointing"]}
    return found


def _by_token(cross: np.ndarray, words: list[str]) -> dict[str, np.ndarray]:
    """Where the model looks before it says each word, and on average; means over layers and heads."""
    by_token = cross[:, :, : max(len(words), 1)].mean((0, 1))
    quoted = [f"before \N{LEFT DOUBLE QUOTATION MARK}{w}\N{RIGHT DOUBLE QUOTATION MARK}" for w in words]
    numbered = [f"{i}: {text}" for i, text in enumerate(quoted, start=1)]
    return dict(zip(numbered, by_token, strict=False)) | {"average over the answer": by_token.mean(0)}


def _by_head(stacked: np.ndarray) -> tuple[dict[str, np.ndarray], int]:
    """Maps (layers, heads, height, width) by their names, and the number of heads."""
    layers, heads = stacked.shape[:2]
    pairs = np.ndindex(layers, heads)
    return {f"layer {layer}, head {head}": stacked[layer, head] for layer, head in pairs}, heads


def _gathered(vision: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """What the patch that the answer looks at most gathers from, (layers, heads, height, width)."""
    return vision[:, :, int(evidence.argmax())].reshape(*vision.shape[:2], *evidence.shape)


def _patch_box(evidence: np.ndarray) -> tuple[float, float, float, float]:
    """The strongest patch of a map as a box, fractions of the frame."""
    (row, column), (height, width) = np.unravel_index(int(evidence.argmax()), evidence.shape), evidence.shape
    return (column / width, row / height, (column + 1) / width, (row + 1) / height)


def _draw(
    picture: Image.Image,
    heats: dict[str, np.ndarray],
    scores: Sequence[dict[str, float]],
    boxes: Boxes,
    columns: int,
    title: str,
    path: Path,
) -> None:
    """Heat maps side by side, each with its name and its faithfulness."""
    figure, axes = _panels(len(heats), picture, columns)
    for axis, (name, heat), found in zip(axes, heats.items(), scores, strict=True):
        _show(axis, picture, heat, f"{name}\n{faithfulness.describe(found)}", boxes)
    _finish(figure, title, path)


def _language(stacked: np.ndarray, words: list[str], path: Path) -> None:
    """Which earlier word each word reads, in every layer and head of the decoder."""
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
        _finish(figure, "Decoder: which earlier word (column)\neach word (row) reads, brightest most", path)


def main(arguments: list[str] | None = None, description: str | None = __doc__) -> int:
    """The command line of scripts/visualize.py.

    Args:
        arguments: by default those of the process.
        description: shown by `--help`.

    Returns:
        0, or 2 after one line that says what was wrong.
    """
    parser = new_parser(description)
    parser.add_argument("--image", required=True, help="the frame: a path or an address")
    parser.add_argument("--text", required=True, help="the question")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/attention"),
        help="folder of the pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--checkpoint", type=Path, default=CHECKPOINT, help="folder of the model (default: %(default)s)"
    )
    parser.add_argument(
        "--box", type=float, nargs=4, action="append", default=[], metavar=("X1", "Y1", "X2", "Y2"),
        help="labelled evidence as fractions of the frame; may be repeated",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    for x1, y1, x2, y2 in args.box:
        if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
            parser.error(
                "--box: X1 Y1 X2 Y2 are fractions of the frame, 0 <= X1 < X2 <= 1, 0 <= Y1 < Y2 <= 1"
            )

    def work() -> str:
        from traffic_vlm.processing.image_processing_traffic_vlm import open_image

        picture = open_image(args.image)
        result = explain(*load_model(args.checkpoint), picture, args.text, args.output, args.box)
        said = f"{args.text} -> {result['answer']} ({result['confidence']:.0%} sure)"
        return "\n".join([said, *result["pictures"]])

    return run_command(work)
