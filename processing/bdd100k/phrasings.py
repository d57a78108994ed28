"""How a pattern of words becomes a typed question. The patterns of each family: `wordings.py`.

`{x}` is a category, `{xs}` its plural, `{a x}` the category with its article, `{side}` left or right, and
`[see|spot|notice]` any one of the three, so that a pattern stands for as many wordings as it has
combinations. Synonyms, lower case, missing question marks and typing slips are added by `Phraser`, never to
the words "left" and "right".
"""

import random
import re
from dataclasses import dataclass

SLIPS = 0.04
"""Share of the training questions with a typing slip."""
PLURALS = {
    "bus": "buses",
    "person on foot": "people on foot",
    "lorry": "lorries",
}
ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
SYNONYMS = {
    "pedestrian": ("person on foot",),
    "bicycle": ("bike",),
    "motorcycle": ("motorbike",),
    "truck": ("lorry",),
    "traffic sign": ("road sign",),
    "traffic light": ("traffic signal",),
}


@dataclass(frozen=True, slots=True)
class Phrasings:
    """The ways to ask one thing.

    Attributes:
        train: Patterns for training, tuning and validation.
        heldout: Patterns used only when asked for by name.
        plain: Whether to leave the text exactly as it is (commands to the model such as "detect car").
    """

    train: tuple[str, ...]
    heldout: tuple[str, ...]
    plain: bool = False


class Phraser:
    """Turns templates into typed text.

    Args:
        rng: Source of all choices.
        heldout: Whether to take the held-out phrasings.
        slips: Probability that a question gets a typing slip; a third of the questions then also lose their
            question mark or capitals.
    """

    def __init__(self, rng: random.Random, heldout: bool = False, slips: float = 0.0):
        self.rng, self.heldout, self.slips = rng, heldout, slips

    def ask(
        self, phrasings: Phrasings, category: str | None = None, which: str | None = None
    ) -> tuple[str, str]:
        """Picks a phrasing and fills it in.

        Returns:
            The question, and the suffix of the template id ("3", or "h0" for a held-out one).
        """
        templates = phrasings.heldout if self.heldout else phrasings.train
        index = int(self.rng.random() * len(templates))
        template = ALTERNATIVES.sub(self._alternative, templates[index])
        text = _fill(template, self._word(category, phrasings.plain), which)
        if self.slips and not phrasings.plain:
            text = self._type(text)
        return text, f"h{index}" if self.heldout else str(index)

    def _alternative(self, match: re.Match[str]) -> str:
        choices = match.group(1).split("|")
        return choices[int(self.rng.random() * len(choices))]

    def _word(self, category: str | None, plain: bool) -> str:
        synonyms = SYNONYMS.get(category or "", ())
        if plain or not synonyms or self.rng.random() >= 0.2:
            return category or ""
        return synonyms[int(self.rng.random() * len(synonyms))]

    def _type(self, text: str) -> str:
        """What hurried people do to a sentence."""
        chance = self.rng.random()
        if chance < 0.15:
            text = text.lower()
        elif chance < 0.25:
            text = text.rstrip("?.")
        elif chance < 0.33:
            text = text.lower().rstrip("?.")
        return slip(text, self.rng) if self.rng.random() < self.slips else text


def _fill(template: str, word: str, which: str | None) -> str:
    if "{" not in template:
        return template
    plural = PLURALS.get(word, word + "s")
    text = template.replace("{a x}", "a " + word).replace("{xs}", plural).replace("{x}", word)
    return text.replace("{side}", which or "")


def slip(text: str, rng: random.Random) -> str:
    """One typing slip in a word of at least four letters: letters swapped, one dropped or one doubled."""
    words = text.split(" ")
    places = [
        i
        for i, word in enumerate(words)
        if len(word) >= 4 and word.isalpha() and word.lower() not in ("left", "right")
    ]
    if not places:
        return text
    place = places[int(rng.random() * len(places))]
    word = words[place]
    at = 1 + int(rng.random() * (len(word) - 2))
    kind = int(rng.random() * 3)
    typed = (
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
    )[kind]
    return " ".join((*words[:place], typed, *words[place + 1 :]))
