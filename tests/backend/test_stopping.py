"""Advice on stopping: the power law is found again, its uncertainty holds the truth, targets end the work."""

import numpy as np
import pandas as pd
import pytest

from ymir_nb.backend.errors import InvalidTable, ProjectError
from ymir_nb.backend.stopping import advise, fit

N = np.array([40.0, 80, 120, 160, 200])


def rounds(ap50, n=N):
    return pd.DataFrame({"round": range(len(ap50)), "n_images": n[: len(ap50)], "ap50": ap50})


def law(n, floor=0.1, scale=4.0, exponent=0.5):
    return 1 - floor - scale * np.asarray(n, dtype=float) ** -exponent


def test_a_power_law_is_found_again():
    curve = fit(N, law(N)[None])
    assert curve.exponent[0] == pytest.approx(0.5, abs=0.01)
    assert curve.floor[0] == pytest.approx(0.1, abs=0.01)
    assert curve.at(400) == pytest.approx(law([400]), abs=1e-3)


def test_the_gain_of_the_next_batch_is_read_off_the_curve_with_bounds_around_it():
    advice = advise(rounds(law(N)), {"map50": 0.75})
    truth = float(law(240) - law(200))
    assert advice.gain == pytest.approx(truth, abs=1e-3)
    assert advice.gain_low < truth < advice.gain_high
    assert advice.gain_low >= 0
    assert not advice.stop
    assert advice.n_needed == pytest.approx((4 / 0.15) ** 2, rel=0.05)
    assert f"at about {advice.n_needed:,} images" in advice.sentence
    assert advise(rounds(law(N)), k=400).gain > 2 * advice.gain


def test_the_interval_holds_the_true_gain_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    n, truth = np.arange(40.0, 321, 40), float(law(360) - law(320))
    held = [
        advice.gain_low <= truth <= advice.gain_high
        for advice in (advise(rounds(law(n) + 0.01 * rng.standard_normal(len(n)), n)) for _ in range(40))
    ]
    assert 0.6 <= np.mean(held) <= 1.0


def test_a_curve_that_has_gone_flat_says_stop_and_one_that_rises_says_go_on():
    n = np.arange(100.0, 2001, 100)
    flat = advise(rounds(np.full(20, 0.83), n), {"map50": 0.9}, k=20)
    assert flat.stop
    assert flat.n_needed is None
    assert "from no number of images" in flat.sentence
    assert flat.sentence.endswith("Stop, or change something else than the number of labels.")
    assert not advise(rounds(np.linspace(0.3, 0.7, 5))).stop


def test_targets_that_are_reached_are_told_one_by_one():
    frame = rounds(law(N))
    assert advise(frame, {"map50": 0.6, "rounds": 9}).reached == ("map50",)
    done = advise(frame, {"map50": 0.6, "rounds": 4, "n_images": 200})
    assert done.stop
    assert done.sentence == (
        f"AP50 is {law(200):.3f}, and the target of 0.6 and the target of 4 rounds and that of 200 images are reached."
    )
    assert not advise(frame, {"n_images": 201}).stop


@pytest.mark.parametrize("n_rounds", [0, 1, 2])
def test_before_the_third_round_nothing_is_foretold(n_rounds):
    advice = advise(rounds(law(N)[:n_rounds]), {"map50": 0.9})
    assert not advice.stop
    assert advice.gain is None
    assert advice.to_dict()["reached"] == []


def test_rounds_without_a_measure_or_without_new_images_are_no_points_of_a_curve():
    frame = rounds([0.4, np.nan, 0.5, 0.52, 0.53])
    assert advise(frame).gain is not None
    assert advise(rounds([0.4, 0.5, 0.5], np.array([40.0, 80, 80]))).gain is None


def test_the_same_rounds_give_the_same_advice_and_nonsense_is_refused():
    assert advise(rounds(law(N))) == advise(rounds(law(N)).iloc[::-1])
    with pytest.raises(InvalidTable, match="missing columns ap50"):
        advise(rounds(law(N)).drop(columns="ap50"))
    with pytest.raises(ProjectError, match="no target mAP"):
        advise(rounds(law(N)), {"mAP": 0.5})
    with pytest.raises(ProjectError, match="k is 0"):
        advise(rounds(law(N)), k=0)
