"""Mining strategies against random, on frozen datasets: ``python benchmarks/mining.py --only rare --seeds 1,2``.

Runs are kept in ``benchmarks/results/mining-<dataset>.jsonl``; the same call goes on where it stopped,
and without ``--table`` it runs what is missing before it prints. Results on hand are never run again. The table
is kept beside them as ``mining.txt``, with the command that wrote it.

What is frozen, and why:

- ``rare``: a drawn pool of 2,000 scenes with cones on 2.5 % of them; ``balanced``: the same scenes with
  cones on 35 %; both are measured on the same 400 scenes, of another world, with cones on 35 %, since a
  dozen cones would not measure anything. ``bccd``: 364 photographs of blood cells, by their own splits.
- 40 images to begin with and six rounds of 40 (``bccd``: 5 and six rounds of 5), 500 steps each round, as in the
  prototype whose figures set the bars; its pool of 3,000 is cut to 2,000. Every round trains from scratch for the
  same number of steps; one stage is kept, so that nothing is chosen on the images that are measured.
- On two cores, two arms at a time with a thread each: a training takes about 110 s, predicting on pool and test 15 to
  25 s, an arm a quarter of an hour, and the whole of a drawn dataset three to four hours.

What was tried before it was frozen (AP50 of heads and helmets with 280 random images): 300 steps with augmentation
0.6 reached .57 .85, and random's curve was flat from 80 images on, so that r measured noise
(``results/tried/mining-rare-300-steps.jsonl``); 300 steps with 0.2 .65 .87; 450 with 0.3 .76 .92; 600 with 0.6
.80 .93; 600 with 0.3 .82 .95. At 192 x 144 pixels and 300 steps helmets fell from .86 to .76 with 80 images. With 41
images of cones among 200 a cone's AP50 is .79 after 300 steps; with the 3 to 9 that random finds it is .00 to .28.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from ymir_nb.backend import ops
from ymir_nb.backend.importing import import_dataset
from ymir_nb.backend.learning_curves import compare, curves
from ymir_nb.backend.runs import Runs
from ymir_nb.backend.sandbox import draw_sandbox
from ymir_nb.backend.simulation import simulate
from ymir_nb.backend.strategies import STRATEGIES
from ymir_nb.backend.workspace import Workspace

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
BCCD = HERE.parent.parent / "shared" / "data" / "bccd_voc"

SEEDS = (1, 2, 3, 4, 5)
COMPARED = ("random", "hybrid", "entropy", "kcenter", "cald", "aldd")
DEFAULT, CONTROL = "hybrid", "random"
TRAINING = {
    "max_steps": 500,
    "batch_size": 16,
    "input_width": 256,
    "input_height": 192,
    "learning_rate": 0.005,
    "weight_decay": 0.05,
    "augmentation": 0.3,
    "flip": "horizontal",
    "n_checkpoints": 1,
    "precision": "auto",
    "n_threads": 1,
}
INFER = {"conf_threshold": 0.005, "nms_iou": 0.6, "max_boxes": 100, "n_threads": 1}
BARS = (
    # dataset, label (empty: the mean), largest r
    ("rare", "cone", 0.25),
    ("rare", "", 0.35),
    ("balanced", "", 0.8),
)


@dataclass(frozen=True)
class Recipe:
    """One dataset of the benchmark.

    Parameters
    ----------
    prepare : callable
        Imports ``<name>-truth``, ``<name>-val`` and ``<name>-test`` into a workspace.
    n_start, k, rounds : int
        As in `simulate`.
    value : str
        What is compared: ap50 or ap.
    training : mapping
        Parameters that differ from `TRAINING`.
    """

    prepare: Callable[[Workspace, Path], None]
    n_start: int
    k: int
    rounds: int
    value: str
    training: Mapping[str, Any]


def draw(ws: Workspace, scratch: Path, name: str, *, rare_share: float) -> None:
    """Draw and import a sandbox; worlds 1, 2 and 3 are pool, test and val."""
    parts = (("truth", 2000, 1, rare_share), ("test", 400, 2, 0.35), ("val", 16, 3, 0.35))
    for part, n_images, seed, share in parts:
        folder = scratch / f"{name}-{part}"
        if not folder.exists():
            draw_sandbox(folder, n_images=n_images, seed=seed, rare_share=share)
        import_dataset(ws, f"{name}-{part}", folder, unknown_labels="add")


def take_bccd(ws: Workspace, scratch: Path) -> None:  # noqa: ARG001
    """Import the blood cells; 16 of the pool are val, which has no say."""
    if not BCCD.is_dir():
        sys.exit(f"{BCCD} is not there; leave bccd out: --only rare,balanced")
    whole = ops.filter(import_dataset(ws, "bccd-all", BCCD, unknown_labels="add"), state="labelled")
    test = ops.filter(whole, split="test")
    rest = ops.exclude(whole, test)
    val = ops.sample(rest, n=16, seed=0)
    for part, images in (("test", test), ("val", val), ("truth", ops.exclude(rest, val))):
        ws.save(images, f"bccd-{part}", operation="filter", parents=["bccd-all"])


DATASETS = {
    "rare": Recipe(lambda ws, scratch: draw(ws, scratch, "rare", rare_share=0.025), 40, 40, 6, "ap50", {}),
    "balanced": Recipe(lambda ws, scratch: draw(ws, scratch, "balanced", rare_share=0.35), 40, 40, 6, "ap50", {}),
    "bccd": Recipe(take_bccd, 5, 5, 6, "ap", {"max_steps": 200, "input_width": 320, "input_height": 240}),
}


def open_workspace(scratch: Path, name: str) -> Workspace:
    """Open the workspace of a dataset, made on the first call."""
    ws = Workspace.init(scratch / "workspace")
    if f"{name}-truth" not in ws.store.names("datasets"):
        DATASETS[name].prepare(ws, scratch)
    return ws


def run(name: str, strategies: list[str], seeds: list[int], *, scratch: Path, n_parallel: int) -> None:
    """Run what is missing of a dataset."""
    recipe, ws = DATASETS[name], open_workspace(scratch, name)
    begun, said = time.time(), [""]

    def watch(share: float, words: str) -> None:
        if "AP50" in words and words != said[0]:
            said[0] = words
            print(f"{name} {share:4.0%} after {(time.time() - begun) / 60:5.1f} min: {words}", flush=True)

    simulate(
        ws,
        f"{name}-truth",
        val=f"{name}-val",
        test=f"{name}-test",
        strategies=strategies,
        seeds=seeds,
        n_start=recipe.n_start,
        k=recipe.k,
        rounds=recipe.rounds,
        parameters={"training": TRAINING | recipe.training, "infer": INFER},
        n_parallel=n_parallel,
        results=RESULTS / f"mining-{name}.jsonl",
        watch=watch,
    )


def table(name: str, print: Callable[[str], None]) -> None:  # noqa: A002
    """Say what a dataset's runs say."""
    path = RESULTS / f"mining-{name}.jsonl"
    if not path.exists():
        print(f"{name}: no runs yet\n")
        return
    runs, value = Runs.read(path).to_frame(), DATASETS[name].value
    print(f"{name}: {value} by labelled images, mean of the seeds")
    drawn = curves(runs, value=value)
    if CONTROL not in set(drawn["strategy"]):
        print(f"  no finished arm of {CONTROL} yet\n")
        return
    by_images = compare(runs, value=value)
    by_boxes = compare(runs, value=value, against="n_boxes")
    early = compare(runs, value=value, share=0.8)
    wide = drawn.assign(label=drawn["label"].replace("", "mean")).pivot_table(
        index=["label", "strategy"], columns="n_images", values="mean"
    )
    print(wide.to_string(float_format=lambda v: f"{v:.3f}"))
    print("")
    shown = pd.DataFrame(
        {
            "label": by_images["label"].replace("", "mean"),
            "strategy": by_images["strategy"],
            "seeds": by_images["n_seeds"],
            "r": [_ratio(row) for row in by_images.to_dict("records")],
            "r 95 %": [
                f"{low:.2f}-{high:.2f}" for low, high in zip(by_images["r_low"], by_images["r_high"], strict=True)
            ],
            "r at 80 %": [_ratio(row) for row in early.to_dict("records")],
            "r in boxes": [_ratio(row) for row in by_boxes.to_dict("records")],
            "area": by_images["area"].map("{:.3f}".format),
            "gain of area 95 %": [
                f"{gain:+.3f} ({low:+.3f} to {high:+.3f})"
                for gain, low, high in zip(
                    by_images["gain"], by_images["gain_low"], by_images["gain_high"], strict=True
                )
            ],
            "verdict": by_images["verdict"],
            "positives": by_images["label_images"].map("{:.1f}".format),
        }
    )
    print(shown.to_string(index=False))
    print("")


def _ratio(row: Mapping[str, Any]) -> str:
    return f"> {row['at_least']:.2f}" if row["r"] == float("inf") else f"{row['r']:.2f}"


def judge(print: Callable[[str], None]) -> None:  # noqa: A002
    """Hold the default strategy against the bars, where its runs are there."""
    found = {}
    for name, recipe in DATASETS.items():
        path = RESULTS / f"mining-{name}.jsonl"
        runs = Runs.read(path).to_frame() if path.exists() else pd.DataFrame()
        if len(runs) and {CONTROL, DEFAULT} <= set(curves(runs)["strategy"]):
            found[name] = compare(runs, value=recipe.value)
    for name, label, bar in BARS:
        if name in found:
            row = found[name].query("label == @label and strategy == @DEFAULT").iloc[0]
            said = "met" if row["r"] <= bar else "missed"
            print(f"{said:7} r of {label or 'the mean'}, {name}: {_ratio(row)}, bar {bar} ({row['n_seeds']} seeds)")
    for name, frame in found.items():
        worse = frame.query("strategy == @DEFAULT and verdict == 'worse'")["label"].replace("", "mean").tolist()
        print(f"{'missed' if worse else 'met':7} never worse than random, {name}: {', '.join(worse) or 'nowhere'}")
    if len(found) == len(DATASETS):
        gains = pd.concat(frame[frame["label"] == ""] for frame in found.values()).groupby("strategy")["gain"].mean()
        ahead = gains.drop(DEFAULT).max() < gains[DEFAULT]
        ranked = ", ".join(f"{name} {gain:+.3f}" for name, gain in gains.sort_values(ascending=False).items())
        print(f"{'met' if ahead else 'missed':7} ahead on the mean of the three (gain of area): {ranked}")


def main() -> None:
    """Run, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(DATASETS), help=f"datasets (default: {','.join(DATASETS)})")
    known = [name for name in COMPARED if name in STRATEGIES]
    parser.add_argument("--strategies", default=",".join(known), help=f"default: {','.join(known)}")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="default: %(default)s")
    parser.add_argument("--parallel", type=int, default=1, help="arms at a time")
    parser.add_argument("--scratch", type=Path, default=Path("build/mining"), help="where to work")
    parser.add_argument("--table", action="store_true", help="only print what the kept runs say")
    options = parser.parse_args()
    names = options.only.split(",")
    if not options.table:
        strategies, seeds = options.strategies.split(","), [int(seed) for seed in options.seeds.split(",")]
        for name in names:
            run(name, strategies, seeds, scratch=options.scratch, n_parallel=options.parallel)
    lines = [f"python benchmarks/mining.py {shlex.join(sys.argv[1:])}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n"]
    for name in names:
        table(name, lines.append)
    judge(lines.append)
    text = "\n".join(lines) + "\n"
    print(text)
    (RESULTS / "mining.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
