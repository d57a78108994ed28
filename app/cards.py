"""What the page shows, as HTML: status, frame, answers, a table over many frames. Everything is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

from PIL import Image
from traffic_vlm.evaluation.overlay import draw_heat

from .asking import Faithfulness

FRAME_WIDTH = 1024
MASTHEAD = """
<a class="skip" href="#answers">Skip to the answers</a>
<header class="masthead"><h1>TrafficVLM</h1>
<p>Ask about a dashcam frame. See the answer, how sure the model is, and where it looked.</p>
<p class="caution">For research and teaching. It must never control a vehicle.</p></header>
"""
EMPTY = '<p class="empty">The answer will be here: pick a frame, then ask.</p>'
EMPTY_DRIVE = '<p class="empty">Give frames or a video, or take the rendered drive.</p>'


def status(text: str, busy: bool = False) -> str:
    """What is going on, in a line that screen readers announce."""
    return f'<p class="status{" busy" if busy else ""}">{escape(text)}</p>'


def problem(text: str) -> str:
    """What went wrong and what to do."""
    return f'<p class="status problem" role="alert"><strong>That did not work.</strong> {escape(text)}</p>'


def data_address(image: Image.Image, width: int = FRAME_WIDTH) -> str:
    """A picture as an address that needs no file."""
    small = image.copy()
    small.thumbnail((width, width))
    buffer = io.BytesIO()
    small.convert("RGB").save(buffer, "JPEG", quality=86)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def frame(image: Image.Image | None, name: str = "") -> str:
    """The frame that is asked about."""
    if image is None:
        return '<div class="no-frame">No frame yet</div>'
    return (
        f'<figure class="frame"><img src="{data_address(image)}"'
        f' alt="The frame that is asked about: {escape(name)}">'
        f"<figcaption>{escape(name)} &middot; {image.width} × {image.height}</figcaption></figure>"
    )


def answers(
    results: Sequence[dict[str, Any]], image: Image.Image, tested: dict[int, Faithfulness] | None = None
) -> str:
    """One card an answer, side by side where there is room."""
    cards = (card(result, image, (tested or {}).get(number)) for number, result in enumerate(results))
    return f'<div class="answers n{len(results)}">{"".join(cards)}</div>'


def card(result: dict[str, Any], image: Image.Image, faithful: Faithfulness | None) -> str:
    """Question, answer, confidence, other answers, and once it has been tested, the heat map."""
    unsure = " unsure" if result["abstained"] else ""
    badge = '<p class="badge">Unsure: better not relied upon</p>' if unsure else ""
    return (
        f'<article class="card{unsure}"><p class="question">{escape(result["question"])}</p>'
        f'<h3 class="answer">{escape(result["answer"] or "(no answer)")}</h3>{badge}'
        f"{meter('Confidence', result['confidence'])}{alternatives(result['alternatives'])}"
        f"{evidence(result, image, faithful)}</article>"
    )


def meter(name: str, share: float) -> str:
    """A bar from 0 to 100%, with its number."""
    value = round(100 * share)
    return (
        f'<div class="meter"><span>{escape(name)}</span><span class="bar" role="meter"'
        f' aria-label="{escape(name)}" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{value}">'
        f'<i style="width:{value}%"></i></span>'
        f"<b>{escape(percent(share))}</b></div>"
    )


def percent(share: float) -> str:
    """A share in words; nothing is ever quite certain."""
    return ">99%" if share >= 0.995 else f"{share:.0%}"


def alternatives(others: dict[str, float]) -> str:
    """What else it might have said."""
    if not others:
        return ""
    bars = "".join(
        f"<li>{meter(text or '(nothing)', share)}</li>" for text, share in list(others.items())[:3]
    )
    return f'<div class="others"><p class="label">Otherwise</p><ul>{bars}</ul></div>'


def evidence(result: dict[str, Any], image: Image.Image, faithful: Faithfulness | None) -> str:
    """Where the model looked; the heat map is shown only together with how faithful it is."""
    if result["evidence_map"] is None:
        return '<p class="hint">This checkpoint has no cross-attention, so there is no heat map.</p>'
    if faithful is None:
        return '<div class="heat waiting"><p>Testing whether the heat map is faithful …</p></div>'
    region = result["evidence"][0]
    words = place(region["box"], region["mass"])
    x1, y1, x2, y2 = (100 * edge for edge in region["box"])
    heat = data_address(draw_heat(image, result["evidence_map"]), 768)
    return (
        f'<figure class="heat"><div class="canvas"><img src="{heat}" alt="Heat map over the frame. {words}">'
        f'<i class="box" style="left:{x1:.2f}%;top:{y1:.2f}%;width:{x2 - x1:.2f}%;'
        f'height:{y2 - y1:.2f}%"></i></div>'
        f'<figcaption>{words}</figcaption></figure><section class="why">{faithfulness(faithful)}</section>'
    )


def place(box: Sequence[float], mass: float) -> str:
    """A box in words."""
    across, down = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    column = ("left", "centre", "right")[min(int(across * 3), 2)]
    row = ("upper", "middle", "lower")[min(int(down * 3), 2)]
    where = "the middle of the frame" if (row, column) == ("middle", "centre") else f"the {row} {column}"
    return f"Looked most at {where}: {mass:.0%} of its attention lies in the outlined part."


def faithfulness(found: Faithfulness) -> str:
    """The score of a heat map, what it is made of, and what it means."""
    gain = found.score - found.chance
    meaning = (
        "The answer rests on what the map shows."
        if gain >= 0.1
        else "The answer hardly depends on this part more than on any other: read the map with care."
        if gain > -0.05
        else "The answer rests on other parts of the frame: do not trust this map."
    )
    return (
        f'<p class="faith"><b>Faithfulness {signed(found.score)}</b> '
        f"<span>(random map {signed(found.chance)})</span></p>"
        f'<p class="hint">{meaning} With only the map’s hottest parts the answer keeps {found.kept:.0%}; '
        f"with them blurred, {found.lost:.0%}.</p>"
    )


def signed(value: float) -> str:
    """A number with its sign, a real minus."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def sign(result: dict[str, Any]) -> tuple[str, str]:
    """Class and mark of a cell: yes, no, something else."""
    first = result["answer"].split(",")[0].strip().rstrip(".").lower()
    kind, mark = {"yes": ("yes", "Y"), "no": ("no", "N")}.get(first, ("other", first[:2].title() or "?"))
    return f"{kind}{' unsure' if result['abstained'] else ''}", mark


def timeline(questions: Sequence[str], frames: Sequence[dict[str, Any]], current: int) -> str:
    """A row a question, a column a frame; the column of the current frame stands out."""
    heads = "".join(
        f'<th scope="col"{" class=now" if number == current else ""}>{number + 1}</th>'
        for number in range(len(frames))
    )
    rows = []
    for row, question in enumerate(questions):
        cells = []
        for number, entry in enumerate(frames):
            result = entry["results"][row]
            kind, mark = sign(result)
            said = escape(f"{result['answer']} {percent(result['confidence'])} sure")
            cells.append(
                f'<td class="{kind}{" now" if number == current else ""}" title="{said}">'
                f'<span aria-hidden="true">{escape(mark)}</span><span class="unseen">{said}</span></td>'
            )
        rows.append(f'<tr><th scope="row">{escape(question)}</th>{"".join(cells)}</tr>')
    return (
        '<div class="timeline" tabindex="0" role="region" aria-label="Answers over all frames"><table>'
        "<caption>Y yes, N no, or how the answer begins; faint and dashed where the model is unsure</caption>"
        f'<thead><tr><th scope="col">Frame</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def one_of_many(entry: dict[str, Any], number: int, count: int) -> str:
    """One frame of many, with its answers."""
    rows = "".join(
        f"<tr{' class=unsure' if result['abstained'] else ''}>"
        f'<th scope="row">{escape(result["question"])}</th><td>{escape(result["answer"])}</td>'
        f"<td>{escape(percent(result['confidence']))}</td></tr>"
        for result in entry["results"]
    )
    name = escape(entry["name"])
    return (
        f'<div class="one"><figure class="frame"><img src="{entry["picture"]}"'
        f' alt="Frame {number + 1} of {count}: {name}">'
        f"<figcaption>Frame {number + 1} of {count} &middot; {name}</figcaption></figure>"
        '<table class="battery"><thead><tr><th scope="col">Question</th><th scope="col">Answer</th>'
        f'<th scope="col">Sure</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )
