"""Label files read one record at a time, so that memory does not grow with the file.

The standard decoder is used on a sliding window: it is faster than an event parser, and it accepts the
`NaN` that Python writes and other parsers refuse.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from .labels import BadLabels

WINDOW = 1 << 20
LONGEST_RECORD = 64 << 20
_FRAMES = re.compile(r'"frames"\s*:\s*\[')
BETWEEN = tuple(" \t\r\n,")


def stream(path: Path) -> Iterator[Any]:
    """Entries of a JSON list, or of the list under "frames" of a JSON object.

    Bytes that are not UTF-8 become U+FFFD, which the caller can see.

    Raises:
        BadLabels: The file is missing, not JSON, cut short, or holds no list of frames.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            yield from _entries(file, path)
    except OSError as error:
        raise BadLabels(f"cannot read {path}: {error.strerror}") from None


def _entries(file: TextIO, path: Path) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    text, place = _first_entry(file, path)
    count, ended = 0, False
    while True:
        while text[place : place + 1] in BETWEEN:
            place += 1
        if text[place : place + 1] == "]":
            return
        try:
            entry, after = decoder.raw_decode(text, place)
        except RecursionError:
            raise BadLabels(f"{path} is not usable JSON: entry {count + 1} is nested too deep") from None
        except json.JSONDecodeError as error:
            # Either the window ends inside the entry, or the entry is broken; more text tells which.
            if ended or len(text) - place > LONGEST_RECORD:
                what = "ends in the middle" if ended and error.pos >= len(text) - 1 else error.msg
                raise BadLabels(f"{path} is not valid JSON: entry {count + 1}: {what}") from None
            more = file.read(max(WINDOW, len(text) - place))
            ended, text, place = not more, text[place:] + more, 0
            continue
        yield entry
        count, place = count + 1, after


def _first_entry(file: TextIO, path: Path) -> tuple[str, int]:
    """The first window and where the list's first entry begins in it."""
    text = file.read(WINDOW)
    start = text.lstrip()[:1]
    if start == "[":
        return text, text.index("[") + 1
    match = _FRAMES.search(text) if start == "{" else None
    if match is None:
        raise BadLabels(f'{path} is not a JSON list of frames, nor an object with a list under "frames"')
    return text, match.end()
