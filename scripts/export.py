"""Write a checkpoint as three graphs (encoder, prefill, decode) that answer without PyTorch.

Examples:
    python scripts/export.py --output outputs/onnx
    python scripts/export.py --output outputs/onnx --int8 --measure data/bdd100k_questions --split tune
    python scripts/export.py --output outputs/programs --format torch_export --dtype bfloat16
    python -m traffic_vlm.deployment.session outputs/onnx --image frame.jpg --text "Is the left lane clear?"
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from traffic_vlm.processing.extras import needs

DEFAULT_CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "traffic-vlm"


def describe(found: dict[str, Any]) -> str:
    """Write what eight bits cost as lines for a terminal."""
    rows = {
        "same decision": found["agreement"],
        "accuracy, float": found["accuracy"],
        "accuracy, 8 bit": found["other_accuracy"],
        "change": found["change"],
    }
    lines = [f"{found['questions']} questions about {found['frames']} frames, in percent [95% interval]"]
    for name, value in rows.items():
        low, high = value["interval"] or (float("nan"), float("nan"))
        lines.append(f"{name:16} {100 * value['mean']:7.2f}  [{100 * low:.2f}, {100 * high:.2f}]")
    return "\n".join(lines)


def size_of(folder: Path) -> str:
    """Megabytes of the graphs in a folder."""
    total = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".onnx", ".pt2"))
    return f"{total / 1e6:.1f} MB"


def run(options: argparse.Namespace) -> None:
    """Export, quantise and measure what was asked for."""
    # What can be refused is refused before anything heavy is loaded.
    if not (options.checkpoint / "config.json").is_file():
        raise FileNotFoundError(f"{options.checkpoint}: no checkpoint here (config.json is missing).")
    if options.format == "onnx" and options.dtype != "float32":
        raise ValueError(
            f"--dtype {options.dtype}: ONNX Runtime's CPU kernels want float32; use --format torch_export."
        )
    if options.measure is not None:
        with needs("eval"):
            from traffic_vlm.evaluation.predict import open_frames
        open_frames(options.measure, options.split)
    import torch
    import transformers
    from traffic_vlm.deployment.export import export

    transformers.logging.set_verbosity_error()  # weights that are missing are told of below, in a line
    transformers.logging.disable_progress_bar()
    output = options.output.resolve()  # "." has no name to which -int8 could be added
    folder = export(options.checkpoint, output, options.format, getattr(torch, options.dtype))
    print(f"{folder}: encoder, prefill and decode, {size_of(folder)}")
    if not options.int8:
        return
    from traffic_vlm.deployment.quantize import compare, quantize

    small = quantize(folder, folder.with_name(folder.name + "-int8"))
    print(f"{small}: the same with eight-bit matrices, {size_of(small)}")
    if options.measure is not None:
        print(describe(compare(folder, small, options.measure, options.split, options.frames)))


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; 2 when something given is unusable."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="folder to write")
    parser.add_argument("--format", choices=("onnx", "torch_export"), default="onnx")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--int8", action="store_true", help="also write OUT-int8, with eight-bit matrices")
    parser.add_argument(
        "--measure", type=Path, metavar="DATASET", help="with --int8: what it costs, on this data set"
    )
    parser.add_argument("--split", default="tune", help="of the data set, default: %(default)s")
    parser.add_argument("--frames", type=int, default=100, help="how many at most, default: %(default)s")
    options = parser.parse_args(arguments)
    if options.frames < 1:
        parser.error("--frames must be at least 1")
    if options.int8 and options.format != "onnx":
        parser.error("--int8 is for --format onnx")
    if options.measure is not None and not options.int8:
        parser.error("--measure needs --int8: it compares eight bits with float32")
    try:
        run(options)
    except (OSError, ValueError) as error:
        print(f"error: {(str(error).splitlines() or [type(error).__name__])[0]}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"error: {error}; install it with pip install 'traffic-vlm[export]'", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
