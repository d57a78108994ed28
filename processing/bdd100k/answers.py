"""The fixed answer texts, and the five-way reading of "Can I move forward?"."""

MOVE_FORWARD = {
    "safe": "Yes, the way is clear.",
    "red": "No, a red light.",
    "person": "No, a person is in the way.",
    "vehicle": "No, a vehicle is in the way.",
    "obstacle": "No, an obstacle is in the way.",
}
"""Class -> the one text that answers it. The order is the classes' order in every table."""

MUST_STOP = {
    "safe": "No, the way is clear.",
    "red": "Yes, a red light.",
    "person": "Yes, a person is in the way.",
    "vehicle": "Yes, a vehicle is in the way.",
    "obstacle": "Yes, an obstacle is in the way.",
}


def five_way(answer: str) -> str | None:
    """The class that an answer to "Can I move forward?" names.

    Args:
        answer: A generated or a labelled answer; case, outer spaces and the final full stop do not matter.

    Returns:
        "safe", "red", "person", "vehicle" or "obstacle"; `None` when it is none of the five texts.
    """
    return _CLASS_FOLDED.get(_fold(answer))


def _fold(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(". ")


_CLASS_FOLDED = {_fold(_text): _name for _name, _text in MOVE_FORWARD.items()}

CLEAR = "it is clear"
NO_LANE = "there is no lane there"
NO_ROAD = "there is no road there"
RED_LIGHT = "a red light"
PERSON_THERE = "a person is there"
VEHICLE_THERE = "a vehicle is there"
PERSON_IN_WAY = "a person is in the way"
VEHICLE_IN_WAY = "a vehicle is in the way"

NUMBERS = ("None.", "One.", "Two.", "Three.", "Four.", "Five.", "More than five.")
OUT_OF_SCOPE = "I cannot tell from this picture."


def answer_class(answer: str) -> str:
    """What an answer is balanced as: itself, or "box" when it is location tokens."""
    return "box" if answer.startswith("<loc") else answer
