"""The parser against what models really write, and against what peers' parsers are known to misread."""

import pytest
from traffic_vlm.evaluation.answers import (
    ABSTAIN,
    MORE_THAN_FIVE,
    UNCLEAR,
    kind_of,
    normalise,
    read,
    read_boxes,
    read_option,
)

YES_NO = {
    "Yes": "yes",
    "yes.": "yes",
    "YES!!": "yes",
    "ＹＥＳ": "yes",
    "**Yes**": "yes",
    "<answer>no</answer>": "no",
    "\\boxed{no}": "no",
    "Yep, go on": "yes",
    "nope": "no",
    "No.": "no",
    "no , red light .": "no",
    "y": "yes",
    "N": "no",
    "Yes, there is no pedestrian.": "yes",
    "No, there is no reason to say yes.": "no",
    "There is no reason to say yes": "no",
    "I would not say yes": "no",
    "Yes is not the answer": "no",
    "No doubt, yes": "yes",
    "No doubt about it, yes.": "yes",
    "No way.": "no",
    "By no means": "no",
    "Of course not": "no",
    "Certainly not.": "no",
    "Not really": "no",
    "Not safe, a car is close on the left.": "no",
    "Not safe because a car blocks the lane": "no",
    "Unsafe.": "no",
    "Safe, the lane is free.": "yes",
    "It is not safe.": "no",
    "It isn't safe": "no",
    "It is safe to go.": "yes",
    "It is.": "yes",
    "It is not.": "no",
    "There is.": "yes",
    "There are none.": "no",
    "There is no car.": "no",
    "No car is in view": "no",
    "No cars, so yes": "yes",
    "I don't see any.": "no",
    "You cannot.": "no",
    "You can.": "yes",
    "The answer is yes.": "yes",
    "Answer: no": "no",
    "Is the left lane clear? Yes.": "yes",
    "There is a car. It is moving. Therefore, no": "no",
    "Let me think: no car on the left, no one is crossing. The answer is yes": "yes",
    "true": "yes",
    "False": "no",
    "Yes yes": "yes",
    "I'm not sure, but yes": "yes",
    "yes, I am not sure why": "yes",
    # nothing to read, or two readings
    "": UNCLEAR,
    "   ": UNCLEAR,
    "...": UNCLEAR,
    "yes and no": UNCLEAR,
    "Yes/No": UNCLEAR,
    "yes or no": UNCLEAR,
    "Yes. No.": UNCLEAR,
    "No. Yes. No.": UNCLEAR,
    "Yesterday": UNCLEAR,
    "Norway": UNCLEAR,
    "It is a car": UNCLEAR,
    "A car is turning left": UNCLEAR,
    "red": UNCLEAR,
    "3": UNCLEAR,
    "No. 5 is a bus": UNCLEAR,
    'The sign says "yes"': UNCLEAR,
    "The road is wet": UNCLEAR,
    "There is a truck ahead": UNCLEAR,
    "notable": UNCLEAR,
    "!!!": UNCLEAR,
    "🚗": UNCLEAR,
    # refusals
    "I cannot tell.": ABSTAIN,
    "I don't know": ABSTAIN,
    "Unknown": ABSTAIN,
    "maybe": ABSTAIN,
    "Not sure": ABSTAIN,
    "It cannot be determined from the image.": ABSTAIN,
    "No idea": ABSTAIN,
    "uncertain": ABSTAIN,
}
COLOURS = {
    "red": "red",
    "The light is red, not green.": "red",
    "It is not green but red": "red",
    "amber": "yellow",
    "Green!": "green",
    "The red car waits at a green light": "green",
    "a green car at the red traffic light": "red",
    "red or green": UNCLEAR,
    "neither red nor green": UNCLEAR,
    "not red": UNCLEAR,
    "hundred": UNCLEAR,
    "reddish": UNCLEAR,
    "I cannot tell": ABSTAIN,
    "": UNCLEAR,
}
COUNTS = {
    "3": "3",
    "Three.": "3",
    "There are 3 cars": "3",
    "none": "0",
    "No cars.": "0",
    "There are no cars": "0",
    "zero": "0",
    "no one": "0",
    "Nobody": "0",
    "A car": "1",
    "just one": "1",
    "one": "1",
    "more than five": MORE_THAN_FIVE,
    "More than 5 cars": MORE_THAN_FIVE,
    "13": MORE_THAN_FIVE,
    "twenty-two": MORE_THAN_FIVE,
    "1,000": MORE_THAN_FIVE,
    "a dozen": MORE_THAN_FIVE,
    "many": MORE_THAN_FIVE,
    ">5": MORE_THAN_FIVE,
    "５": "5",
    "a couple": "2",
    "two or three": UNCLEAR,
    "at least two": UNCLEAR,
    "no more than five": UNCLEAR,
    "more than two": UNCLEAR,
    "3 cars and 2 trucks": UNCLEAR,
    "2.5": UNCLEAR,
    "-1": UNCLEAR,
    "3-4": UNCLEAR,
    "the left one": UNCLEAR,
    "yes": UNCLEAR,
    "tone": UNCLEAR,
    "I don't know": ABSTAIN,
    "": UNCLEAR,
}
LANES = {
    "left": "left",
    "The right lane.": "right",
    "on the left-hand side": "left",
    "my lane": "mine",
    "right ahead": "mine",
    "straight ahead": "mine",
    "That's right, on the left": "left",
    "not left but right": "right",
    "the same number": "equal",
    "left or right": UNCLEAR,
    "all right": UNCLEAR,
    "bright": UNCLEAR,
    "leftover": UNCLEAR,
    "not the left": UNCLEAR,
    "I cannot tell": ABSTAIN,
}
FIVE_WAY = {
    "Yes, the way is free.": "safe",
    "yes , safe .": "safe",
    "no , red light .": "red",
    "No, the light is red.": "red",
    "No, a pedestrian is crossing ahead.": "person",
    "No, there is a person on the road": "person",
    "No, a car is ahead.": "vehicle",
    "No, a bicycle is in the way.": "vehicle",
    "No, a vehicle is not moving": "vehicle",
    "No, an obstacle blocks the way": "obstacle",
    "Yes, no pedestrian and no vehicle ahead": "safe",
    "No, there is no red light, but a truck is close": "vehicle",
    "No, a red light and a car": "red",
    "no": UNCLEAR,
    "No, not now": UNCLEAR,
    "I cannot tell": ABSTAIN,
    "Safe": "safe",
    "Not safe because a bus is ahead": "vehicle",
    "": UNCLEAR,
    "scarf": UNCLEAR,
}
OPTIONS = {
    "B. It is a car turning left.": "B",
    "It is a car": UNCLEAR,
    "A car is ahead": UNCLEAR,
    "A": "A",
    "(c)": "C",
    "b)": "B",
    "D: stop": "D",
    "The answer is C.": "C",
    "Option B": "B",
    "A dog or a cat": UNCLEAR,
    "": UNCLEAR,
    "Answer: A": "A",
    "Between A and B": UNCLEAR,
}
ATTRIBUTES = {
    ("It is a sunny day", "weather"): "clear",
    ("partly cloudy", "weather"): "partly cloudy",
    ("raining", "weather"): "rainy",
    ("not clear but foggy", "weather"): "foggy",
    ("clear or rainy", "weather"): UNCLEAR,
    ("train", "weather"): UNCLEAR,
    ("dawn or dusk", "time of day"): "dawn/dusk",
    ("dawn/dusk", "time of day"): "dawn/dusk",
    ("at night", "time of day"): "night",
    ("It is not day but night", "time of day"): "night",
    ("Knight", "time of day"): UNCLEAR,
    ("a city street", "scene"): "city street",
    ("motorway", "scene"): "highway",
    ("left lane, far away", "place"): "left, far",
    ("Ahead, not far.", "place"): "mine, middle",
    ("There is none.", "place"): "none",
    ("A truck.", "text"): "truck",
    ("I cannot tell from this picture.", "text"): ABSTAIN,
    ("near", "place"): UNCLEAR,
}


@pytest.mark.parametrize(
    ("kind", "cases"),
    [("yes/no", YES_NO), ("colour", COLOURS), ("count", COUNTS), ("lane", LANES), ("five-way", FIVE_WAY)],
)
def test_reads_what_models_write(kind, cases):
    wrong = {text: (read(text, kind), wanted) for text, wanted in cases.items() if read(text, kind) != wanted}
    assert not wrong


def test_reads_options_without_taking_the_article_for_one():
    assert {text: read_option(text) for text in OPTIONS} == OPTIONS


def test_reads_attributes_and_places():
    assert {case: read(*case) for case in ATTRIBUTES} == ATTRIBUTES


def test_none_and_numbers_are_unclear_not_a_crash():
    assert read(None, "yes/no") == UNCLEAR
    assert read(float("nan"), "count") == UNCLEAR
    assert normalise(3) == ""


def test_boxes_come_back_as_fractions_and_broken_ones_are_left_out():
    broken = "<loc0500><loc0500><loc0400><loc0600> bus <loc0001><loc0002>"
    text = f"<loc0100><loc0200><loc0300><loc0400> car ; {broken}"
    assert read_boxes(text) == [("car", (200 / 1023, 100 / 1023, 400 / 1023, 300 / 1023))]


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["Yes.", "No, a car is near."], "yes/no"),
        (["0", "more than five", "2"], "count"),
        (["red", "green"], "colour"),
        (["clear", "rainy"], "weather"),
        (["daytime", "night", "dawn or dusk"], "time of day"),
        (["left", "mine", "right"], "lane"),
        (["Left lane, near.", "My lane, far."], "place"),
        (["A truck.", "A traffic light."], "text"),
        (["A car.", "Nothing close."], "text"),
        (["None.", "One.", "More than five."], "count"),
        (["Ahead, close.", "On the left, far away.", "There is none."], "place"),
        (["There is none."] * 99 + ["Ahead, not far."], "place"),
        (["<loc0008><loc0016><loc0512><loc0512> car", "There is none."], "boxes"),
        (["No."] * 99 + ["Yes."], "yes/no"),
        (["No."], "yes/no"),
        (["There is none."], "place"),
        (["Yes, there are none.", "No, there is one."], "yes/no"),
        (["On the left.", "About the same."], "lane"),
        (
            ["A clear day, few vehicles, no people.", "An overcast night, no vehicles, people, red light."],
            "text",
        ),
        ([], "text"),
    ],
)
def test_kind_is_found_from_the_labels(answers, kind):
    assert kind_of(answers) == kind


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown kind"):
        read("yes", "mood")
