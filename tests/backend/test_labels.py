"""Labels: ids never change hands, and no name means two things."""

import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ymir_nb.backend.errors import LabelConflict, LabelNotFound
from ymir_nb.backend.labels import Labels


def two_labels():
    return Labels().add("dog", aliases=["pup", "hound"]).add("cat", aliases=["kitten"])


name = st.text(min_size=1, max_size=8)


def grow(names):
    """Add what is a name and free; leave out the rest."""
    labels = Labels()
    for i, text in enumerate(names):
        try:
            labels = labels.alias(text, of=labels.names[0]) if i % 3 == 2 else labels.add(text)
        except (LabelConflict, IndexError):
            continue
    return labels


def test_the_file_has_the_form_of_ymir_2_0_0():
    data = yaml.safe_load(two_labels().to_yaml())
    assert list(data) == ["labels", "ymir_version"]
    assert data["ymir_version"] == "2.0.0"
    assert [list(row) for row in data["labels"]] == [["id", "name", "aliases", "create_time", "update_time"]] * 2
    assert [(row["id"], row["name"], row["aliases"]) for row in data["labels"]] == [
        (0, "dog", ["pup", "hound"]),
        (1, "cat", ["kitten"]),
    ]


def test_a_file_as_ymir_writes_it_is_read_with_its_times():
    text = """
labels:
- aliases: [Pup]
  create_time: 2022-03-01 10:20:30.123456
  id: 0
  name: dog
  update_time: 2022-03-02 10:20:30
- {id: 1, name: cat, aliases: []}
ymir_version: 2.0.0
"""
    labels = Labels.from_yaml(text)
    assert labels.names == ("dog", "cat")
    assert labels.main_name("pup") == "dog"
    assert labels.items[0].created == "2022-03-01T10:20:30"
    assert Labels.from_yaml(labels.to_yaml()) == labels


@settings(deadline=None)
@given(names=st.lists(name, max_size=12))
def test_labels_come_back_from_yaml_as_they_went(names):
    labels = grow(names)
    assert Labels.from_yaml(labels.to_yaml()) == labels


@pytest.mark.parametrize(
    "word", ["no", "on", "7", "1e3", "null", "~", "2022-01-01", "a: b", "- x", "#1", "'", "🦺 vest"]
)
def test_names_that_yaml_could_take_for_something_else_stay_names(word):
    labels = Labels.from_yaml(Labels().add("dog", aliases=[word]).to_yaml())
    assert labels.main_name(word) == "dog"
    assert Labels.from_yaml(Labels().add(word).to_yaml()).names == (word,)


@given(names=st.lists(name, max_size=12))
def test_ids_are_positions_and_adding_changes_none_that_is_there(names):
    labels = grow(names)
    assert [label.id for label in labels.items] == list(range(len(labels)))
    assert labels.add("one more label").items[: len(labels)] == labels.items


@given(names=st.lists(name, max_size=12))
def test_every_name_folds_to_its_own_main_name_in_any_case_and_spacing(names):
    labels = grow(names)
    for label in labels.items:
        for text in (label.name, *label.aliases):
            assert labels.main_name(f"  {text}\t") == label.name
            assert (
                labels.main_name(text.swapcase().casefold()) == label.name
                or text.casefold() != text.swapcase().casefold()
            )


def test_aliases_fold_to_the_main_name_however_they_are_written():
    labels = Labels().add("hard hat", aliases=["Café"])
    assert {labels.main_name(text) for text in ("HARD HAT", " hard  hat ", "hard\that", "cafe\u0301", "CAFÉ")} == {
        "hard hat"
    }
    assert "Hard Hat" in labels
    assert "hat" not in labels


@pytest.mark.parametrize(
    "attempt",
    [
        lambda labels: labels.add("dog"),
        lambda labels: labels.add("pup"),
        lambda labels: labels.add("bird", aliases=["kitten"]),
        lambda labels: labels.add("bird", aliases=["finch", "finch"]),
        lambda labels: labels.add("bird", aliases=["BIRD"]),
        lambda labels: labels.alias("cat", of="dog"),
        lambda labels: labels.alias("kitten", of="dog"),
        lambda labels: labels.alias("dog", of="dog"),
        lambda labels: labels.alias("pup", of="pup"),
        lambda labels: labels.alias("bark", "Bark", of="dog"),
        lambda labels: labels.rename("dog", to="cat"),
        lambda labels: labels.rename("dog", to="kitten"),
    ],
)
def test_a_name_that_belongs_to_a_label_is_refused_and_nothing_changes(attempt):
    labels = two_labels()
    before = labels.to_yaml()
    with pytest.raises(LabelConflict):
        attempt(labels)
    assert labels.to_yaml() == before


def test_case_23_alias_cycles_are_refused():
    labels = two_labels()
    with pytest.raises(LabelConflict, match=r"'cat' is already the main name of label 'cat' \(id 1\)"):
        labels.alias("cat", of="dog")
    with pytest.raises(LabelConflict, match=r"'dog' is already the main name of label 'dog' \(id 0\)"):
        labels.alias("dog", of="cat")
    cycle = "labels:\n- {id: 0, name: dog, aliases: [cat]}\n- {id: 1, name: cat, aliases: [dog]}\n"
    with pytest.raises(LabelConflict, match="'cat' is already an alias of label 'dog'"):
        Labels.from_yaml(cycle)


def test_case_23_an_alias_that_is_another_main_name_is_refused_in_a_file_too():
    with pytest.raises(LabelConflict, match="'dog' is already the main name"):
        Labels.from_yaml("labels:\n- {id: 0, name: dog}\n- {id: 1, name: cat, aliases: [dog]}\n")


@pytest.mark.parametrize("variant", ["DOG", " dog", "dog\t", "Dog "])
def test_case_23_case_and_space_variants_are_the_same_name(variant):
    with pytest.raises(LabelConflict, match="already the main name of label 'dog'"):
        two_labels().add(variant)
    with pytest.raises(LabelConflict):
        Labels.from_yaml(f"labels:\n- {{id: 0, name: dog}}\n- {{id: 1, name: {variant.strip()!r}}}\n")


@pytest.mark.parametrize(("first", "second"), [("hard hat", "hard  hat"), ("straße", "STRASSE"), ("é", "e\u0301")])
def test_case_23_names_that_look_alike_are_the_same_name(first, second):
    with pytest.raises(LabelConflict):
        Labels().add(first).add(second)


@pytest.mark.parametrize("bad", ["", "  ", "two\nlines", "nul\0", "tab\tinside", "zero\u200bwidth", "\ud800"])
def test_case_7_a_name_that_is_empty_or_holds_control_characters_is_refused(bad):
    for attempt in (lambda: Labels().add(bad), lambda: two_labels().alias(bad, of="dog")):
        with pytest.raises(LabelConflict, match="is no label name"):
            attempt()


def test_renaming_keeps_id_and_old_name():
    labels = two_labels().rename("pup", to="hund")
    assert labels.names == ("hund", "cat")
    assert labels.find("dog").id == 0
    assert labels.items[0].aliases == ("pup", "hound", "dog")


def test_renaming_to_an_alias_of_its_own_or_another_case_leaves_no_name_twice():
    assert two_labels().rename("dog", to="pup").items[0].aliases == ("hound", "dog")
    relabelled = two_labels().rename("dog", to="DOG")
    assert (relabelled.items[0].name, relabelled.items[0].aliases) == ("DOG", ("pup", "hound"))
    assert Labels.from_yaml(relabelled.to_yaml()) == relabelled


def test_an_unknown_label_is_named_with_a_near_one_and_the_fix():
    with pytest.raises(LabelNotFound, match=r"label 'dgo' is not in labels.yaml \(2 labels\)\. Did you mean 'dog'\?"):
        two_labels().find("dgo")
    with pytest.raises(KeyError, match=r"labels\.add\(.zebra.\)"):
        Labels().main_name("zebra")


def test_the_list_of_labels_reads_as_a_frame():
    frame = two_labels().to_frame()
    assert frame.to_dict("list") == {"id": [0, 1], "name": ["dog", "cat"], "aliases": ["pup, hound", "kitten"]}
    assert Labels().to_frame().columns.tolist() == ["id", "name", "aliases"]


def nested(depth):
    """Write a small text that unfolds to nine to the power of `depth` entries."""
    steps = [f"k{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth)]
    return "\n".join(["k0: &a0 [x]", *steps, f"labels: [*a{depth - 1}]"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: [", "no YAML"),
        ("labels: [{id: 0, name: dog, create_time: 2022-99-99}]", "no YAML"),
        ("[" * 20000, "no YAML"),
        ("- dog", "no list `labels`"),
        ("labels: dog", "no list `labels`"),
        ("labels: [dog]", "entry 0 must have id 0"),
        ("labels: [{id: 1, name: dog}]", "entry 0 must have id 0"),
        ("labels: [{id: true, name: dog}]", "entry 0 must have id 0"),
        ("labels: [{id: 0, name: dog}, {id: 0, name: cat}]", "entry 1 must have id 1"),
        ("labels: [{id: 0, name: no}]", "quote it"),
        ("labels: [{id: 0}]", "entry 0"),
        ("labels: [{id: 0, name: dog, aliases: pup}]", "must be a list"),
        ("labels: [{id: 0, name: dog, aliases: [7]}]", "must be a list of texts"),
        ("labels: [{id: 0, name: dog}, {id: 1, name: DOG}]", "already the main name"),
        (nested(12), "entry 0"),
    ],
)
def test_a_broken_file_is_refused_with_what_is_wrong(text, message):
    with pytest.raises(LabelConflict, match=message) as caught:
        Labels.from_yaml(text)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("text", ["", "labels: []", "ymir_version: 2.0.0\nlabels: []"])
def test_a_file_without_labels_is_no_error(text):
    assert Labels.from_yaml(text) == Labels()


def test_case_26_ten_thousand_labels_are_read_and_looked_up_in_seconds():
    rows = [{"id": i, "name": f"class {i}", "aliases": [f"c{i}"]} for i in range(10_000)]
    text = yaml.dump({"labels": rows}, Dumper=yaml.CSafeDumper)
    begin = time.process_time()
    labels = Labels.from_yaml(text)
    parsing = time.process_time() - begin
    assert len(labels) == 10_000
    begin = time.process_time()
    assert labels.main_name("C9999") == "class 9999"
    for i in range(10_000):
        labels.main_name(f"c{i}")
    assert time.process_time() - begin < 1
    assert parsing < 10
