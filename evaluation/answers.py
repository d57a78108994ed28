"""From free text to a decision: the parser that every score in this project goes through.

A model's answer is text. What is scored is the *decision* in it: yes or no, a colour, a number, a lane, a
reason, an attribute. Any model's text is read, not only ours, so the parser has to survive what models really
write: "There is no reason to say yes", "A few cars", "The light is red, not green".

The rules, in the order in which they apply:

1. Text is normalised (Unicode form, case, curly quotes, mark-up). A repeated question is dropped, and so is
   everything up to the last "answer is" / "answer:" / "therefore". Words in quotation marks decide nothing.
2. A refusal ("I cannot tell", "unknown") is `ABSTAIN`, unless a decision follows it after "but".
3. A word counts only as a whole word, and not when it is negated in its own clause.
4. Exactly one decision must remain. None, or two that contradict, is `UNCLEAR`: it is scored as wrong, and
   counted.
5. Where *yes* means that something is not there ("Yes, it is clear."), "No cars are there" is `UNCLEAR`.

Nothing here looks at the right answer, and nothing guesses.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

ABSTAIN = "abstain"
UNCLEAR = "unclear"
MORE_THAN_FIVE = "more than five"

#: The classes of the five-way reading of "Can I move forward?", in the order of every table.
FIVE_WAY = ("safe", "red", "person", "vehicle", "obstacle")


def _spellings(text: str) -> tuple[str, ...]:
    """The phrases of a list written as "one | other"."""
    return tuple(phrase.strip() for phrase in text.split("|"))


_COLOURS = {
    "red": _spellings("red"),
    "yellow": _spellings("yellow | amber | orange"),
    "green": _spellings("green"),
}
_LANES = {
    "left": _spellings("left | left hand | leftmost"),
    "right": _spellings("right | right hand | rightmost"),
    "mine": _spellings(
        "mine | my lane | my own lane | your lane | our lane | own lane | ego lane | ego | ahead | "
        "straight ahead | in front | center | centre | middle | same lane"
    ),
    "equal": _spellings(
        "equal | equally many | the same number | as many | the same | equal numbers | both sides equally"
    ),
}
_DISTANCES = {
    "near": _spellings("near | close | close by | nearby | very close | right ahead"),
    "middle": _spellings(
        "not far | middle distance | medium distance | mid distance | some way | moderate distance"
    ),
    "far": _spellings("far | far away | distant | in the distance | a long way"),
}
_WEATHER = {
    "clear": _spellings("clear | sunny | fair"),
    "partly cloudy": _spellings("partly cloudy | partially cloudy | some clouds"),
    "overcast": _spellings("overcast | cloudy | grey sky | gray sky"),
    "rainy": _spellings("rainy | rain | raining | wet weather"),
    "snowy": _spellings("snowy | snow | snowing"),
    "foggy": _spellings("foggy | fog | misty | mist"),
}
_TIMES = {
    "daytime": _spellings("daytime | day time | day | daylight | afternoon | noon | midday"),
    "night": _spellings("night | nighttime | night time | dark"),
    "dawn/dusk": _spellings("dawn/dusk | dawn or dusk | dawn | dusk | twilight | sunset | sunrise"),
}
_SCENES = {
    "city street": _spellings("city street | city | urban street | downtown"),
    "highway": _spellings("highway | motorway | freeway | expressway"),
    "residential": _spellings(
        "residential | residential area | suburb | suburban street | neighborhood | neighbourhood"
    ),
    "parking lot": _spellings("parking lot | car park | parking"),
    "tunnel": _spellings("tunnel"),
    "gas stations": _spellings("gas stations | gas station | petrol station | filling station"),
}
_REASONS = {
    "red": _spellings(
        "red light | red traffic light | yellow light | yellow traffic light | light is red | amber light "
        "| light is yellow | red signal | lights are red | signal is red | red or yellow light"
    ),
    "person": _spellings(
        "pedestrian | pedestrians | person | people | rider | riders | cyclist | cyclists | someone | "
        "walker | child | children | man | woman"
    ),
    "vehicle": _spellings(
        "vehicle | vehicles | car | cars | truck | trucks | bus | buses | train | motorcycle | "
        "motorcycles | motorbike | bicycle | bicycles | bike | van | traffic jam | lorry"
    ),
    "obstacle": _spellings(
        "obstacle | obstacles | barrier | barriers | sign | traffic sign | debris | cone | cones | object | "
        "something | obstruction"
    ),
}
CHOICES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "colour": _COLOURS,
    "lane": _LANES,
    "distance": _DISTANCES,
    "weather": _WEATHER,
    "time of day": _TIMES,
    "scene": _SCENES,
}
#: The kinds of decision `read` knows, most specific first: the order in which `kind_of` tries them.
KINDS = ("boxes", "place", "yes/no", "count", "colour", "weather", "time of day", "scene", "lane", "distance")

_YES = _spellings(
    "yes | yeah | yep | yup | y | sure | absolutely | definitely | certainly | affirmative | correct | "
    "indeed | of course | true | no doubt | no problem | without a doubt | ok | okay | it is | there is | "
    "there are | you can | you may | i can | it does | they are | safe | go ahead"
)
_NO = _spellings(
    "no | nope | nah | n | negative | incorrect | false | no way | by no means | under no circumstances | "
    "not at all | of course not | certainly not | definitely not | absolutely not | not really | never | "
    "unsafe | none | nobody | nothing | neither | no one | not | cannot | hardly"
)
# These deny what follows as often as they answer.
_DENIALS = {"no", "not", "cannot", "none", "nobody", "nothing", "neither", "no one", "hardly", "never"}
# These answer only when they are the whole clause: "It is." does, "It is a car" does not.
_ECHO = {"it is", "there is", "there are", "you can", "you may", "i can", "it does", "they are"}
_REFUSALS = re.compile(
    r"\b(i (do not|don't|cannot|can't|can not) "
    r"(know|tell|say|see (it|that|clearly)|answer|determine|judge|be (sure|certain))"
    r"|(not|un)\s?(sure|certain)\b|unknown|unclear|undecidable|(hard|difficult|impossible) to (say|tell)"
    r"|(cannot|can't|can not|could not) be (determined|seen|known|told|judged|answered)"
    r"|not (visible enough|enough information)|no idea|maybe|perhaps|possibly|it depends"
    r"|i (can )?only answer|out of scope|not about (the )?(traffic|road|scene|driving)"
    r"|outside what i|abstain)"
)
_NEGATIONS = set(
    _spellings(
        "not | no | never | without | neither | nor | cannot | isn't | aren't | don't | doesn't | can't | "
        "wasn't | won't | wouldn't | shouldn't | couldn't | hardly | ain't | didn't | haven't | hasn't | "
        "instead | rather"
    )
)
_NEGATION_REACH = 5
_UNITS = (
    *("zero none", "one single", "two couple pair", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve dozen", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
_NUMBERS = {word: value for value, words in enumerate(_UNITS) for word in words.split()}
_NUMBERS |= {"thirty": 30, "forty": 40, "fifty": 50, "hundred": 100}
_LOCATION = re.compile(r"<loc(\d{4})>\s*<loc(\d{4})>\s*<loc(\d{4})>\s*<loc(\d{4})>\s*([^<;]*)")


@lru_cache(maxsize=65536)
def normalise(text: str) -> str:
    """Text as it is compared: NFKC, lower case, straight quotes, no mark-up or final punctuation.

    Args:
        text: any answer; `None` and non-strings are read as empty.

    Returns:
        The normalised text, "" where nothing readable is left.
    """
    if not isinstance(text, str):
        return ""
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'").casefold()
    text = re.sub(r"[“”]", '"', text)
    text = re.sub(r"\\boxed\{([^}]*)\}", r"\1", text)
    text = re.sub(r"<(?!loc\d{4}>)/?[a-z_]+[^>]*>", " ", text)
    text = re.sub(r"[*_`#]+", " ", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = text.strip(" .!,;:")
    for quote in "\"'":
        if text.startswith(quote) and text.endswith(quote) and text.count(quote) == 2:
            text = text[1:-1].strip(" .!,;:")
    return text


def _final_part(text: str) -> str:
    """Drop a repeated question, the reasoning before a stated answer, and quoted words."""
    if "?" in text:
        head, _, tail = text.rpartition("?")
        text = tail.strip() if tail.strip(" .!") else head
    stated = list(re.finditer(r"\b(?:answer(?: is\b|:)|therefore\b|in conclusion\b)[:,]?", text))
    if stated and text[stated[-1].end() :].strip(" .,:"):
        text = text[stated[-1].end() :]
    without_quotes = re.sub(r'"[^"]*"', " ", text)
    return (without_quotes if without_quotes.strip() else text).strip(" .:,\"'")


def _clauses(text: str) -> list[list[str]]:
    """The words of each clause; clauses end at punctuation and at "but", "because", "so", "and"."""
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"\bno\. ?(?=\d)", "number ", text)
    parts = re.split(
        r"[,;:!?()]|\.(?!\d)|\s-\s|—|\b(?:but|because|so|since|as there|and|while|although)\b", text
    )
    return [words for part in parts if (words := re.findall(r"[a-z0-9'/.+>-]+", part))]


def _is_negated(words: list[str], position: int) -> bool:
    """Whether a negation stands within reach before this word, in its clause; two of them cancel out."""
    before = words[max(0, position - _NEGATION_REACH) : position]
    if "neither" in before or "nor" in before:
        return True
    return sum(_denies(word) for word in before) % 2 == 1


def _denies(word: str) -> bool:
    return word in _NEGATIONS or word.endswith("n't")


def _occurrences(words: list[str], phrases: Mapping[str, tuple[str, ...]]) -> list[tuple[int, int, str]]:
    """Whole-word occurrences (position, length, meaning) of the phrases, the longest at each position."""
    found: list[tuple[int, int, str]] = []
    position = 0
    while position < len(words):
        best = (0, "")
        for meaning, spellings in phrases.items():
            for spelling in spellings:
                parts = spelling.split()
                if len(parts) > best[0] and words[position : position + len(parts)] == parts:
                    best = (len(parts), meaning)
        if best[0]:
            found.append((position, best[0], best[1]))
        position += max(best[0], 1)
    return found


def _one_of(meanings: list[str]) -> str:
    """The single meaning left, else unclear."""
    return meanings[0] if len(set(meanings)) == 1 else UNCLEAR


def find_choice(text: str, phrases: Mapping[str, tuple[str, ...]]) -> str:
    """The one choice that a text makes, by whole words that are not negated.

    Args:
        text: free text.
        phrases: meaning -> its spellings, lower case.

    Returns:
        The meaning; `ABSTAIN` for a refusal; `UNCLEAR` where no choice or several different ones remain.
    """
    text = _final_part(normalise(text))
    kept = [
        meaning
        for words in _clauses(text)
        for position, _, meaning in _occurrences(words, phrases)
        if not _is_negated(words, position)
    ]
    if not kept and _REFUSALS.search(text):
        return ABSTAIN
    return _one_of(kept)


def _decisions_of_clause(words: list[str], is_first: bool) -> list[tuple[str, bool]]:
    """Yes/no readings (decision, whether it stands bare) of one clause."""
    if words[0] in ("yes", "no") and words[1:2] == [words[0]]:
        words = words[1:]
    found = _occurrences(words, {"yes": _YES, "no": _NO})
    decisions: list[tuple[str, bool]] = []
    for position, length, meaning in found:
        phrase = " ".join(words[position : position + length])
        rest = words[position + length :]
        is_bare = position == 0 and not rest
        if phrase in _ECHO:
            if is_bare or rest in (["not"], ["n't"], ["so"]):
                decisions.append(("no" if rest == ["not"] else "yes", True))
                return decisions
            continue
        if meaning == "yes":
            negated_after = rest[:2] in (["is", "not"], ["isn't", "the"], ["is", "wrong"])
            decisions.append(("no" if _is_negated(words, position) or negated_after else "yes", is_bare))
        elif phrase in _DENIALS:
            # Inside a sentence it decides only if it leads: "No car is there", "Not safe".
            if position == 0 and (is_first or is_bare):
                decisions.append(("no", is_bare))
        else:
            decisions.append(("yes" if _is_negated(words, position) else "no", is_bare))
    return decisions


_NEGATIVE_SENTENCE = re.compile(
    r"^(there (is|are) (no|not|n't|none)\b|there (isn't|aren't)|it (is not|isn't|does not|doesn't)|it's not"
    r"|i (do not|don't|cannot|can't) see|you (cannot|can't|should not|shouldn't|must not|may not)"
    r"|(they|we) (are not|aren't|cannot|can't))"
)


def _read_yes_no(text: str) -> str:
    """Yes or no (rules in the module's docstring); "safe" and "not safe" answer commands."""
    text = _final_part(normalise(text))
    if re.fullmatch(r"(yes|no)\s*(/|or|and|\|)\s*(yes|no)\b.*", text):
        return UNCLEAR
    refusal = _REFUSALS.search(text)
    if refusal:
        _, but, tail = text.partition(" but ")
        if not but or _REFUSALS.search(tail):
            leading = re.match(r"(yes|no)\b(?! idea)", text)
            return leading.group(1) if leading else ABSTAIN
        text = tail
    clauses = _clauses(text)
    if not clauses:
        return UNCLEAR
    readings = [reading for i, words in enumerate(clauses) for reading in _decisions_of_clause(words, i == 0)]
    bare = [decision for decision, is_bare in readings if is_bare]
    if bare:  # outranks what the sentences around it seem to say; a second bare one may contradict it
        return _one_of(bare)
    if readings:
        is_led = re.match(r"(yes|no|not|nope|safe|unsafe)\b(?! (doubt|problem))", text)
        return readings[0][0] if is_led else _one_of([decision for decision, _ in readings])
    return "no" if _NEGATIVE_SENTENCE.match(text) else UNCLEAR


_DENIES_THINGS = re.compile(r"(no|none|nobody|nothing|neither|no one) (?!way\b|doubt\b|problem\b)[a-z]")
_SAYS_NOTHING_IS_THERE = re.compile(r"\b(clear|free|none|nobody|nothing|no)\b")


def affirms_absence(answers: Iterable[str]) -> bool:
    """Whether a family's *yes* says that something is not there ("Yes, it is clear."), by its labels."""
    return any(
        _SAYS_NOTHING_IS_THERE.search(normalise(text)) and read(text, "yes/no") == "yes"
        for text in set(answers)
    )


def _read_absence(text: str) -> str:
    """Yes or no where *yes* means that something is not there: "No cars are there" is not a no."""
    part = _final_part(normalise(text))
    if _DENIES_THINGS.match(part) or _NEGATIVE_SENTENCE.match(part):
        return UNCLEAR
    return _read_yes_no(text)


_BOUNDS = re.compile(
    r"\b(at least|at most|up to|(no|not|\w+n't) more than|(less|fewer) than|under|between|about \w+ or)\b"
    r"|\d+\.\d|-\d|\d\s?[-–]\s?\d|\d/\d|\d\s?\+|\bor (more|fewer|less)\b"
)
_MANY = re.compile(r"(there are )?(very )?(many|lots|a lot|dozens|numerous|several dozen)\b.*")
_NOTHING = re.compile(
    r"(no|nobody|nothing)\b|there (are|is)( no\b|n't)|i (see|can see) no\b|there (aren't|isn't)"
)
# An article counts one thing ("A car"), but not before what stands for several ("A large number of cars").
_ONE_THING = re.compile(
    r"(just |only |there is |i see )?an? (?!(\w+ ){0,2}(few|handful|number|group|line|row|lot|bunch|crowd"
    r"|queue|cluster|string|stream|series|column|variety)\b)\w+"
)
_BEFORE_A_PRONOUN = set(
    _spellings("the | this | that | left | right | red | green | another | other | each | every | nearest")
)


def _numbers_in(words: list[str]) -> list[int]:
    """The numbers that words or digits name, unless they are negated; "no one" names 0.

    "The left one" and "one of them" name none.
    """
    values: list[int] = []
    for i, (before, word, after) in enumerate(zip(["", *words], words, [*words[1:], ""], strict=False)):
        if word == "one" and (before in _BEFORE_A_PRONOUN or after == "of"):
            continue
        if before != "no" and _is_negated(words, i):
            continue
        if word.isdecimal():
            values.append(int(word))
        elif word == "one" and before == "no":
            values.append(0)
        elif values and _NUMBERS.get(before, 0) in (20, 30, 40, 50) and _NUMBERS.get(word, 10) < 10:
            values[-1] += _NUMBERS[word]
        elif word in _NUMBERS and not (word == "dozen" and before in _NUMBERS):
            values.append(_NUMBERS[word])
    return values


def _read_count(text: str) -> str:
    """0 to 5 or "more than five"; bounds such as "at least two" and two different numbers are unclear."""
    text = _final_part(normalise(text))
    more = re.search(r"(?<!no )(?<!not )(?<!n't )(?:\b(?:more than|over|above|greater than)|>)\s*(\w+)", text)
    if more:
        bound = max(_numbers_in([more.group(1)]), default=-1)
        return MORE_THAN_FIVE if bound >= 5 else UNCLEAR
    if _BOUNDS.search(text):
        return UNCLEAR
    if _MANY.fullmatch(text):
        return MORE_THAN_FIVE
    clauses = [re.findall(r"[a-z']+|\d+", " ".join(words)) for words in _clauses(text)]
    values = [value for words in clauses for value in _numbers_in(words)]
    if values:
        number = str(values[0]) if values[0] <= 5 else MORE_THAN_FIVE
        return number if len(set(values)) == 1 else UNCLEAR
    is_some_number_denied = any(
        word.isdecimal() or _NUMBERS.get(word, 1) > 1 for words in clauses for word in words
    )
    if _NOTHING.match(text) and not is_some_number_denied:
        return "0"
    if _ONE_THING.match(text) and not any(_denies(word) for word in clauses[0]):
        return "1"
    return ABSTAIN if _REFUSALS.search(text) else UNCLEAR


def _read_colour(text: str) -> str:
    """The colour of the light: of several colours, the one that stands with the word light or signal."""
    decision = find_choice(text, _COLOURS)
    if decision != UNCLEAR:
        return decision
    text = _final_part(normalise(text))
    colours = "|".join(spelling for spellings in _COLOURS.values() for spelling in spellings)
    attached = re.findall(rf"\b({colours}) (?:traffic )?(?:light|signal)\b", text)
    attached += re.findall(
        rf"\b(?:light|signal) (?:is|shows|turned|turns|looks)(?: now)? ({colours})\b", text
    )
    meanings = {meaning for meaning, spellings in _COLOURS.items() if any(a in spellings for a in attached)}
    return meanings.pop() if len(meanings) == 1 else UNCLEAR


def _read_lane(text: str) -> str:
    """Left, right, mine or equal; "that's right", "all right" and "right ahead" are no side."""
    text = normalise(text)
    text = re.sub(r"\b(that's|that is|all|you are|you're|quite) right\b", " ", text)
    text = re.sub(r"\bright (ahead|in front|there|here|now|away)\b", r"\1", text)
    text = re.sub(r"\b(left|right)-(hand|most)\b", r"\1 \2", text)
    text = re.sub(
        r"\b(left|right) (of|from) (me|us|my lane|mine|the ego lane|center|centre|the middle)\b", r"\1", text
    )
    text = re.sub(r"\b(left|right)(?: lane| side)? ahead\b", r"\1", text)
    return find_choice(re.sub(r"\bmiddle distance\b", " ", text), _LANES)


_NOWHERE = re.compile(r"(there (is|are) (none|nothing|nobody|no \w+)|none|nowhere)\b.*")


def _read_place(text: str) -> str:
    """Lane and distance together, as "left, near"; "none" where the thing is not there at all."""
    lane, distance = _read_lane(text), find_choice(text, _DISTANCES)
    undecided = {ABSTAIN, UNCLEAR} & {lane, distance}
    if not undecided:
        return f"{lane}, {distance}"
    if _NOWHERE.fullmatch(normalise(text)):
        return "none"
    return ABSTAIN if ABSTAIN in undecided else UNCLEAR


_GOING = re.compile(r"\b(move|moving|go|going|proceed|drive|driving|forward|clear)\b")


def _read_five_way(text: str) -> str:
    """Safe, red, person, vehicle or obstacle: the forerunner's reading of *Can I move forward?*.

    A yes is safe whatever follows it. A no needs its reason: of several, the first that is not denied. Where
    neither is said a reason is a no ("A pedestrian is crossing."), unless going is spoken of.
    """
    decision = _read_yes_no(text)
    if decision == "yes":
        return "safe"
    part = _final_part(normalise(text))
    kept = [
        (meaning, words)
        for words in _clauses(part)
        for position, _, meaning in _occurrences(words, _REASONS)
        if not _is_negated(words[1:] if words[0] == "no" else words, max(position - (words[0] == "no"), 0))
    ]
    if kept and (decision == "no" or (decision == UNCLEAR and not _GOING.search(part))):
        return kept[0][0]
    return decision if decision == ABSTAIN else UNCLEAR


def read_boxes(text: str) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Boxes written as PaliGemma's location tokens (`<loc y1><loc x1><loc y2><loc x2> category`).

    Args:
        text: free text with location tokens.

    Returns:
        (category, (x1, y1, x2, y2) as fractions of the frame) of every complete box, in their order.
    """
    found = []
    for y1, x1, y2, x2, category in _LOCATION.findall(text if isinstance(text, str) else ""):
        left, top, right, bottom = (int(value) / 1023 for value in (x1, y1, x2, y2))
        if right > left and bottom > top:
            found.append((normalise(category), (left, top, right, bottom)))
    return found


def _read_first_box(text: str) -> str:
    """The category of the boxes in a text, "none" where it says that there is nothing."""
    boxes = read_boxes(text)
    if boxes:
        return boxes[0][0] or UNCLEAR
    return "none" if _NOWHERE.fullmatch(normalise(text)) else UNCLEAR


def _read_text(text: str) -> str:
    """The whole text without a leading article; a refusal in any words is the same refusal."""
    text = normalise(text)
    if _REFUSALS.search(text):
        return ABSTAIN
    return re.sub(r"^(an?|the) ", "", text) or UNCLEAR


_READERS = {
    "boxes": _read_first_box,
    "yes/no": _read_yes_no,
    "absence": _read_absence,
    "count": _read_count,
    "colour": _read_colour,
    "lane": _read_lane,
    "place": _read_place,
    "five-way": _read_five_way,
    "text": _read_text,
}


@lru_cache(maxsize=65536)
def read(text: str, kind: str) -> str:
    """Read the decision out of an answer.

    Args:
        text: what the model (or the label) says.
        kind: one of `KINDS`, or "absence" (yes or no where yes says that something is not there), "five-way",
            or "text" (the whole normalised text is the decision).

    Returns:
        The decision in canonical words, `ABSTAIN` or `UNCLEAR`.

    Raises:
        ValueError: if the kind is unknown.
    """
    if kind in _READERS:
        return _READERS[kind](text)
    if kind in CHOICES:
        return find_choice(text, CHOICES[kind])
    raise ValueError(f"unknown kind of decision {kind!r}; choose one of {(*KINDS, 'five-way', 'text')}")


_PLAIN = re.compile(r"(yes|no|safe|not|true|false)\b")


def kind_of(answers: Iterable[str], tolerance: float = 0.02) -> str:
    """The kind of decision that a family asks for, found from its *labels* alone.

    Args:
        answers: the labels of one family.
        tolerance: the part of labels that may be unclear under the kind that is chosen.

    Returns:
        The first of `KINDS` that reads the labels into at least one decision, else "text".
    """
    counts = Counter(answers)
    if {normalise(answer) for answer in counts} == {"there is none"}:
        return "place"  # where things are is asked that way, and in this split the thing never is
    total = sum(counts.values())
    for kind in KINDS:
        readings: Counter[str] = Counter()
        for answer, count in counts.items():
            readings[read(answer, kind)] += count
        decided = set(readings) - {UNCLEAR, ABSTAIN, "none"}
        if kind == "count" and not any(_numbers_in(re.findall(r"[a-z]+|\d+", normalise(a))) for a in counts):
            continue  # "A car." can be read as one, but no label names a number
        if kind == "yes/no" and not any(_PLAIN.match(normalise(a)) for a in counts):
            continue  # "There is none." can be read as no, but no label says yes or no
        # A description holds a colour too: what tells the labels apart must survive the reading.
        kept = len(set(readings) - {UNCLEAR})
        is_long = sum(len(answer.split()) for answer in counts) > 6 * len(counts)
        loses_meaning = kind not in ("boxes", "yes/no") and (2 * kept <= len(counts) > 1 or is_long)
        if decided and readings[UNCLEAR] <= tolerance * total and not loses_meaning:
            return kind
    return "text"
