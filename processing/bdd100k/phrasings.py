"""How each question is asked: at least eight phrasings to train on and two that training never sees.

`{x}` is a category, `{xs}` its plural, `{a x}` the category with its article, `{side}` left or right.
Synonyms, lower case, missing question marks and typing slips are added by `Phraser`, never to the words
"left" and "right".
"""

import random
from dataclasses import dataclass

SLIPS = 0.04
"""Share of the training questions with a typing slip."""
PLURALS = {
    "bus": "buses",
    "person on foot": "people on foot",
    "lorry": "lorries",
}
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
        train: Templates for training, tuning and validation.
        heldout: Templates used only when asked for by name.
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
        text = _fill(templates[index], self._word(category, phrasings.plain), which)
        if self.slips and not phrasings.plain:
            text = self._type(text)
        return text, f"h{index}" if self.heldout else str(index)

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
        if len(word) >= 4 and word.isalpha() and word not in ("left", "right")
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


def _p(*train: str, heldout: tuple[str, ...], plain: bool = False) -> Phrasings:
    return Phrasings(train, heldout, plain)


PRESENCE = _p(
    "Is there {a x}?",
    "Is there {a x} in the picture?",
    "Can you see {a x}?",
    "Do you see any {xs}?",
    "Are there any {xs}?",
    "Is {a x} visible?",
    "Is there {a x} in view?",
    "Does the frame show {a x}?",
    "Any {xs} here?",
    heldout=("Have you spotted {a x}?", "Are any {xs} to be seen?"),
)
ABSENCE = _p(
    "Is the scene free of {xs}?",
    "Is the road free of {xs}?",
    "Are there zero {xs}?",
    "Is it true that there are no {xs}?",
    "Would you say there are no {xs} here?",
    "Is the picture without any {xs}?",
    "Is every {x} out of sight?",
    "Is the view empty of {xs}?",
    heldout=("Is it correct that no {x} is visible?", "Is this a scene without {xs}?"),
)
COUNT = _p(
    "How many {xs} are there?",
    "How many {xs} can you see?",
    "Count the {xs}.",
    "What is the number of {xs}?",
    "What's the number of {xs} in view?",
    "How many {xs} are in the picture?",
    "Tell me how many {xs} there are.",
    "How many {xs} are visible?",
    heldout=("Could you count the {xs} for me?", "How many {xs} does the frame show?"),
)
NEAREST = _p(
    "Where is the nearest {x}?",
    "Where's the closest {x}?",
    "Where is the {x} nearest to me?",
    "On which side is the nearest {x}, and how far?",
    "Tell me where the nearest {x} is.",
    "Where can I find the closest {x}?",
    "Where is the closest {x} to the car?",
    "Locate the nearest {x}.",
    heldout=("In which direction is the nearest {x}?", "What position does the closest {x} have?"),
)
DETECT = _p(
    "detect {x}",
    "Detect the {x}.",
    "Detect the largest {x}.",
    "Find the box of the {x}.",
    "Box the {x}.",
    "Mark the largest {x}.",
    "Draw a box around the {x}.",
    "Give the box of the largest {x}.",
    heldout=("Point out the {x} with a box.", "Give me the coordinates of the {x}."),
    plain=True,
)
LANE_CLEAR = {
    "mine": _p(
        "Is my lane clear?",
        "Is the lane ahead clear?",
        "Is my lane free?",
        "Is the ego lane clear?",
        "Is the lane I'm in clear?",
        "Is there free space in my lane?",
        "Is my own lane empty?",
        "Is the lane in front of me free?",
        heldout=("Is nothing in my lane?", "Would you call my lane clear?"),
    ),
    "side": _p(
        "Is the {side} lane clear?",
        "Is the lane on the {side} clear?",
        "Is the {side} lane free?",
        "Is the lane to my {side} free?",
        "Is the lane on my {side} empty?",
        "Is there free space in the {side} lane?",
        "Is the {side} lane open?",
        "Is the {side}-hand lane clear?",
        heldout=("Would you call the {side} lane clear?", "Does the lane on the {side} have room?"),
    ),
}
LANE_BLOCKED = {
    "mine": _p(
        "Is my lane blocked?",
        "Is the lane ahead blocked?",
        "Is my lane occupied?",
        "Is the ego lane blocked?",
        "Is something in my lane?",
        "Is the lane I'm in occupied?",
        "Is there anyone in my lane?",
        "Is the lane in front of me taken?",
        heldout=("Does anything block my lane?", "Is my lane obstructed?"),
    ),
    "side": _p(
        "Is the {side} lane blocked?",
        "Is the lane on the {side} blocked?",
        "Is the {side} lane occupied?",
        "Is the lane to my {side} occupied?",
        "Is something in the {side} lane?",
        "Is there anyone in the {side} lane?",
        "Is the {side} lane taken?",
        "Is the {side}-hand lane blocked?",
        heldout=("Does anything block the {side} lane?", "Is the lane on the {side} obstructed?"),
    ),
}
LANE_EXISTS = _p(
    "Is there a lane to my {side}?",
    "Is there a lane on the {side}?",
    "Do I have a lane on my {side}?",
    "Is there a {side} lane?",
    "Is there another lane to the {side} of mine?",
    "Can you see a lane on the {side}?",
    "Does the road have a lane to the {side} of me?",
    "Is there a drivable lane on my {side}?",
    heldout=("Does a lane run on my {side}?", "Have I got a lane to the {side}?"),
)
MOVE_FORWARD = _p(
    "Can I move forward?",
    "Is it safe to move forward?",
    "Can I go ahead?",
    "Is it safe to drive on?",
    "Can I keep going?",
    "Is the way ahead clear?",
    "May I go straight on?",
    "Is it safe to go straight?",
    "Is it OK to move ahead?",
    "Can we proceed?",
    heldout=("Am I able to continue forward?", "Would it be safe to carry on driving?"),
)
MUST_STOP = _p(
    "Must I stop?",
    "Do I have to stop?",
    "Should I stop?",
    "Do I need to stop?",
    "Should I brake?",
    "Is there a reason to stop?",
    "Have I got to stop here?",
    "Should the car stop?",
    heldout=("Is stopping necessary?", "Am I supposed to halt?"),
)
TURN = _p(
    "Can I turn {side}?",
    "Can I safely turn {side}?",
    "Is it safe to turn {side}?",
    "May I turn {side} here?",
    "Is a {side} turn safe?",
    "Can I make a {side} turn?",
    "Should I turn {side}, is it safe?",
    "Is it OK to turn {side}?",
    heldout=("Would turning {side} be safe?", "Am I able to take a {side} turn safely?"),
)
CHANGE_LANE = _p(
    "Can I change to the {side} lane?",
    "Can I move to the {side} lane?",
    "Is it safe to change lanes to the {side}?",
    "Can I safely change lane to the {side}?",
    "May I merge {side}?",
    "Can I pull over to the {side} lane?",
    "Is a lane change to the {side} safe?",
    "Is it OK to switch to the {side} lane?",
    heldout=("Would moving over to the {side} be safe?", "Could I get into the lane on the {side}?"),
)
COMMAND_FORWARD = _p(
    "Go.",
    "Drive on.",
    "Go straight.",
    "Move forward.",
    "Keep going.",
    "Go ahead.",
    "Continue straight on.",
    "Please drive forward.",
    heldout=("Carry on driving.", "Proceed straight ahead."),
)
COMMAND_TURN = _p(
    "Turn {side}.",
    "Take a {side} turn.",
    "Turn {side} here.",
    "Please turn {side}.",
    "Make a {side} turn.",
    "Turn to the {side}.",
    "Go {side}.",
    "Take the next {side}.",
    heldout=("Steer into the road on the {side}.", "Do a {side} turn now."),
)
COMMAND_LANE = _p(
    "Change to the {side} lane.",
    "Pull into the {side} lane.",
    "Move to the {side} lane.",
    "Merge {side}.",
    "Take the {side} lane.",
    "Please change lanes to the {side}.",
    "Switch to the lane on the {side}.",
    "Get into the {side} lane.",
    heldout=("Slide over to the {side} lane.", "Use the lane on your {side}."),
)
VEHICLE_NEAR = {
    "ahead": _p(
        "Is there a vehicle close ahead?",
        "Is a vehicle close in front of me?",
        "Is there a vehicle near, straight ahead?",
        "Am I close to a vehicle in front?",
        "Is the vehicle in front near?",
        "Is there a vehicle just in front?",
        "Is there any vehicle close ahead of us?",
        "Is something driving close ahead of me?",
        heldout=("Do I have a vehicle close in front?", "Is there a close vehicle ahead?"),
    ),
    "side": _p(
        "Is there a vehicle close on the {side}?",
        "Is a vehicle near on my {side}?",
        "Is there a vehicle close to my {side}?",
        "Is there a near vehicle on the {side}?",
        "Am I close to a vehicle on the {side}?",
        "Is any vehicle close by on the {side}?",
        "Is there a vehicle close to us on the {side}?",
        "Is a vehicle close on the {side} side?",
        heldout=("Do I have a vehicle close on my {side}?", "Is there a close vehicle to the {side}?"),
    ),
}
AHEAD = _p(
    "What is directly ahead?",
    "What is in front of me?",
    "What's ahead of me?",
    "What is straight ahead?",
    "What's in my path?",
    "Who or what is in front of us?",
    "What is the next thing in front of the car?",
    "What do I have ahead?",
    heldout=("What stands before me on the road?", "Tell me what lies ahead."),
)
COMPARE = _p(
    "Are there more vehicles on the left or on the right?",
    "Which side has more vehicles?",
    "Where are more vehicles, left or right?",
    "Are more vehicles on the right or on the left?",
    "Is there more traffic on the left or the right?",
    "On which side are more vehicles?",
    "Which side is busier, left or right?",
    "Which side of the picture has more vehicles?",
    heldout=("Does the left or the right hold more vehicles?", "Where is the traffic denser, right or left?"),
)
LIGHT_STATE = _p(
    "What colour is the traffic light?",
    "What color is the light?",
    "What does the traffic light show?",
    "Which colour does the light have?",
    "What's the state of the traffic light?",
    "What is the traffic light showing?",
    "Tell me the colour of the traffic light.",
    "Is the traffic light red or green?",
    heldout=("In what state is the signal ahead?", "The light ahead, what colour is it?"),
)
LIGHT_RED = _p(
    "Is there a red light?",
    "Is there a red light ahead?",
    "Do I have a red light?",
    "Can you see a red light ahead?",
    "Is a red light showing for me?",
    "Is a traffic light ahead red?",
    "Is any light in front of me red?",
    "Does a traffic light show red?",
    heldout=("Am I facing a red light?", "Has a light ahead turned red?"),
)
LIGHT_GREEN = _p(
    "Is there a green light?",
    "Is there a green light ahead?",
    "Do I have a green light?",
    "Can you see a green light ahead?",
    "Is a green light showing for me?",
    "Is a traffic light ahead green?",
    "Is any light in front of me green?",
    "Does a traffic light show green?",
    heldout=("Am I facing a green light?", "Has a light ahead turned green?"),
)
LIGHT_FOR_ME = _p(
    "Is there a traffic light for me?",
    "Do I have a traffic light ahead?",
    "Is a traffic light in force for me?",
    "Does a traffic light apply to me?",
    "Is there a traffic light that I must obey?",
    "Is there a light for my direction?",
    "Is my way controlled by a traffic light?",
    "Must I watch a traffic light here?",
    heldout=("Does any traffic light concern me?", "Have I got a traffic light to mind?"),
)
WEATHER = _p(
    "What is the weather?",
    "What's the weather like?",
    "How is the weather?",
    "Describe the weather.",
    "Tell me the weather.",
    "What kind of weather is it?",
    "What are the weather conditions?",
    "What does the weather look like?",
    heldout=("Which weather do we have?", "Can you name the weather?"),
)
RAINY = _p(
    "Is it rainy?",
    "Is it raining?",
    "Is the weather rainy?",
    "Do we have rain?",
    "Is it a rainy day or night?",
    "Is there rain?",
    "Is it wet from rain?",
    "Would you call the weather rainy?",
    heldout=("Does it look like rain?", "Are we driving in the rain?"),
)
SNOWY = _p(
    "Is it snowy?",
    "Is it snowing?",
    "Is the weather snowy?",
    "Do we have snow?",
    "Is it a snowy day or night?",
    "Is there snow?",
    "Is this winter weather with snow?",
    "Would you call the weather snowy?",
    heldout=("Does it look like snow?", "Are we driving in snow?"),
)
TIME_OF_DAY = _p(
    "What time of day is it?",
    "Is it day or night?",
    "What's the time of day?",
    "Is it day, dusk or night?",
    "Tell me the time of day.",
    "When was this picture taken, by day or by night?",
    "Which time of day is it?",
    "What part of the day is it?",
    heldout=("During which part of the day are we driving?", "Would you say it is day or night?"),
)
NIGHT = _p(
    "Is it night?",
    "Is it nighttime?",
    "Is this at night?",
    "Are we driving at night?",
    "Is it night now?",
    "Was this taken at night?",
    "Is it already night?",
    "Would you say it is night?",
    heldout=("Does it look like night?", "Is this a night scene?"),
)
DAY = _p(
    "Is it day?",
    "Is it daytime?",
    "Is this by day?",
    "Are we driving by day?",
    "Is it day now?",
    "Was this taken by day?",
    "Is it bright day?",
    "Would you say it is daytime?",
    heldout=("Does it look like daytime?", "Is this a daytime scene?"),
)
PLACE = _p(
    "What kind of place is this?",
    "Where are we driving?",
    "What type of road is this?",
    "What kind of scene is it?",
    "Are we in the city or on a highway?",
    "What sort of street is this?",
    "Which type of place is it?",
    "What's the scene?",
    heldout=("How would you describe the surroundings?", "In what kind of area are we?"),
)
VISIBILITY = _p(
    "Is the visibility good?",
    "Is visibility good here?",
    "Can I see well?",
    "Is the view clear of rain, fog and darkness?",
    "Are the viewing conditions good?",
    "Is it easy to see?",
    "Do we have good visibility?",
    "Is my sight unhindered by weather or darkness?",
    heldout=("Would you call the visibility good?", "Can the road be seen well?"),
)
DESCRIBE = _p(
    "Describe the scene.",
    "What do you see?",
    "Describe the picture.",
    "What is happening here?",
    "Tell me what you see.",
    "Give a short description.",
    "What's in the picture?",
    "Summarise the scene in a sentence.",
    heldout=("How would you sum up this frame?", "Put the scene into words."),
)
OUT_OF_SCOPE = _p(
    "What is the capital of France?",
    "Tell me a joke.",
    "What is behind me?",
    "How fast am I driving?",
    "What is the driver's name?",
    "Will it rain tomorrow?",
    "What is two plus two?",
    "Who won the match yesterday?",
    "What's the name of this street?",
    "How much fuel is in the tank?",
    "What is the licence plate of the car ahead?",
    "Write a poem.",
    "What are the passengers talking about?",
    "How old is the driver?",
    "Which radio station is playing?",
    "How far is it to the airport?",
    heldout=(
        "Who wrote Hamlet?",
        "What is the temperature in the car?",
        "When does the shop open?",
        "Translate this into German.",
    ),
)
