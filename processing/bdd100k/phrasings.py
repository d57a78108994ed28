"""How each question is asked: at least eight phrasings to train on and at least two that training never sees.

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
    "Does the picture contain {a x}?",
    "Are {xs} present?",
    "Do you notice {a x} anywhere?",
    "Would you say there is {a x}?",
    "Is at least one {x} in sight?",
    "Are there {xs} around?",
    "Can {a x} be seen?",
    "Did the camera catch {a x}?",
    "Do I have {a x} around me?",
    "I wonder whether there is {a x}.",
    "Look for {a x}: is there one?",
    heldout=(
        "Can you spot {a x} anywhere in this shot?",
        "Does the camera pick up any {xs}?",
        "I'm wondering whether there's at least one {x} in view here.",
    ),
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
    "Is there no {x} at all?",
    "Are there no {xs}?",
    "Can you confirm that there isn't {a x}?",
    "Are {xs} missing from the picture?",
    "Can it be said that you see no {xs}?",
    "Do you see not a single {x}?",
    "Are {xs} absent?",
    "Is the frame clear of {xs}?",
    "Are we without any {xs} nearby?",
    "So there is no {x}, correct?",
    heldout=(
        "Is the scene completely free of {xs}?",
        "Am I correct that not a single {x} shows up in this frame?",
        "Would you say there are no {xs} to be seen here?",
    ),
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
    "Give me the number of {xs}.",
    "How many {xs} do you notice?",
    "What is the count of {xs}?",
    "Say how many {xs} are around.",
    "How many {xs} appear here?",
    "Can you tell how many {xs} there are?",
    "Number of {xs}?",
    "How many {xs} did the camera catch?",
    "Please count all {xs}.",
    "I need the number of {xs}.",
    heldout=(
        "What's the total number of {xs} in the picture?",
        "Give me a tally of every {x} you can make out.",
    ),
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
    "Which side is the nearest {x} on?",
    "How far and on which side is the closest {x}?",
    "Where do you see the closest {x}?",
    "Describe where the nearest {x} is.",
    "The nearest {x}, where is it?",
    "Whereabouts is the {x} closest to us?",
    "Find the closest {x} and say where it is.",
    "Please locate the {x} closest to the camera.",
    "Where would I meet the nearest {x}?",
    heldout=(
        "Where's the closest {x}, and roughly how many meters away is it?",
        "Tell me which side the nearest {x} is on and its distance from us.",
        "Of all the {xs} around, how far off is the closest one and in what direction?",
    ),
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
    "find {x}",
    "locate {x}",
    "Show me the {x} as a box.",
    "Where is the largest {x}? Answer with a box.",
    "Return the bounding box of the {x}.",
    "bounding box of {x}",
    "Outline the {x}.",
    "Which box holds the {x}?",
    heldout=(
        "Draw a bounding box around the biggest {x}.",
        "What are the pixel coordinates of the most prominent {x}?",
        "Please localize the largest {x} in the image.",
    ),
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
        "Is there nothing ahead in my lane?",
        "Is the lane that I drive in clear?",
        "Do I have a free lane ahead?",
        "Does my lane have free space?",
        "Is our lane clear?",
        "Am I in a free lane?",
        "Is my lane open in front of me?",
        "Can you confirm that my lane is clear?",
        "Is the way in my lane free?",
        heldout=(
            "Is my lane open ahead?",
            "Do I have an empty lane in front of me?",
            "Can you confirm there's nothing in the way in the lane we're driving in?",
        ),
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
        "Is there nothing in the {side} lane?",
        "Do I have a free lane on my {side}?",
        "Is the {side} lane empty?",
        "Is nobody in the lane to the {side}?",
        "Does the {side} lane have free space?",
        "Can you confirm that the {side} lane is clear?",
        "Is there space in the lane on my {side}?",
        "Is the lane next to me on the {side} clear?",
        "Has the {side} lane got room for me?",
        "Is there a gap in the {side} lane?",
        heldout=(
            "Is the lane to my {side} empty?",
            "Looking at the {side} lane, is it free of traffic?",
            "Nobody's in the lane on the {side}, correct?",
        ),
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
        "Is my lane full?",
        "Does something stand in my lane?",
        "Is anybody or anything in my lane ahead?",
        "Is there an obstacle in my lane?",
        "Is our lane blocked?",
        "Is my way in this lane barred?",
        "Is there a vehicle or person in my lane?",
        "Do I have something in front of me in my lane?",
        "Is my lane not free?",
        "Am I blocked in my lane?",
        heldout=(
            "Is anything obstructing the lane I'm in?",
            "Does the ego lane have an obstacle in it?",
            "Has something got in the way in my lane?",
        ),
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
        "Is the {side} lane full?",
        "Does something stand in the {side} lane?",
        "Is anybody or anything in the {side} lane?",
        "Is there an obstacle in the lane on the {side}?",
        "Is the lane next to me on the {side} blocked?",
        "Is the way in the {side} lane barred?",
        "Is there a vehicle or person in the {side} lane?",
        "Is the {side} lane not free?",
        "Is the lane on my {side} in use?",
        "Does the {side} lane have someone in it?",
        heldout=(
            "Is there something sitting in the {side} lane?",
            "Would I run into an obstacle in the lane on my {side}?",
            "The lane over on the {side}, is it occupied?",
        ),
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
    "Is there road for another lane on the {side}?",
    "Are there lanes to the {side} of mine?",
    "Does the road go on with a lane on my {side}?",
    "Is there any lane on the {side} of us?",
    "Is a lane available on the {side}?",
    "Could I find a lane to my {side}?",
    "Does a lane lie on the {side}?",
    "Next to me on the {side}, is there a lane?",
    heldout=(
        "Do we have another lane to our {side}?",
        "Is there a {side} lane at all on this road?",
        "Looking to the {side}, can you see a lane next to the one I'm in?",
    ),
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
    "Am I OK to go forward?",
    "Could I drive on now?",
    "Should I go forward?",
    "Is going forward safe?",
    "Would you drive on here?",
    "Is my path ahead free?",
    "Is it fine to continue straight?",
    "Do I have a free way ahead?",
    "Can the car go on?",
    "Is driving ahead possible without danger?",
    "Can I safely advance?",
    "Is the road ahead free for me?",
    heldout=(
        "Is it okay to keep going straight?",
        "Can I safely carry on ahead?",
        "Would continuing forward be safe from here?",
    ),
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
    "Do we have to stop?",
    "Would you stop here?",
    "Is it necessary to stop?",
    "Does anything force me to stop?",
    "Should I come to a stop?",
    "Need I brake now?",
    "Is braking needed?",
    "Do I have to wait?",
    "Is this a situation in which I must stop?",
    "Should we hold here?",
    "Had I better stop?",
    "Is there anything to stop for?",
    heldout=(
        "Do I need to hit the brakes and come to a halt?",
        "Is stopping required in this situation?",
        "Should the car be brought to a stop here?",
    ),
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
    "Could I turn {side} now?",
    "Would a {side} turn be OK?",
    "Do I have a safe {side} turn here?",
    "Can the car turn {side}?",
    "Is turning {side} safe now?",
    "Am I free to turn {side}?",
    "Is it fine to go {side}?",
    "Would you turn {side} here?",
    "May we take a {side} turn?",
    "Is a turn to the {side} possible?",
    "Can I go to the {side} at this point?",
    heldout=(
        "Can I make a {side} turn here without any danger?",
        "Is it safe for us to turn {side} at this point?",
        "If I steer into the street on the {side} now, will I be okay?",
    ),
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
    "Could I change lanes to the {side} now?",
    "Would a lane change to the {side} be safe?",
    "Am I free to move into the {side} lane?",
    "Is it fine to go into the {side} lane?",
    "May I take the {side} lane?",
    "Would you change to the {side} lane here?",
    "Can the car switch lanes to the {side}?",
    "Is merging to the {side} safe?",
    "Is there a safe way into the {side} lane?",
    "Can we go over to the {side} lane?",
    heldout=(
        "Is there enough room to merge into the {side} lane?",
        "Could I move over one lane to the {side} safely?",
        "I'd like to switch to the lane on my {side}; is that safe?",
    ),
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
    "Continue.",
    "Drive.",
    "Drive ahead.",
    "Go on.",
    "Onwards.",
    "Keep driving.",
    "Move on.",
    "Let's go.",
    "Start driving.",
    "Follow the road ahead.",
    "Advance.",
    "Go forward now.",
    heldout=(
        "Keep driving straight ahead.",
        "Go on, continue forward.",
        "Please stay on this course and proceed.",
    ),
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
    "Now turn {side}.",
    "Go to the {side}.",
    "Bear {side}.",
    "Steer to the {side}.",
    "Drive to the {side}.",
    "Let's turn {side}.",
    "Head {side}.",
    "Take a turn to the {side}.",
    "Swing {side}.",
    "Turn {side} at this point.",
    heldout=(
        "Make a {side} at the intersection.",
        "Turn to the {side} here, please.",
        "At the next corner, take the street on the {side}.",
    ),
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
    "Go into the {side} lane.",
    "Change lanes to the {side}.",
    "Go over to the {side} lane.",
    "Move over to the {side}.",
    "Drive in the {side} lane.",
    "Let's take the {side} lane.",
    "Now change to the {side} lane.",
    "Steer into the {side} lane.",
    "Shift to the {side} lane.",
    "Merge into the {side} lane.",
    heldout=(
        "Move over into the {side} lane.",
        "Switch lanes to the {side}, please.",
        "Get us one lane further to the {side}.",
    ),
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
        "Is a vehicle near me in front?",
        "Is anything driving just before me?",
        "Is the one ahead of me close?",
        "Is the traffic in front close to me?",
        "Is there a vehicle immediately in front?",
        "Am I near the vehicle ahead?",
        "Do you see a vehicle close before us?",
        "Is there little distance to the vehicle ahead?",
        "Is some vehicle near in front of the car?",
        heldout=(
            "Is there a vehicle just a short distance ahead of me?",
            "Am I following somebody too closely?",
            "Does any vehicle in front look close to us?",
        ),
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
        "Do you see a vehicle close on my {side}?",
        "Is there any vehicle near on the {side}?",
        "Is anything driving close to my {side}?",
        "Is the traffic on the {side} close to me?",
        "Is some vehicle near me on the {side}?",
        "Is there a vehicle directly beside me on the {side}?",
        "Am I near a vehicle on my {side}?",
        "Is there little distance to a vehicle on the {side}?",
        heldout=(
            "Is a vehicle close by on my {side}?",
            "Do I have another vehicle near me on the {side} side?",
            "Looking {side}, is any traffic within a few meters of us?",
        ),
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
    "Which road user is ahead of me?",
    "What is the first thing ahead?",
    "Who is in front of us?",
    "What comes next in front of me?",
    "Is there anything ahead, and what?",
    "What do you see immediately in front of the car?",
    "Say what is ahead.",
    "What am I following?",
    "What is in the way ahead?",
    "Name what is in front of me.",
    heldout=(
        "What's in front of my car?",
        "Tell me what lies directly ahead of us.",
        "Which object is straight in front of the ego vehicle?",
    ),
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
    "Do you count more vehicles left or right?",
    "Is the left side or the right side fuller?",
    "Are there more vehicles right or left?",
    "Which has more traffic, the left or the right?",
    "Say which side has more vehicles, right or left.",
    "Left or right: where is more traffic?",
    "Is there more going on to the left or to the right?",
    "Compare left and right: more vehicles where?",
    "Do most vehicles stand on the right or on the left?",
    heldout=(
        "Which side has more vehicles, the left or the right?",
        "Is traffic heavier on the right than on the left, or the other way around?",
        "Compare the number of vehicles to our left and right and tell me where there are more.",
    ),
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
    "Red or green, what is the light?",
    "What does the signal show?",
    "Is the signal red or green?",
    "Which colour is the signal in front?",
    "What colour do you see at the traffic light?",
    "Say the color of the traffic light.",
    "The traffic light: which colour?",
    "What is the light saying?",
    "How does the traffic light stand?",
    "What color does the signal ahead have?",
    heldout=(
        "What color is the traffic light showing?",
        "Is the signal ahead red or green?",
        "Tell me the current state of my traffic light.",
    ),
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
    "Is the signal red?",
    "Is the light ahead of me on red?",
    "Does the signal show red?",
    "Do you see red at the traffic light?",
    "Is my light red?",
    "Is it red for us?",
    "Do we stand before a red light?",
    "Is any signal in front red?",
    "Red light?",
    "Is the traffic light red now?",
    heldout=(
        "Is the signal facing me showing red?",
        "Has my traffic light turned red?",
    ),
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
    "Is the signal green?",
    "Is the light ahead of me on green?",
    "Does the signal show green?",
    "Do you see green at the traffic light?",
    "Is my light green?",
    "Is it green for us?",
    "Do we stand before a green light?",
    "Is any signal in front green?",
    "Green light?",
    "Is the traffic light green now?",
    heldout=(
        "Is my light green yet?",
        "Do we have a green signal?",
        "Can you check that the traffic light for our lane is on green?",
    ),
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
    "Is a signal there for me?",
    "Do I have to follow a traffic light?",
    "Is there a signal that I must watch?",
    "Are we under a traffic light here?",
    "Does a signal apply to my lane?",
    "Is there a traffic light for us ahead?",
    "Do traffic lights control my way?",
    "Should I look at a traffic light?",
    "Is a traffic light in front meant for me?",
    heldout=(
        "Is there a traffic signal here that applies to me?",
        "Do I have to obey a traffic light at this spot?",
        "Does any of the signals in view control my direction of travel?",
    ),
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
    "Which kind of weather is it?",
    "Tell me about the weather.",
    "What weather do you see?",
    "Say what the weather is.",
    "How does the weather look?",
    "Weather?",
    "What is it like outside?",
    "What sort of weather are we driving in?",
    "Is it clear, cloudy, rainy or snowy?",
    "Report the weather.",
    heldout=(
        "Which weather condition was this frame recorded in?",
        "Describe the weather outside the car.",
    ),
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
    "Is rain falling?",
    "Do you see rain?",
    "Is this rainy weather?",
    "Are we in rain?",
    "Is it raining outside?",
    "Do I need the wipers because of rain?",
    "Was this taken in the rain?",
    "Rain?",
    "Does it rain?",
    heldout=(
        "Is it raining out there?",
        "Was this captured in the rain?",
        "Does the weather in this image look rainy?",
    ),
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
    "Is snow falling?",
    "Do you see snow?",
    "Is this snowy weather?",
    "Are we in snow?",
    "Is it snowing outside?",
    "Was this taken in snow?",
    "Snow?",
    "Does it snow?",
    heldout=(
        "Is snow falling in this scene?",
        "Are we driving in snowy conditions?",
        "Does it look like it's snowing?",
    ),
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
    "Which part of the day is it?",
    "Say what time of day it is.",
    "Day, dusk or night?",
    "Was this taken by day, at dusk or at night?",
    "What time of the day do you see?",
    "Is it dark or daylight?",
    "At what time of day are we driving?",
    "Time of day?",
    "Does this look like day, dusk or night?",
    heldout=(
        "What time of day does this look like?",
        "Was the picture taken during the day, at dusk or dawn, or at night?",
        "Judging by the light, which part of the day is it?",
    ),
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
    "Is it dark outside?",
    "Does this look like night-time?",
    "Is this picture from the night?",
    "Do you see night?",
    "Is it night-time here?",
    "Are we out at night?",
    "Has night fallen?",
    "Night?",
    "Is it dark because it is night?",
    heldout=(
        "Is it nighttime in this frame?",
        "Was this footage shot after dark?",
    ),
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
    "Is it light outside?",
    "Does this look like day?",
    "Is this picture from the day?",
    "Do you see daylight?",
    "Is there daylight?",
    "Are we out by day?",
    "Is it full daylight?",
    "Day?",
    "Is it daytime here?",
    heldout=(
        "Was this taken in daylight?",
        "Is it daytime out there?",
        "Does the frame show a daytime scene?",
    ),
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
    "In what sort of place are we?",
    "What surroundings do you see?",
    "Is this a city street, a highway or something else?",
    "What area is this?",
    "Which kind of road are we on?",
    "Say what kind of place this is.",
    "What is around us: city, highway, homes?",
    "Where was this taken?",
    "Name the kind of street.",
    heldout=(
        "What type of road are we on?",
        "Where is the car driving: in the city, on a highway, or somewhere else?",
        "Tell me what kind of surroundings this is.",
    ),
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
    "Can one see well?",
    "How about visibility, is it good?",
    "Is the sight good?",
    "Do I see clearly here?",
    "Is everything easy to make out?",
    "Are conditions good for seeing?",
    "Is the view good?",
    "Is it a clear view, without darkness or weather?",
    "Can the camera see well?",
    "Do you have a good view?",
    heldout=(
        "Can the driver see the road well?",
        "Is visibility good enough here?",
        "Do we have a clear view in these conditions?",
    ),
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
    "What can be seen?",
    "What is in front of the camera?",
    "Say what the picture shows.",
    "Give me a summary of the scene.",
    "What is going on?",
    "Tell me about the scene.",
    "Describe what is around.",
    "In one sentence, what is this?",
    "What does the camera see?",
    "Report what you see.",
    heldout=(
        "Give me a short summary of the scene.",
        "What's going on in this picture?",
        "Could you explain in a sentence what the camera is seeing?",
    ),
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
    "What day of the week is it?",
    "What music should I play?",
    "Who built this car?",
    "When was this road made?",
    "How much does the car cost?",
    "Is the driver tired?",
    "What did I eat today?",
    "Sing a song.",
    "Who is the president?",
    "How do I cook rice?",
    "What is the traffic like on the next road?",
    "Will the light change soon?",
    "What is the speed of the truck?",
    "Where am I going?",
    "Do you like driving?",
    "What is my phone number?",
    heldout=(
        "What's the name of the driver in the car ahead?",
        "How much fuel do I have in the tank?",
        "When will we get to the airport?",
    ),
)
