"""Checks of what mining and inference leave: result.tsv and infer-result.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ymir_nb.backend.detections import RESULT_FILE, image_of, read_infer
from ymir_nb.backend.errors import ProtocolViolated
from ymir_nb.backend.outbox import Faults, Limits, Outbox
from ymir_nb.backend.results import read_mining
from ymir_nb.backend.untrusted import show, to_number
from ymir_nb.backend.verification.findings import Check, Finding, Result, judge, ok, skipped
from ymir_nb.backend.verification.runs import Run

MINED = "result.tsv"
SEGMENTATION = (3, 4)
_NOTHING = "there is no {} that can be read"


def result_tsv(run: Run) -> Finding:
    """It is there, and a line has an image and a score."""
    faults = Faults("mining result")
    text = Outbox(run.out_dir).read_text(MINED, faults, limit=Limits().table_bytes)
    rows = [] if text is None else _lines(text)
    faults.found += [f"line {show(chr(9).join(row))} has {len(row)} columns" for row in rows if len(row) > 2]
    if text is not None and not rows:
        faults.add("result.tsv is empty")
    single = sum(len(row) == 1 for row in rows)
    if single and not faults.found:
        return Finding("warning", f"{single} of {len(rows)} lines have no score")
    return judge(faults.found)


def every_candidate_once(run: Run) -> Finding:
    """Each candidate has one line, and nothing else has."""
    counts = Counter(image_of(row[0]) for row in _mined(run))
    known = set(_candidates(run))
    faults = [f"{show(name)} is no candidate" for name in sorted(counts.keys() - known)]
    faults += [f"{name} stands there {n} times" for name, n in sorted(counts.items()) if n > 1]
    missing = sorted(known - counts.keys())
    faults += [f"{len(missing)} of {len(known)} candidates are missing, the first is {missing[0]}"] if missing else []
    return _of_mined(run, faults)


def mining_paths(run: Run) -> Finding:
    """Images are named as the index names them."""
    index = {line.split("\t")[0] for line in _index(run)}
    other = [row[0] for row in _mined(run) if row[0] not in index and image_of(row[0]) in set(_candidates(run))]
    return _of_mined(run, [f"{show(name)} is not the index's path" for name in other], result="warning")


def mining_scores(run: Run) -> Finding:
    """A score is a finite number."""
    faults = [f"{show(row[1])}" for row in _mined(run) if len(row) == 2 and _score(row[1]) is None]
    return _of_mined(run, [f"score {fault} is no finite number" for fault in faults])


def mining_order(run: Run) -> Finding:
    """The best image stands first."""
    scores = [number for row in _mined(run) if len(row) == 2 and (number := _score(row[1])) is not None]
    if scores == sorted(scores, reverse=True):
        return _of_mined(run, [])
    words = "the scores do not fall: ymir-nb sorts them itself, YMIR takes the first k lines as they stand and fails"
    return _of_mined(run, [words], result="warning")


def mining_result(run: Run) -> Finding:
    """ymir-nb can read all of it."""
    return _reading(lambda: read_mining(run.out_dir, _images(run)).notes)


def infer_json(run: Run) -> Finding:
    """It is there, a JSON object, in the form of its object type."""
    faults = Faults("inference result")
    document = Outbox(run.out_dir).read_json(RESULT_FILE, faults)
    if document is not None and run.object_type in SEGMENTATION:
        if not isinstance(document.get("images"), list) or not isinstance(document.get("annotations"), list):
            faults.add("it has no lists `images` and `annotations` (COCO)")
    elif document is not None and not isinstance(document.get("detection"), dict):
        faults.add("it has no mapping `detection`")
    return judge(faults.found)


def boxes_key(run: Run) -> Finding:
    """Each image has a list `boxes`."""
    entries = _detection(run)
    faults = [f"{show(name)} has {show(e)}" for name, e in entries.items() if _boxes(e) is None]
    if faults:
        return Finding("failed", "; ".join(faults[:3]))
    old = [f"{show(name)} has `annotations`, the key of protocol 0" for name, e in entries.items() if "boxes" not in e]
    return _of_infer(run, old, result="warning")


def every_candidate_named(run: Run) -> Finding:
    """Each candidate is named, also one without objects, and nothing else is."""
    named = Counter(image_of(name) for name in _detection(run))
    known = set(_candidates(run))
    faults = [f"{show(name)} is no candidate" for name in sorted(named.keys() - known)]
    faults += [f"{name} is named {n} times" for name, n in sorted(named.items()) if n > 1]
    if faults:
        return Finding("failed", "; ".join(faults[:3]))
    missing = sorted(known - named.keys())
    words = f"{len(missing)} of {len(known)} candidates are not named, the first is {missing[0]}" if missing else ""
    return _of_infer(run, [words] if words else [], result="warning")


def coordinates(run: Run) -> Finding:
    """A box is x, y, w, h in whole pixels."""
    faults, fractions = [], []
    for seen in _seen(run):
        if seen.corner is None:
            faults.append(f"{show(seen.box)} has no four finite numbers x, y, w, h")
        elif not all(isinstance(number, int) for number in seen.raw):
            fractions.append(f"{show(seen.box.get('box'))} is not whole: YMIR stops at it")
    return Finding("failed", "; ".join(faults[:3])) if faults else _of_infer(run, fractions, result="warning")


def boxes_inside(run: Run) -> Finding:
    """A box has an area, and lies in its image."""
    outside, over = [], []
    for seen in _seen(run):
        if seen.corner is None or seen.size is None:
            continue
        (x, y, w, h), (width, height) = seen.corner, seen.size
        words = f"box x={x:g} y={y:g} w={w:g} h={h:g} in an image of {width} x {height}"
        if w <= 0 or h <= 0 or x >= width or y >= height or x + w <= 0 or y + h <= 0:
            outside.append(f"{words} has no area there")
        elif x < 0 or y < 0 or x + w > width or y + h > height:
            over.append(f"{words} reaches over its edge, and is cut")
    return Finding("failed", "; ".join(outside[:3])) if outside else _of_infer(run, over, result="warning")


def class_names(run: Run) -> Finding:
    """Classes are named as class_names names them."""
    known = run.task.class_names
    strange = sorted(
        {show(seen.box.get("class_name")) for seen in _seen(run) if seen.box.get("class_name") not in known}
    )
    return _of_infer(run, [f"{name} is none of {show(list(known))}" for name in strange])


def scores(run: Run) -> Finding:
    """A score lies in [0, 1]."""
    given = [seen.box.get("score") for seen in _seen(run)]
    wrong = [value for value in given if (n := to_number(value)) is None or not 0.0 <= n <= 1.0]
    return _of_infer(run, [f"score {show(value)} is not in [0, 1]" for value in wrong])


def infer_result(run: Run) -> Finding:
    """ymir-nb can read all of it."""
    return _reading(lambda: read_infer(run.out_dir, _images(run), run.task.class_names, strays="report").notes)


@dataclass(frozen=True)
class _Seen:
    """A box as it was written: itself, its four values, the same as numbers, the size of its image."""

    box: dict[str, Any]
    raw: tuple[Any, ...]
    corner: tuple[float, ...] | None
    size: tuple[int, int] | None


def _seen(run: Run) -> Iterator[_Seen]:
    images = _images(run)
    rows = zip(images["image"], images["width"], images["height"], strict=True)
    sizes = {image: (int(width), int(height)) for image, width, height in rows}
    for name, entry in _detection(run).items():
        for box in _boxes(entry) or ():
            place = box.get("box") if isinstance(box, dict) else None
            raw = tuple(place.get(key) for key in ("x", "y", "w", "h")) if isinstance(place, dict) else ()
            numbers = [number for number in map(to_number, raw) if number is not None]
            corner = tuple(numbers) if len(numbers) == 4 else None
            yield _Seen(box if isinstance(box, dict) else {}, raw, corner, sizes.get(image_of(name)))


def _boxes(entry: object) -> list[Any] | None:
    found = entry.get("boxes", entry.get("annotations")) if isinstance(entry, dict) else None
    return found if isinstance(found, list) else None


def _detection(run: Run) -> dict[str, Any]:
    document = Outbox(run.out_dir).read_json(RESULT_FILE, Faults("")) or {}
    found = document.get("detection")
    return found if isinstance(found, dict) else {}


def _lines(text: str) -> list[list[str]]:
    return [line.rstrip("\r").rstrip("\t").split("\t") for line in text.split("\n") if line.strip()]


def _mined(run: Run) -> list[list[str]]:
    return _lines(Outbox(run.out_dir).read_text(MINED, Faults(""), limit=Limits().table_bytes) or "")


def _images(run: Run) -> Any:
    return run.task.datasets["candidates"].images


def _candidates(run: Run) -> list[str]:
    return [str(image) for image in _images(run)["image"]]


def _index(run: Run) -> list[str]:
    return (run.directory / "in" / "candidate-index.tsv").read_text(encoding="utf-8").splitlines()


def _score(text: str) -> float | None:
    try:
        return to_number(float(text))
    except ValueError:
        return None


def _of_mined(run: Run, faults: list[str], *, result: Result = "failed") -> Finding:
    if not _mined(run):
        return skipped(_NOTHING.format(MINED))
    return judge(faults, result=result)


def _of_infer(run: Run, faults: list[str], *, result: Result = "failed") -> Finding:
    if run.object_type in SEGMENTATION:
        return skipped("the COCO form is read as a whole, below")
    if not _detection(run):
        return skipped(_NOTHING.format(RESULT_FILE))
    return judge(faults, result=result)


def _reading(read: Callable[[], tuple[str, ...]]) -> Finding:
    """Find the faults that ymir-nb's own reader finds."""
    try:
        notes = read()
    except ProtocolViolated as error:
        return judge(error.faults)
    return ok("; ".join(notes))


_TSV, _JSON = "executor contract, /out/result.tsv", "executor contract, /out/infer-result.json"

MINING: tuple[Check[Run], ...] = (
    Check("result.tsv", result_tsv, _TSV, "Write <image path>, a tab and the score, a line an image."),
    Check(
        "every candidate once", every_candidate_once, _TSV, "Write each line of the index once; merge what ranks do."
    ),
    Check("mining paths", mining_paths, _TSV, "Copy the path from candidate-index.tsv."),
    Check("mining scores", mining_scores, _TSV, "Replace NaN and infinity by a number before writing."),
    Check("mining order", mining_order, _TSV, "Sort by score, the highest first, before writing."),
    Check("mining result", mining_result, _TSV, "Mend what the detail names.", is_rest=True),
)
INFER: tuple[Check[Run], ...] = (
    Check("infer-result.json", infer_json, _JSON, 'Write {"detection": {"<file name>": {"boxes": [...]}}}.'),
    Check("boxes key", boxes_key, _JSON, "Call the list `boxes`, and write an empty one for an image without objects."),
    Check(
        "every candidate named", every_candidate_named, _JSON, "Name every candidate by its file name, and no other."
    ),
    Check("box coordinates", coordinates, _JSON, "Write x, y, w, h of a box as whole numbers: round(float(x))."),
    Check("boxes inside", boxes_inside, _JSON, "Scale boxes back to the image's own size, and cut them at its edge."),
    Check("class names", class_names, _JSON, "Write config.yaml's class_names[id], letter by letter."),
    Check("scores", scores, _JSON, "Write a probability between 0 and 1 with every box."),
    Check("infer result", infer_result, _JSON, "Mend what the detail names.", is_rest=True),
)
