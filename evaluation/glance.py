"""The headline numbers of a report: each with its interval, its unit and what it must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .metrics import FIVE_WAY_FAMILY

LANE_AND_SAFETY = ("lane_clear_", "turn_", "change_lane_")
LEAST_POSITIVES = 30
SHUFFLED = "shuffled"
BLIND = "shuffled or one answer"
CONSTANT = "no rival: a constant answer would reach 100%"
REFUSING = "no rival: whoever always refuses would reach 0%"


@dataclass(frozen=True)
class Number:
    """One headline number.

    Attributes:
        name: What was measured.
        value: A fraction, a ratio or a count; `None` where it could not be measured.
        rival: Who must be beaten, mostly one who does not look; without `beaten` a remark why there is none.
        beaten: What the rival reaches.
        interval: 95% interval by frame, where the report holds one.
        unit: "%", "points" (a difference of two percentages), "ratio" or "count".
        less_is_better: Whether the rival is beaten from below.
    """

    name: str
    value: float | None
    rival: str = ""
    beaten: float | None = None
    interval: Sequence[float] | None = None
    unit: str = "%"
    less_is_better: bool = False

    @property
    def is_behind(self) -> bool:
        """Whether it is worse than what it must beat."""
        if self.value is None or self.beaten is None:
            return False
        return self.value > self.beaten if self.less_is_better else self.value < self.beaten

    def measured(self) -> str:
        """Value, unit and interval in words."""
        if self.value is None:
            return "not measured"
        if self.interval is None:
            return self._with_unit(self.value)
        return f"{self._with_unit(self.value)} [{', '.join(self._bare(end) for end in self.interval)}]"

    def to_beat(self) -> str:
        """The rival's value and name, or why there is none."""
        return self.rival if self.beaten is None else f"{self._with_unit(self.beaten)} ({self.rival})"

    def changed_from(self, earlier: Number) -> str:
        """How much more it is than an earlier one; both are known."""
        difference = (self.value or 0.0) - (earlier.value or 0.0)
        return f"{'+' if difference >= 0 else '-'}{self._bare(abs(difference))}"

    def _with_unit(self, value: float) -> str:
        return self._bare(value) + {"%": "%", "points": " points"}.get(self.unit, "")

    def _bare(self, value: float) -> str:
        if self.unit == "count":
            return f"{value:g}"
        return f"{value:.2f}" if self.unit == "ratio" else f"{100 * value:.1f}"


def headline(result: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that a reader looks for first.

    Args:
        result: the report's other parts.

    Returns:
        name -> fraction (or ratio, or count), `None` where it could not be measured.
    """
    return {number.name: number.value for number in glance(result)}


def to_beat(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the headline numbers must beat: name -> by (mostly who does not look) and value."""
    return {
        number.name: {"by": number.rival, "value": number.beaten}
        for number in glance(result)
        if number.value is not None and number.beaten is not None
    }


def glance(result: Mapping[str, Any]) -> list[Number]:
    """All headline numbers of a report, in the order in which they are shown."""
    return [*_forward(result), *_scores(result), *_agreement(result), *_sight(result), *_confidence(result)]


def glance_table(result: Mapping[str, Any]) -> str:
    """All headline numbers as Markdown, each beside what it must beat."""
    lines = ["| what | measured [95% interval] | to beat |", "|---|---|---|"]
    lines += [f"| {n.name} | {n.measured()} | {n.to_beat()} |" for n in glance(result)]
    lines += [
        "",
        "Points are differences of two percentages. Means over families or categories of questions have an "
        "interval only where one is shown. *Presence* counts the categories that at least "
        f"{LEAST_POSITIVES} of the frames show, however few do not. Pointing and mass ratio are of presence "
        "questions whose label is *yes*, blanking of those answered so. The *blind map* is the mean of the "
        "maps of the same question about other frames: what is known without looking.",
    ]
    return "\n".join(lines)


def comparison_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The headline numbers of two reports side by side as Markdown; *changed* is in the number's own unit.

    The intervals are of each report alone: ranges that overlap do not show that nothing changed.
    """
    earlier = {number.name: number for number in glance(before)}
    lines = ["| what | before [95% interval] | after [95% interval] | changed |", "|---|---|---|---|"]
    for number in glance(after):
        old = earlier.get(number.name)
        changed = ""
        if old is not None and old.value is not None and number.value is not None:
            changed = number.changed_from(old)
        lines.append(
            f"| {number.name} | {old.measured() if old else 'not measured'} | {number.measured()} | "
            f"{changed} |"
        )
    return "\n".join(lines)


def _forward(result: Mapping[str, Any]) -> list[Number]:
    """*Can I move forward?* in five ways, where the labels decide and about every frame."""
    numbers = []
    family = f"{FIVE_WAY_FAMILY} (five-way)"
    own: Mapping[str, Any] = next((row for row in result["families"] if row["family"] == family), {})
    for name, row in (
        ("move forward, five-way", own),
        ("move forward, five-way, every frame", result.get("all_frames") or {}),
    ):
        share, part = row.get("commonest_accuracy"), row.get("commonest_balanced_accuracy", 0.0)
        # Always the commonest answer: its own F1 is 2p / (1 + p), that of all others 0.
        one = None if share is None else round(part * 2 * share / (1 + share), 6)
        blind = row.get("shuffled_macro_f1")
        rival = ("commonest", one) if blind is None or (one or 0) > blind else (SHUFFLED, blind)
        numbers += [
            _score(f"{name}: accuracy", row, "accuracy", "commonest", share),
            _score(f"{name}: macro-F1", row, "macro_f1", *rival),
        ]
    return numbers


def _scores(result: Mapping[str, Any]) -> list[Number]:
    """How right the other answers are."""
    rows = {row["family"]: row for row in result["families"]}
    lanes = [row for family, row in rows.items() if family.startswith(LANE_AND_SAFETY)]
    presence = [
        row
        for family, row in rows.items()
        if family.startswith("presence_")
        and result["classes"][family]["classes"].get("yes", {}).get("support", 0) >= LEAST_POSITIVES
    ]
    time, weather, light = (rows.get(name, {}) for name in ("time_of_day", "weather", "light_state"))
    cars = result["counting"].get("count_car", {})
    balanced, most = "balanced_accuracy", "commonest_accuracy"
    lane, asked = "lane clear, turn, change lane", f"presence ({len(presence)} categories)"
    return [
        Number(f"{lane}: balanced accuracy", _mean(lanes, balanced), *_blind(lanes)),
        Number(f"{asked}: balanced accuracy", _mean(presence, balanced), *_blind(presence)),
        Number(f"{asked}: AUC", _mean(presence, "auc"), "chance", 0.5),
        _score("time of day: accuracy", time, "accuracy", "commonest", time.get(most)),
        _score("weather: accuracy", weather, "accuracy", "commonest", weather.get(most)),
        _score("light state: balanced accuracy", light, balanced, *_blind([light])),
        Number(
            "cars counted to within one (one to five)", cars.get("within_one"),
            f"always {cars.get('constant')}", cars.get("constant_within_one"),
            interval=None if cars.get("low") is None else (cars["low"], cars["high"]),
        ),
    ]  # fmt: skip


def _agreement(result: Mapping[str, Any]) -> list[Number]:
    """Whether answers agree with each other."""
    found = result["consistency"]
    pairs, paraphrased, mirrored = (
        found.get(name, {}).get("all", {}) for name in ("opposites", "paraphrased", "mirrored")
    )
    rivals = [(SHUFFLED, "opposites_shuffled"), ("each family's commonest", "opposites_commonest")]
    known = [(found[key], by) for by, key in rivals if found.get(key) is not None]
    blind, rival = max(known, default=(None, ""))
    return [
        _score("opposite pairs: both right", pairs, "rate", rival, blind),
        _score("paraphrases: same answer", paraphrased, "rate", CONSTANT),
        _score("mirrored frames: mirrored answer", mirrored, "rate", CONSTANT),
    ]


def _sight(result: Mapping[str, Any]) -> list[Number]:
    """Whether the answers come from the picture."""
    rows, grounding = result["families"], result.get("grounding") or {}
    yes_no = [row for row in rows if row.get("kind") == "yes/no" and "gain" in row]
    means = grounding.get("presence", {}).get("mean_over_categories", {})
    above, ratio = means.get("above_centre", {}), means.get("ratio", {})
    blind = means.get("blind_ratio", {}).get("mean", 0.0)  # earlier reports have no blind map
    rival, beaten = ("blind map", blind) if blind > 1 else ("even map", 1.0)
    lost, elsewhere = (grounding.get("drop", {}).get(name, {}) for name in ("evidence", "elsewhere"))
    beside = "as much blanked elsewhere"
    return [
        Number("families that see", sum(bool(row.get("sees")) for row in rows), unit="count"),
        Number("families that do not", sum(row.get("sees") is False for row in rows), unit="count"),
        Number(
            "yes/no families: gain over shuffled pictures", _mean(yes_no, "gain"), SHUFFLED, 0.0,
            unit="points",
        ),
        _score(
            "pointing game above the centre (mean over categories)", above, "mean", "the centre", 0.0,
            unit="points",
        ),
        _score(
            "pointing game above the blind map (mean over categories)", means.get("above_blind", {}), "mean",
            "the blind map", 0.0, unit="points",
        ),
        _score("mass ratio (mean over categories)", ratio, "mean", rival, beaten, unit="ratio"),
        _score(
            "probability lost when the evidence is blanked", lost, "mean", beside, elsewhere.get("mean"),
            unit="points",
        ),
    ]  # fmt: skip


def _confidence(result: Mapping[str, Any]) -> list[Number]:
    """Whether the model knows how sure it may be."""
    found = result.get("calibration") or {}
    groups: dict[str, Any] = {group["group"]: group for group in found.get("groups", [])}
    safety = groups.get("safety", {})
    half, every = safety.get("false_safe", {}), safety.get("false_safe_all", {})
    return [
        Number(
            "calibration error after temperature", found.get("ece"), "before", found.get("ece_before"),
            groups.get("all", {}).get("ece_interval"), unit="points", less_is_better=True,
        ),
        Number(
            "unsafe but answered safe, the surer half of the answers", half.get("rate"), REFUSING,
            interval=half.get("rate_interval"),
        ),
        Number(
            "unsafe but answered safe, all answers", every.get("rate"), REFUSING,
            interval=every.get("rate_interval"),
        ),
        Number(
            "answered safe but unsafe, all answers", every.get("wrong_yes"), "always safe",
            every.get("unsafe"), every.get("wrong_yes_interval"), less_is_better=True,
        ),
    ]  # fmt: skip


def _score(
    name: str,
    row: Mapping[str, Any],
    score: str,
    rival: str,
    beaten: float | None = None,
    unit: str = "%",
) -> Number:
    """The score of a row of the report, with the interval that stands beside it."""
    interval = row.get("interval" if score in ("rate", "mean") else f"{score}_interval")
    return Number(name, row.get(score), rival, beaten, interval, unit)


def _blind(rows: Sequence[Mapping[str, Any]]) -> tuple[str, float | None]:
    """What balanced accuracy needs no picture: of each family the better of shuffled pictures, which may lie
    below chance, and always one answer; their mean over the rows."""
    names = ("shuffled_balanced_accuracy", "commonest_balanced_accuracy")
    known = [[row[name] for name in names if row.get(name) is not None] for row in rows]
    return BLIND, _mean([{"best": max(scores)} for scores in known if scores], "best")


def _mean(rows: Sequence[Mapping[str, Any]], score: str) -> float | None:
    """Mean of a score over the rows that have it."""
    known = [row[score] for row in rows if row.get(score) is not None]
    return round(sum(known) / len(known), 6) if known else None
