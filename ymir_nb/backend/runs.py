"""The runs of a simulation: a file of JSON lines, the plan first, then a line for each finished round."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ymir_nb.backend.errors import ProjectError
from ymir_nb.backend.learning_curves import COLUMNS
from ymir_nb.backend.objects import write_atomically

FORM = "ymir-nb runs 1"


@dataclass(frozen=True)
class Runs:
    """What was replayed so far.

    Parameters
    ----------
    path : Path
        The file.
    plan : mapping
        What is the same for all arms: data, sizes, executor and its config, and the ``id`` of all that.
    lines : list of dict
        The rounds, in the order in which they ended: strategy, seed, round, n_images, n_boxes, ap50, ap,
        per_label, seconds, jobs and chosen, the images whose labels the next round gets.
    """

    path: Path
    plan: Mapping[str, Any]
    lines: list[dict[str, Any]] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path, plan: Mapping[str, Any]) -> Runs:
        """Make the file of a plan, or read what it has; a line that a crash cut short is taken away.

        Raises
        ------
        ProjectError
            The file holds the runs of another plan.
        """
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({"form": FORM, "plan": dict(plan)}, sort_keys=True) + "\n")
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            write_atomically(path, text[: text.rfind("\n") + 1])
        runs = cls.read(path)
        if runs.plan["id"] != plan["id"]:
            differing = sorted(key for key in plan if key != "id" and plan[key] != runs.plan.get(key))
            raise ProjectError(
                f"{path} holds the runs of another simulation: {', '.join(differing)} differ. Name another file, or "
                "ask with what it was made with; its first line tells."
            )
        return runs

    @classmethod
    def read(cls, path: str | Path) -> Runs:
        """Read a file of runs; of a round that stands there twice the later line counts.

        Raises
        ------
        ProjectError
            It is no such file.
        """
        try:
            lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
            if lines[0]["form"] != FORM:
                raise ValueError(lines[0]["form"])
            return cls(Path(path), lines[0]["plan"], lines[1:])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ProjectError(
                f"{path} cannot be read as the runs of a simulation: {error}. Name a file that simulate wrote."
            ) from error

    def append(self, row: dict[str, Any]) -> None:
        """Write a finished round down."""
        with self._lock, self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, sort_keys=True) + "\n")
            self.lines.append(row)

    def rounds(self, strategy: str, seed: int) -> dict[int, dict[str, Any]]:
        """Give the finished rounds of an arm, by number."""
        with self._lock:
            return {row["round"]: row for row in self.lines if (row["strategy"], row["seed"]) == (strategy, seed)}

    def to_frame(self) -> pd.DataFrame:
        """List what was measured: `learning_curves.COLUMNS`, a row a round and label, and one for the mean."""
        rows = {}
        for line in self.lines:
            base = [line[key] for key in COLUMNS[:5]]
            rows[(*base[:3], "")] = [*base, "", line["ap50"], line["ap"], line["n_images"], line["n_boxes"]]
            for label, seen in line["per_label"].items():
                numbers = [seen[key] for key in ("ap50", "ap", "n_images", "n_boxes")]
                rows[(*base[:3], label)] = [*base, label, *numbers]
        frame = pd.DataFrame(list(rows.values()), columns=list(COLUMNS)).astype({"ap50": float, "ap": float})
        return frame.sort_values(["label", "strategy", "seed", "round"], kind="stable", ignore_index=True)

    def __repr__(self) -> str:
        """Say in one line what there is."""
        arms = {(row["strategy"], row["seed"]) for row in self.lines}
        n_rounds = len({(row["strategy"], row["seed"], row["round"]) for row in self.lines})
        strategies = ", ".join(sorted({strategy for strategy, _ in arms})) or "none yet"
        return f"<Runs of {self.plan['id']}: {strategies}; {len(arms)} arms, {n_rounds} rounds>"
