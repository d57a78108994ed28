"""Ask questions about a frame: answer, confidence, and a picture of where the model looked.

Examples:
    python scripts/ask.py --image frame.jpg --text "Is the left lane clear?" --overlay out.png
    python scripts/ask.py --scene 7 --text "What is the weather?" --text "Can I move forward?" --json
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from traffic_vlm.processing.loading import check_checkpoint, first_line, load_pipeline

DEFAULT_CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "traffic-vlm"


def load_frame(image: str | None, scene: int | None) -> Image.Image:
    """Open the picture that was named, or render the synthetic street scene of a seed."""
    if image is not None:
        from traffic_vlm.processing.image_processing_traffic_vlm import open_image

        return open_image(image)
    try:
        from traffic_vlm.processing.synthetic import render_scene
    except ImportError as error:
        raise ValueError(f"--scene needs pip install 'traffic-vlm[render]' ({error}).") from error
    return render_scene(scene).image


def draw(frame: Image.Image, results: list[dict[str, Any]], pipe: Any) -> Image.Image:
    """Draw one panel a question, each with how faithful its heat is, below each other.

    Raises:
        ValueError: If the model cannot say where it looked.
    """
    from traffic_vlm.evaluation.faithfulness import DecisionProbability, areas, describe
    from traffic_vlm.evaluation.overlay import draw_overlay, stack_panels

    if any(result["evidence_map"] is None for result in results):
        raise ValueError("--overlay: this checkpoint has no cross-attention, so there is no heat to draw.")
    reader = DecisionProbability(pipe.model, pipe.processor)
    found = [areas(reader, frame, result["question"], result["evidence_map"][None]) for result in results]
    return stack_panels(
        [
            draw_overlay(
                frame,
                result["evidence_map"],
                result["question"],
                result["answer"],
                result["confidence"],
                result["abstained"],
                [result["evidence"][0]["box"]],
                note=f"How faithful the heat is: {describe(scores)}.",
            )
            for result, (scores,) in zip(results, found, strict=True)
        ]
    )


def save_whole(image: Image.Image, path: Path) -> None:
    """Write a picture under its name only once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        image.save(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def describe(result: dict[str, Any]) -> str:
    """Write one result as lines for a terminal."""
    sure = f"{result['confidence']:.0%} sure" + (", better not relied upon" if result["abstained"] else "")
    lines = [f"Q: {result['question']}", f"A: {result['answer'] or '(no answer)'}  ({sure})"]
    if result["alternatives"]:
        others = ", ".join(
            f"{text or '(none)'} {share:.0%}" for text, share in result["alternatives"].items()
        )
        lines.append(f"   otherwise: {others}")
    for region in result["evidence"]:
        x1, y1, x2, y2 = region["box"]
        lines.append(
            f"   looked at: x {x1:.2f}-{x2:.2f}, y {y1:.2f}-{y2:.2f} ({region['mass']:.0%} of attention)"
        )
    return "\n".join(lines)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Refuse what can be refused before anything is loaded (ValueError)."""
    for text in arguments.text:
        if not text.strip():
            raise ValueError("--text: the question is empty.")
    if arguments.overlay is not None:
        # Some kinds Pillow can only read.
        if Image.registered_extensions().get(arguments.overlay.suffix.lower()) not in Image.SAVE:
            raise ValueError(
                f"{arguments.overlay}: unknown kind of picture; use a name ending in .png or .jpg."
            )
        if arguments.overlay.is_dir():
            raise ValueError(f"{arguments.overlay}: is a folder, not a file to write.")


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, ask, print, draw; 2 when something given is unusable."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--image", metavar="F", help="picture: a path, an http(s) or a data: address")
    source.add_argument("--scene", type=int, metavar="SEED", help="render a synthetic street scene instead")
    parser.add_argument(
        "--text", action="append", required=True, metavar="Q", help="question; may be repeated"
    )
    parser.add_argument("--overlay", type=Path, metavar="OUT.png", help="draw where the model looked")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--checkpoint", default=str(DEFAULT_CHECKPOINT), metavar="DIR", help="default: %(default)s"
    )
    arguments = parser.parse_args(argv)
    try:
        check_arguments(arguments)
        check_checkpoint(arguments.checkpoint)
        frame = load_frame(arguments.image, arguments.scene)
        pipe = load_pipeline(arguments.checkpoint)
        results = pipe(image=frame, question=arguments.text, return_maps=arguments.overlay is not None)
        if arguments.overlay is not None:
            save_whole(draw(frame, results, pipe), arguments.overlay)
    except (ValueError, OSError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    for result in results:
        result.pop("evidence_map", None)
    text = (
        json.dumps(results, indent=2, ensure_ascii=False)
        if arguments.json
        else "\n".join(map(describe, results))
    )
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")  # what is redirected on Windows has another encoding
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Whoever was reading has gone (`| head -1`). Python's own flush at exit must not find that out again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
