"""The page itself: what is on it and what happens when it is used."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image
from traffic_vlm.processing.fleet import BATTERY
from traffic_vlm.processing.frames import VIDEOS, read_frames
from traffic_vlm.processing.image_processing_traffic_vlm import open_image
from traffic_vlm.processing.loading import first_line

from . import asking, cards, scenes

MODEL = {"concurrency_limit": 1, "concurrency_id": "model", "show_progress": "hidden"}
QUICK = {"queue": False, "show_progress": "hidden"}
MOST_FRAMES = 48
VIDEO_FRAMES_A_LOOK = 15
TOLD = (ValueError, OSError, ImportError)


def build_page(pipe: Any, thumbnails: Path) -> gr.Blocks:
    """Lay the page out.

    Args:
        pipe: A `TrafficQuestionAnsweringPipeline`.
        thumbnails: A folder for the small pictures of the scenes.
    """
    with gr.Blocks(title="TrafficVLM", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.HTML(cards.MASTHEAD)
        with gr.Tabs(elem_id="views"):
            with gr.Tab("One frame", render_children=True):
                one_frame(pipe, thumbnails)
            with gr.Tab("Many frames", render_children=True):
                many_frames(pipe)
    return page


def one_frame(pipe: Any, thumbnails: Path) -> None:
    """The first tab: pick a frame, ask about it, see the answer."""
    held = gr.State(None)
    gr.HTML("<h2>1. Pick a frame</h2>")
    with gr.Row(elem_classes="picker"):
        upload = gr.File(label="Choose a frame", show_label=False, elem_id="upload", height=104)
        scene_buttons = pick_a_scene(thumbnails)
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=5, min_width=320):
            shown = gr.HTML(cards.frame(None), elem_id="frame")
        with gr.Column(scale=6, min_width=320):
            gr.HTML("<h2>2. Ask about it</h2>")
            first = gr.Textbox(label="Question", value=BATTERY[0], elem_id="question", max_lines=2)
            with gr.Row(elem_classes="chips"):
                chips = [gr.Button(text, size="sm", elem_classes="chip", min_width=40) for text in BATTERY]
            second = gr.Dropdown(
                ["", *BATTERY], value="", allow_custom_value=True, elem_id="second",
                label="Compare with another question (optional)",
            )  # fmt: skip
            ask = gr.Button("Ask", variant="primary", elem_id="ask")
            told = gr.HTML(cards.status("Pick a frame to begin."), elem_id="status", elem_classes="live")
    gr.HTML('<h2 id="answers" tabindex="-1">3. The answer</h2>')
    output = gr.HTML(cards.EMPTY, elem_id="answer-cards")

    def on_ask(frame: Image.Image | None, one: str, two: str | None) -> Iterator[tuple[str, str]]:
        yield from ask_step_by_step(pipe, frame, one, two)

    asked = {"inputs": [held, first, second], "outputs": [told, output], **MODEL}
    asking_now = [gr.on([ask.click, first.submit], on_ask, api_name="ask", **asked)]
    for chip, text in zip(chips, BATTERY, strict=True):
        asking_now.append(chip.click(lambda text=text: text, outputs=first, **QUICK).then(on_ask, **asked))
    taken = [held, shown, told, output]
    # What is still said of the frame before must not appear beside the new one.
    picked = {"cancels": asking_now, **QUICK}
    upload.upload(take_file, upload, [*taken, upload], **picked)
    for button, seed in scene_buttons:
        button.click(lambda seed=seed: take_scene(seed), outputs=taken, **picked)


def pick_a_scene(thumbnails: Path) -> list[tuple[gr.Button, int | None]]:
    """Buttons with rendered scenes, the last for any other; none where scenes cannot be drawn."""
    if not scenes.can_render():
        gr.HTML('<p class="hint">Rendered scenes need the extra [render] and the system’s libGL.</p>')
        return []
    pictures = scenes.write_thumbnails(thumbnails)
    buttons: list[tuple[gr.Button, int | None]] = [
        (gr.Button(name, icon=pictures[name], elem_classes="scene", min_width=60), seed)
        for name, seed in scenes.SCENES.items()
    ]
    another = gr.Button("Render another", elem_classes="scene", elem_id="another", min_width=60)
    return [*buttons, (another, None)]


def take_scene(seed: int | None) -> tuple[Image.Image, str, str, str]:
    """Render a scene, any one without a seed, as the frame to ask about."""
    seed = random.randrange(100, 100_000) if seed is None else seed
    frame = scenes.render(seed)
    return frame, cards.frame(frame, f"rendered scene {seed}"), cards.status("Frame ready. Ask."), cards.EMPTY


def take_file(path: str | None) -> tuple[Any, ...]:
    """Open an uploaded picture; a bad one leaves the frame as it was and says what is wrong."""
    if path is None:
        return (gr.skip(),) * 5
    name = Path(path).name
    try:
        frame = open_image(path)
    except TOLD as error:
        text = first_line(error).replace(path, name)
        return (
            gr.skip(),
            gr.skip(),
            cards.problem(f"{text} Use a JPEG, PNG or WebP picture."),
            gr.skip(),
            None,
        )
    return frame, cards.frame(frame, name), cards.status("Frame ready. Ask."), cards.EMPTY, None


def ask_step_by_step(
    pipe: Any, frame: Image.Image | None, one: str, two: str | None
) -> Iterator[tuple[Any, Any]]:
    """Yield status and answers: first the answers, then each heat map with its score."""
    questions = [text.strip() for text in (one, two) if text and text.strip()]
    if frame is None or not questions:
        text = "Choose a frame or a scene first." if frame is None else "Type a question first."
        yield cards.problem(text), gr.skip()
        return
    yield cards.status("Looking at the frame and answering …", busy=True), gr.skip()
    try:
        results = asking.answer(pipe, frame, questions)
    except TOLD as error:
        yield cards.problem(first_line(error)), gr.skip()
        return
    tested: dict[int, asking.Faithfulness] = {}
    said = "; ".join(f"{result['answer']} {cards.percent(result['confidence'])} sure" for result in results)
    yield cards.status(f"{said}. Testing the heat map …", busy=True), cards.answers(results, frame)
    for number, faithful in asking.weigh_maps(pipe, frame, results):
        tested[number] = faithful
        yield gr.skip(), cards.answers(results, frame, tested)
    yield cards.status(f"Done: {said}."), cards.answers(results, frame, tested)


def many_frames(pipe: Any) -> None:
    """The second tab: the same questions about a folder of frames or a video."""
    held = gr.State({"questions": [], "frames": []})
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=5, min_width=320):
            gr.HTML("<h2>1. The frames</h2>")
            files = gr.File(
                label="Choose frames or a video",
                show_label=False,
                file_count="multiple",
                elem_id="upload-many",
                height=104,
            )
            folder = gr.UploadButton("Choose a folder", file_count="directory", size="sm", elem_id="folder")
            drive = gr.Button(
                "Take the rendered drive", size="sm", elem_id="drive", interactive=scenes.can_render()
            )
        with gr.Column(scale=6, min_width=320):
            gr.HTML("<h2>2. The battery</h2>")
            battery = gr.Textbox(
                "\n".join(BATTERY), label="Questions, one a line", lines=8, max_lines=8, elem_id="battery"
            )
    told = gr.HTML(cards.status("Give some frames to begin."), elem_id="status-many", elem_classes="live")
    gr.HTML("<h2>3. Frame by frame</h2>")
    slider = gr.Slider(1, 2, 1, step=1, label="Frame", elem_id="scrub", interactive=False, buttons=[])
    one = gr.HTML(cards.EMPTY_DRIVE, elem_id="one")
    table = gr.HTML("", elem_id="timeline")
    outputs = [told, held, slider, one, table]

    def on_files(paths: list[str] | None, questions: str) -> Iterator[tuple[Any, ...]]:
        yield from ask_about_all(pipe, uploaded(paths or []), questions)

    def on_drive(questions: str) -> Iterator[tuple[Any, ...]]:
        frames = ((f"rendered drive, frame {n + 1}", image) for n, image in enumerate(scenes.drive()))
        yield from ask_about_all(pipe, frames, questions)

    for source in (files, folder):
        source.upload(on_files, [source, battery], outputs, api_name="battery", **MODEL)
    drive.click(on_drive, battery, outputs, **MODEL)
    # Not "change": what is set here while frames come in would be answered late, over the newest frame.
    slider.input(scrub, [held, slider], [one, table], trigger_mode="always_last", **QUICK)


def uploaded(paths: list[str]) -> Iterator[tuple[str, Image.Image | str]]:
    """Name and picture of every frame of uploaded files, or what is wrong; of a video, two a second or so."""
    for path in sorted(paths, key=lambda path: Path(path).name):
        try:
            is_video = Path(path).suffix.lower() in VIDEOS
            step = VIDEO_FRAMES_A_LOOK if is_video else 1
            for frame in read_frames(path, lambda index, step=step: index % step == 0):
                yield frame.name, frame.image or (frame.problem or "").replace(path, frame.name)
        except TOLD as error:
            yield Path(path).name, first_line(error).replace(path, Path(path).name)


def ask_about_all(
    pipe: Any, frames: Iterator[tuple[str, Image.Image | str]], text: str
) -> Iterator[tuple[Any, ...]]:
    """Yield status, what is held, slider, frame and table after every frame."""
    questions = [line.strip() for line in text.splitlines() if line.strip()]
    if not questions:
        yield cards.problem("Write at least one question."), *(gr.skip(),) * 4
        return
    held: dict[str, Any] = {"questions": questions, "frames": []}
    bad: list[str] = []
    yield cards.status("Reading the first frame …", busy=True), *(gr.skip(),) * 4
    for name, image in islice(frames, MOST_FRAMES):
        if isinstance(image, str):
            bad.append(image if name in image else f"{name}: {image}")
            continue
        try:
            results = pipe(image=image, question=questions, top_k=0)
        except TOLD as error:
            yield cards.problem(first_line(error)), *(gr.skip(),) * 4
            return
        held["frames"].append({"name": name, "picture": cards.data_address(image, 640), "results": results})
        count = len(held["frames"])
        yield cards.status(f"Frame {count} answered: {name} …", busy=True), *look(held, count)
    yield (
        summary(len(held["frames"]), bad, next(frames, None) is not None),
        *(look(held, 1) if held["frames"] else (gr.skip(),) * 4),
    )


def look(held: dict[str, Any], number: int) -> tuple[Any, ...]:
    """What is held, the slider set to a frame, that frame, and the table."""
    count = len(held["frames"])
    slider = gr.update(maximum=max(count, 2), value=number, interactive=count > 1)
    return held, slider, *scrub(held, number)


def scrub(held: dict[str, Any], number: float) -> tuple[Any, Any]:
    """The frame of a number, from 1, and the table with that frame's column marked."""
    frames = held["frames"]
    if not frames:
        return gr.skip(), gr.skip()
    at = min(max(int(number), 1), len(frames)) - 1
    table = cards.timeline(held["questions"], frames, at)
    return cards.one_of_many(frames[at], at, len(frames)), table


def summary(count: int, bad: list[str], cut: bool) -> str:
    """How it went, with the files that could not be read, and whether there were more than are asked."""
    if not count:
        return cards.problem(bad[0] if bad else "There is no frame in that.")
    text = f"Done: {count} frames. Move the slider, or use the arrow keys on it."
    if bad:
        text += f" {len(bad)} could not be read: {'; '.join(bad[:3])}"
    return cards.status(text + (f" Only the first {MOST_FRAMES} files were read." if cut else ""))
