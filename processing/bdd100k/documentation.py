"""Writes docs/questions.md: every family with its rule, answers and phrasings, from the code itself.

python -m traffic_vlm.processing.bdd100k.documentation docs/questions.md
"""

import inspect
import math
import sys
from collections import defaultdict
from pathlib import Path

from . import answers, geometry, labels
from .families import FAMILIES, Family
from .phrasings import ALTERNATIVES, SYNONYMS, Phrasings


def page() -> str:
    """The page's Markdown."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, family in FAMILIES.items():
        groups[family.group].append(name)
    sections = "\n".join(_section(group, names) for group, names in groups.items())
    five = "".join(
        f"| {name} | {text} | {answers.MUST_STOP[name]} |\n" for name, text in answers.MOVE_FORWARD.items()
    )
    synonyms = "; ".join(f"{word}: {', '.join(others)}" for word, others in SYNONYMS.items())
    aliases = ", ".join(f"{old} -> {new}" for old, new in labels.ALIASES.items())
    return f"""# Questions, rules and phrasings

Generated from the code by `python -m traffic_vlm.processing.bdd100k.documentation docs/questions.md`.
{len(FAMILIES)} families in {len(groups)} groups; the families of a group differ only in category or side.

A rule decides only what the labels decide. Whatever they leave open (no labels, an unknown colour, a thing
too small to see, a case on the border between near and far) is counted as undecidable with its reason, and
not asked.

## Geometry

{inspect.cleandoc(geometry.__doc__ or "").split(chr(10), 2)[2]}

Thresholds, as fractions of the frame: near from {geometry.NEAR}, surely not near above {geometry.NOT_NEAR};
in a lane it blocks from {geometry.BLOCKS} and does not matter above {geometry.FREE}; visible from a size of
{geometry.VISIBLE_SIZE} frame heights, counted from {geometry.COUNTED_SIZE:.3f}.

## Words

* Names of the release that become ours: {aliases}.
* `[see|spot|notice]` in a wording stands for any one of the three; together the patterns below are
  {_number():,} different wordings.
* Synonyms, used in a fifth of the questions: {synonyms}.
* Light colours: R, Y, G and red, yellow, green are known; NA, the 2018 release's "none" and everything else
  is unknown, and a question that hangs on it is not asked.
* A third of the training questions lose their capitals or question mark, one in 25 has a typing slip, never
  in "left" or "right".

## Can I move forward? The five classes

| class | move_forward | must_stop |
|---|---|---|
{five}
Yellow counts as red. The driver's light is one {_place(geometry.MY_LIGHT)};
when its colour is not known both questions are undecided. So they are where the way would be clear but a
light that is not green falls a little short of that ({_place(geometry.ALMOST_MY_LIGHT)}),
and where what is in the way is too small to see. In the way is what stands in the corridor, however far
ahead. The column `forerunner` reads every frame by the letter of the rule instead: an unknown colour is
neither red nor yellow, and size does not matter.

{sections}"""


def _place(where: tuple[float, float, float]) -> str:
    tall, aside, low = where
    return f"taller than {tall}, from {0.5 - aside:g} to {0.5 + aside:g} across, above {low}"


def _number() -> int:
    """How many wordings the training patterns stand for, synonyms and slips not counted."""
    phrasings = _distinct(list(FAMILIES))
    return sum(
        math.prod(group.count("|") + 1 for group in ALTERNATIVES.findall(pattern))
        for phrasing in phrasings
        for pattern in phrasing.train
    )


def _section(group: str, names: list[str]) -> str:
    family = FAMILIES[names[0]]
    rules = list(dict.fromkeys(FAMILIES[name].rule for name in names))
    members = ", ".join(f"`{name}`" for name in names)
    opposite = _opposites(names)
    spoken = "\n".join(_phrasings(phrasing) for phrasing in _distinct(names))
    return (
        f"## {group}\n\n{members}\n\nRule: {' / '.join(rules)}\n"
        + (f"\nOpposite: {opposite}\n" if opposite and family.topic else "")
        + f"\n{spoken}\n"
    )


def _opposites(names: list[str]) -> str:
    topics = {FAMILIES[name].topic for name in names} - {None}
    others = [
        name
        for name, family in FAMILIES.items()
        if family.topic in topics and (name not in names or len(topics) < len(names))
    ]
    return ", ".join(f"`{name}`" for name in others)


def _distinct(names: list[str]) -> list[Phrasings]:
    seen: list[Family] = [FAMILIES[name] for name in names]
    return list({id(family.phrasings): family.phrasings for family in seen}.values())


def _phrasings(phrasings: Phrasings) -> str:
    train = "\n".join(f"- {text}" for text in phrasings.train)
    heldout = "\n".join(f"- {text}" for text in phrasings.heldout)
    return f"{train}\n\nNever in training:\n\n{heldout}\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
