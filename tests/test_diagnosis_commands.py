"""The commands diagnose, compare, review and analyse, on saved predictions."""

import json

import pandas as pd
import pytest

from ymir_nb.backend import ops
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import ProjectError, VersionNotFound
from ymir_nb.backend.reviewing import compare, diagnose, read_pair, review
from ymir_nb.cli import main


@pytest.fixture
def predicted(workspace, make_dataset):
    """A dataset of four images, and two models' predictions: one finds all, one half and a cat too many."""
    workspace.labels.add("cat")
    truth = make_dataset(4)
    workspace.save(truth, "val", operation="import")
    exact = truth.annotations.assign(score=0.97)
    images = truth.images.assign(labelled=False)
    half = exact.iloc[:2]
    cat = exact.iloc[[3]].assign(label="cat")
    for name, rows in (("val.good", exact), ("val.poor", pd.concat([half, cat]))):
        found = Dataset.of(images, rows, labels=["dog", "cat"], media=truth.media)
        workspace.save(found, name, operation="infer", parents=["val@v1"], shelf="predictions")
    return workspace


@pytest.fixture
def call(predicted, capsys):
    """Run a command: its JSON, or its text."""

    def run(*words, text=False):
        assert main(["-w", str(predicted.root), *words, *([] if text else ["--json"])]) == 0
        out = capsys.readouterr().out
        return out if text else json.loads(out)

    return run


def test_diagnose_compare_and_analyse_answer_as_json_and_as_text(call):
    found = call("diagnose", "val.poor", "--min-score", "0.5")
    assert (found["min_score"], found["findings"][0]) == (0.5, "2 of 4 objects are missed.")
    assert found["labels"][0]["true_positive"] == 2
    assert call("diagnose", "val.good")["ap50"] == pytest.approx(1.0)
    assert "2 of 4 objects are missed." in call("diagnose", "val.poor", text=True)

    # Two models on the same images.
    found = call("compare", "val.poor", "val.good", "--draws", "20")
    assert "AP 0.505 and 1.000" in found["verdict"]
    assert found["only_first_right"] == []
    assert len(found["only_second_right"]) == 2
    assert found["left_out"] == []
    assert "only the second: 2" in call("compare", "val.poor", "val.good", "--draws", "20", text=True)
    # What the dataset lacks.
    found = call("analyse", "val")
    assert found["totals"]["n_images"] == 4
    assert found["hints"][0] == "Fewer than 500 objects: 'dog' (4). Label more of them."
    assert "Fewer than 500 objects" in call("analyse", "val", text=True)


def test_review_queues_labels_with_the_reason(call, predicted):
    truth = predicted.dataset("val")
    gone = Dataset.of(truth.images, truth.annotations.iloc[1:], labels=truth.labels, media=truth.media)
    predicted.save(gone, "short", operation="edit", parents=["val@v1"])
    rows = call("review", "val.good", "--truth", "short")
    assert [(row["kind"], row["suggestion"]) for row in rows] == [("overlooked", "dog")]
    assert "no label touches it" in call("review", "val.good", "--truth", "short", text=True)
    assert len(call("review", "val.good", "--truth", "short", "-n", "0")) == 0


def test_the_same_is_had_from_the_library_and_what_cannot_be_measured_is_refused(predicted):
    assert diagnose(predicted, "val.good").evaluation.ap50 == pytest.approx(1.0)
    assert compare(predicted, "val.poor", "val.good", n=10).labels == ("dog",)
    assert review(predicted, "val.good").queue().empty
    truth = predicted.dataset("val")
    predicted.save(ops.unlabel(truth), "open", operation="unlabel", parents=["val@v1"])
    with pytest.raises(ProjectError, match=r"none of the 4 images .* is labelled in open"):
        read_pair(predicted, "val.good", truth="open")
    orphan = predicted.predictions("val.good")
    predicted.save(orphan, "orphan", operation="infer", shelf="predictions")
    with pytest.raises(VersionNotFound, match="does not say which dataset"):
        read_pair(predicted, "orphan")
