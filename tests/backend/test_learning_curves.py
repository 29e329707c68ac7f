import numpy as np
import pandas as pd
import pytest

from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.learning_curves import area, compare, curves, finished, needed

X = [40, 80, 120, 160]


def arm(strategy, seed, values, *, label="", images=X, boxes=None, positives=0):
    boxes = boxes or [3 * n for n in images]
    return [
        {
            "strategy": strategy,
            "seed": seed,
            "round": number,
            "n_images": n,
            "n_boxes": m,
            "label": label,
            "ap50": value,
            "ap": value / 2,
            "label_images": positives * number,
            "label_boxes": 2 * positives * number,
        }
        for number, (n, m, value) in enumerate(zip(images, boxes, values, strict=True))
    ]


def runs(*arms):
    return pd.DataFrame([row for rows in arms for row in rows])


def row(frame, strategy, label=""):
    return frame[(frame["strategy"] == strategy) & (frame["label"] == label)].iloc[0]


SLOW, FAST = [0.1, 0.2, 0.3, 0.4], [0.1, 0.4, 0.5, 0.6]


def test_the_area_is_the_mean_height_of_the_lines():
    assert area([0, 10, 20], [0.0, 1.0, 1.0]) == 0.75
    assert area([0, 10, 40], [0.0, 1.0, 1.0]) == (5 + 30) / 40
    assert area([40], [0.3]) == 0.3
    assert area([0, 10], [[0, 1], [1, 1]]).tolist() == [0.5, 1.0]


def test_a_curve_that_is_cut_off_counts_as_far_as_it_goes():
    assert area([0, 10, 20], [0.0, 1.0, 1.0], 10) == 0.5
    assert area([0, 10, 20], [0.0, 1.0, 1.0], 5) == 0.25
    assert area([0, 10, 20], [[0.0, 1.0, 1.0], [0.0, 1.0, 3.0]], [15, 15]).tolist() == pytest.approx(
        [10 / 15, 12.5 / 15]
    )


def test_in_boxes_areas_are_compared_as_far_as_both_go():
    crowds = arm("crowds", 1, SLOW, boxes=[120, 480, 840, 1200])
    gain = row(compare(runs(arm("random", 1, SLOW), crowds), against="n_boxes"), "crowds")["gain"]
    assert gain == pytest.approx((0.1 + 0.2) / 2 - (0.1 + 0.4) / 2)


def test_labels_needed_are_read_off_between_the_rounds():
    assert needed([40, 80, 120], [0.2, 0.4, 0.8], 0.5) == 50
    assert needed([40, 80], [0.2, 0.4], 0.4) == 40
    assert needed([40, 80], [0.2, 0.4], 0.2) == 0


def test_a_curve_that_falls_back_counts_where_it_first_reached_the_level():
    assert needed([0, 10, 20, 30], [0.0, 0.6, 0.2, 0.9], 0.3) == 5


def test_a_level_that_is_never_reached_needs_infinitely_many():
    assert needed([40, 80], [0.2, 0.4], 0.5) == np.inf
    assert needed([40, 80], [[0.2, 0.4], [0.2, 0.6]], [0.5, 0.5]).tolist() == [np.inf, 30.0]


def test_r_is_one_for_the_control_and_a_third_for_what_needs_a_third():
    found = compare(runs(arm("random", 1, SLOW), arm("fast", 1, FAST)))
    assert row(found, "random")["r"] == pytest.approx(1)
    assert row(found, "fast")["r"] == pytest.approx(40 / 120)
    assert row(found, "fast")["level"] == pytest.approx(0.4)


def test_r_at_a_share_of_the_gain_counts_from_the_first_value():
    found = compare(runs(arm("random", 1, SLOW), arm("fast", 1, FAST)), share=0.5)
    assert row(found, "fast")["level"] == pytest.approx(0.25)
    assert row(found, "fast")["r"] == pytest.approx(20 / 60)


def test_what_never_gets_there_is_infinite_with_a_bound():
    worse = row(compare(runs(arm("random", 1, SLOW), arm("bad", 1, [0.1, 0.2, 0.2, 0.3]))), "bad")
    assert worse["r"] == np.inf
    assert worse["at_least"] == pytest.approx(1)
    early = row(compare(runs(arm("random", 1, [0.1, 0.4, 0.2, 0.4]), arm("bad", 1, [0.1, 0.1, 0.2, 0.3]))), "bad")
    assert early["at_least"] == pytest.approx(3)


def test_r_says_nothing_where_the_control_gained_nothing():
    flat = compare(runs(arm("random", 1, [0.4, 0.3, 0.3, 0.4]), arm("fast", 1, FAST)))
    assert np.isnan(row(flat, "fast")["r"])


def test_a_strategy_that_takes_crowds_pays_for_them_in_boxes():
    found = runs(arm("random", 1, SLOW), arm("crowds", 1, FAST, boxes=[120, 480, 840, 1200]))
    assert row(compare(found), "crowds")["r"] == pytest.approx(1 / 3)
    assert row(compare(found, against="n_boxes"), "crowds")["r"] == pytest.approx(1.0)


def test_curves_carry_the_least_and_the_largest_seed_and_the_positives():
    found = runs(arm("random", 1, SLOW, positives=2), arm("random", 2, [v + 0.2 for v in SLOW], positives=4))
    last = curves(found).iloc[-1]
    assert (last["mean"], last["low"], last["high"]) == pytest.approx((0.5, 0.4, 0.6))
    assert (last["label_images"], last["label_boxes"], last["n_seeds"]) == (9, 18, 2)
    assert curves(found, value="ap")["mean"].iloc[-1] == pytest.approx(0.25)


def test_gains_beyond_the_seeds_noise_are_told_from_those_within():
    rng = np.random.default_rng(0)
    noise = {seed: rng.normal(0, 0.2) for seed in range(5)}
    arms = [arm("random", seed, [v + noise[seed] for v in SLOW]) for seed in noise]
    arms += [arm("fast", seed, [v + noise[seed] for v in FAST]) for seed in noise]
    arms += [arm("slow", seed, [v + noise[seed] - 0.05 for v in SLOW]) for seed in noise]
    arms += [arm("same", seed, [v + noise[(seed + 1) % 5] for v in SLOW]) for seed in noise]
    found = compare(runs(*arms))
    assert [row(found, name)["verdict"] for name in ("fast", "slow", "same")] == ["better", "worse", "within noise"]
    # The seeds differ more than the strategies: only pairs tell them apart.
    assert row(found, "slow")["overlap"]


def test_one_seed_has_no_verdict():
    assert row(compare(runs(arm("random", 1, SLOW), arm("fast", 1, FAST))), "fast")["verdict"] == ""


def test_strategies_are_compared_on_the_seeds_that_both_have():
    found = compare(runs(arm("random", 1, [0.9] * 4), arm("random", 2, SLOW), arm("fast", 2, FAST)))
    assert row(found, "fast")["n_seeds"] == 1
    assert row(found, "fast")["r"] == pytest.approx(1 / 3)


def test_arms_under_way_and_labels_without_truth_are_left_out():
    frame = runs(arm("random", 1, SLOW), arm("fast", 1, FAST)[:2], arm("random", 1, [np.nan] * 4, label="cone"))
    assert set(finished(frame)["strategy"]) == {"random"}
    assert set(finished(frame)["label"]) == {""}


def test_equal_frames_give_equal_intervals_whatever_the_order_of_rows():
    arms = [
        arm(name, seed, [v + seed / 50 for v in up])
        for seed in (1, 2, 3)
        for name, up in (("random", SLOW), ("fast", FAST))
    ]
    frame = runs(*arms)
    pd.testing.assert_frame_equal(compare(frame), compare(frame.sample(frac=1, random_state=3)))


def test_wrong_calls_say_what_there_is():
    frame = runs(arm("fast", 1, FAST))
    with pytest.raises(InvalidTable, match="no arm of 'random'"):
        compare(frame)
    with pytest.raises(InvalidTable, match="n_images, n_boxes"):
        curves(frame, value="map")
    with pytest.raises(InvalidTable, match="share is 0"):
        compare(runs(arm("random", 1, SLOW)), share=0)
    with pytest.raises(InvalidTable, match="missing columns seed"):
        finished(frame.drop(columns="seed"))
