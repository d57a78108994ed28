"""Measure how fast asking, training and the data side are on this machine.

Examples:
  python scripts/benchmark.py ask
  python scripts/benchmark.py train --packed packed --config configs/train/small.yaml --peak-tflops 312
  python scripts/benchmark.py train --synthetic 64 optim.batch_size=16
  python scripts/benchmark.py images --bdd100k-root BDD100K
  python scripts/benchmark.py questions --bdd100k-root BDD100K --records 80000
  python scripts/benchmark.py render --synthetic 300
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from traffic_vlm.processing.extras import needs

EXTRAS = {"ask": "render", "train": "train", "images": "data", "questions": "data", "render": "render"}
CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "traffic-vlm"
ONE = ["Is the left lane clear?"]
SIXTEEN = [*ONE, "Can I move forward?", "What is the weather?", "Is there a pedestrian?"] * 4


def median_seconds(function, repeats: int) -> float:
    """Median time of a call, after two calls that warm up."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def measure_ask(checkpoint: Path, repeats: int) -> None:
    """Prints the time from a picture and questions to answers with confidence and evidence, on a warm
    model."""
    import torch
    import transformers
    from traffic_vlm.processing.pipeline_traffic_vlm import TASK, TrafficQuestionAnsweringPipeline
    from traffic_vlm.processing.synthetic import render_scene

    model = transformers.AutoModelForImageTextToText.from_pretrained(checkpoint, trust_remote_code=True)
    processor = transformers.AutoProcessor.from_pretrained(checkpoint, trust_remote_code=True)
    pipe = TrafficQuestionAnsweringPipeline(model=model.float().eval(), processor=processor, task=TASK)
    frame = render_scene(7).image
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{parameters:.2f}M parameters, {torch.get_num_threads()} threads")
    for questions in (ONE, SIXTEEN):
        seconds = median_seconds(lambda: pipe(image=frame, question=questions), repeats)  # noqa: B023
        print(f"{len(questions):3d} question(s) of a frame: {seconds * 1000:.0f} ms (median of {repeats})")


def measure_train(
    config: Path, overrides: list[str], packed: Path | None, frames: int, repeats: int, peak: float | None
) -> None:
    """Prints frames and questions a second, the loader's share of the time, memory, and the utilisation."""
    from traffic_vlm.training.recipe import load_recipe
    from traffic_vlm.training.speed import describe_speed

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        dataset = packed or make_synthetic(Path(folder), frames)
        where = [f"data.dataset={dataset.as_posix()}", f"run.output={Path(folder, 'run').as_posix()}"]
        recipe = load_recipe(config, [*where, "run.validate_split=train", *overrides])
        print(describe_speed(recipe, repeats, peak))


def measure_images(root: Path) -> None:
    """Prints pictures a second against bare decoding: of the files as they are, and at the release's size."""
    from itertools import islice

    from traffic_vlm.processing.bdd100k.speed import enlarged, pictures_a_second

    found = islice(sorted((root / "images" / "100k").glob("*/*.jpg")), 200)
    files = [path.read_bytes() for path in found]
    if not files:
        raise ValueError(f"{root}: no pictures in images/100k.")
    for title, given in (("as they are", files), ("enlarged to 1280x720", enlarged(files))):
        rates = pictures_a_second(given)
        print(f"{len(given)} pictures {title}, to 288x160, pictures a second on one core:")
        print(f"  bare decoding at full size         {rates['bare']:6.0f}")
        print(f"  the same, with our faster settings {rates['hurried']:6.0f}")
        print(f"  bare decoding at the least size    {rates['scaled']:6.0f}")
        shares = (rates["collated"] / rates[name] for name in ("bare", "hurried", "scaled"))
        print(
            f"  decoded, resized and collated      {rates['collated']:6.0f}"
            f" ({', '.join(f'{share:.0%}' for share in shares)} of these)"
        )


def measure_questions(root: Path, number: int) -> None:
    """Prints the time from label records to questions in two processes, and their peak memory."""
    from traffic_vlm.processing.bdd100k.speed import questions_a_second

    for masks in (False, True):
        found = questions_a_second(root, number, masks=masks)
        rate = found["records"] / found["seconds"]
        print(
            f"{'with' if masks else 'without'} drivable masks: {found['records']} records,"
            f" {found['questions']} questions in {found['seconds']:.0f} s ({rate:.0f} records/s;"
            f" {found['busy']:.0f} s of processor time, {found['busy'] / 2:.0f} s on two free cores),"
            f" at most {found['megabytes']:.0f} MB a process"
        )


def measure_render(frames: int) -> None:
    """Prints frames rendered a second by two processes."""
    from traffic_vlm.processing.bdd100k.speed import busy_seconds
    from traffic_vlm.processing.synthetic.dataset import render_dataset

    start, busy = time.perf_counter(), busy_seconds()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        render_dataset(Path(folder), frames, workers=2, splits={"train": 1.0})
    seconds, busy = time.perf_counter() - start, busy_seconds() - busy
    print(
        f"{frames} frames of 512x288 with labels and masks in {seconds:.1f} s: {frames / seconds:.1f}/s;"
        f" {busy:.1f} s of processor time, {2 * frames / busy:.1f}/s on two free cores"
    )


def make_synthetic(folder: Path, frames: int) -> Path:
    """Renders frames and builds their questions."""
    from traffic_vlm.processing.bdd100k.build import BuildOptions, build
    from traffic_vlm.processing.synthetic import render_dataset

    render_dataset(folder / "release", frames)
    build(folder / "release", folder / "questions", BuildOptions(source="synthetic"))
    return folder / "questions"


def measure(arguments: argparse.Namespace) -> None:
    """Measures what the command line asks for."""
    if arguments.what == "ask":
        measure_ask(arguments.checkpoint, arguments.repeats)
    elif arguments.what == "images":
        measure_images(arguments.bdd100k_root)
    elif arguments.what == "questions":
        measure_questions(arguments.bdd100k_root, arguments.records)
    elif arguments.what == "render":
        measure_render(arguments.synthetic)
    else:
        measure_train(
            arguments.config,
            arguments.overrides,
            arguments.packed,
            arguments.synthetic,
            arguments.repeats,
            arguments.peak_tflops,
        )


def main() -> int:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["ask", "train", "images", "questions", "render"])
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--config", type=Path, default=Path("configs/train/small.yaml"))
    parser.add_argument("--packed", type=Path, help="packed data set; otherwise frames are rendered")
    parser.add_argument("--synthetic", type=int, default=64, help="how many frames to render")
    parser.add_argument("--bdd100k-root", type=Path, metavar="R", help="for images and questions")
    parser.add_argument("--records", type=int, default=80_000, help="label records to go through")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--peak-tflops", type=float, metavar="T", help="the device's peak, for train")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    arguments = parser.parse_intermixed_args()
    try:
        if arguments.what in ("images", "questions") and arguments.bdd100k_root is None:
            raise ValueError(f"{arguments.what} needs --bdd100k-root, the folder of a BDD100K release.")
        with needs(EXTRAS[arguments.what]):
            measure(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
