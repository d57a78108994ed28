"""Slices: what goes into which, and what stays unknown."""

import pandas as pd
import pytest
from traffic_vlm.evaluation import slices as s
from traffic_vlm.evaluation.metrics import as_table, decide


def test_evidence_is_sorted_by_its_largest_and_nearest_box():
    small, large = [0.1, 0.1, 0.12, 0.12], [0.2, 0.3, 0.6, 0.9]
    assert s.evidence_size([small]) == "under 0.2%"
    assert s.evidence_size([small, large]) == "over 5%"
    assert s.evidence_distance([small]).startswith("far")
    assert s.evidence_distance([small, large]).startswith("near")
    assert s.evidence_size([]) is s.evidence_distance(None) is None


def test_an_unknown_number_of_objects_is_no_number():
    assert s.number_of_objects(None) is None
    assert s.number_of_objects(float("nan")) is None
    assert s.number_of_objects(0) == "0 to 5"
    assert s.number_of_objects(21) == "over 20"


def test_slices_have_their_own_scores_and_small_ones_are_left_out():
    rows = []
    for i in range(130):
        night = i < 60
        answer = "Yes." if i % 2 else "No."
        prediction = "No." if night else answer
        weather = "foggy" if i < 10 else None
        asked = {"image_id": f"f{i}", "family": "presence_car", "answer": answer, "prediction": prediction}
        rows.append({**asked, "timeofday": "night" if night else "daytime", "weather": weather})
    table = decide(as_table(pd.DataFrame(rows)))
    shuffled = decide(as_table(pd.DataFrame(rows).assign(prediction="Yes.")))
    found = {row["value"]: row for row in s.slice_table(table, shuffled)}
    assert found["daytime"]["shuffled_balanced_accuracy"] == 0.5
    assert "shuffled_balanced_accuracy" not in s.slice_table(table)[0]
    assert set(found) == {"night", "daytime"}
    assert found["night"]["accuracy"] == found["night"]["balanced_accuracy"] == 0.5
    assert found["daytime"]["accuracy"] == 1.0
    low, high = found["night"]["accuracy_interval"]
    assert low < 0.5 < high
    assert found["daytime"]["n"] == pytest.approx(70)
