"""Training: steps with a one-cycle learning rate, averaged weights, stages with their mAP."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

from ymir_nb.executor.annotations import Sample
from ymir_nb.executor.augmentation import Augmenter, Objects
from ymir_nb.executor.checkpoints import carry_over, load_checkpoint, save_checkpoint
from ymir_nb.executor.contract import Task, write_atomically
from ymir_nb.executor.detection import Finder
from ymir_nb.executor.device import choose_device, make_repeatable, use_half
from ymir_nb.executor.errors import NOT_A_NUMBER, ExecutorFailure
from ymir_nb.executor.images import InputSize, PictureSource
from ymir_nb.executor.losses import detection_loss, make_targets
from ymir_nb.executor.monitor import Monitor
from ymir_nb.executor.network import STRIDE, Detector, for_inference, new_detector
from ymir_nb.executor.optimiser import AdamW
from ymir_nb.executor.planning import TrainingPlan
from ymir_nb.executor.precision import IOU, mean_ap50
from ymir_nb.executor.settings import TrainingSettings

log = logging.getLogger(__name__)

EMA_DECAY = 0.99
WARM_UP = 0.1
MAX_GRADIENT = 10.0
LOADED, TRAINED = 0.05, 0.98


@dataclass(frozen=True, eq=False)
class Split:
    """Samples with their pictures."""

    samples: list[Sample]
    pictures: PictureSource


def train(task: Task, plan: TrainingPlan, monitor: Monitor) -> None:
    """Train a detector and write its stages and result.yaml.

    Raises
    ------
    ExecutorFailure
        Images or the pretrained model cannot be used, or the loss is no number.
    """
    settings, names = plan.settings, plan.names
    device = choose_device(task.config)
    make_repeatable(settings.n_threads)
    trainer = Trainer(settings, names, _split(plan.train, settings), device)
    if task.config.get("pretrained_model_params"):
        checkpoint = load_checkpoint(task.config["pretrained_model_params"], "pretrained_model_params")
        shared = carry_over(trainer.model, checkpoint, names)
        log.info("start from a model of %d classes, %d of them carried over", len(checkpoint.names), len(shared))
    _run(task, trainer, _split(plan.val, settings), monitor)


def _split(samples: list[Sample], settings: TrainingSettings) -> Split:
    size = InputSize(settings.input_width, settings.input_height)
    paths = [sample.path for sample in samples]
    return Split(samples, PictureSource(paths, size, cache_mb=settings.cache_mb, n_threads=torch.get_num_threads()))


def _run(task: Task, trainer: Trainer, val: Split, monitor: Monitor) -> None:
    """Go through the steps, save and measure a stage at each checkpoint, write the result."""
    settings, stages = trainer.settings, {}
    ends = {math.ceil(settings.max_steps * (i + 1) / settings.n_checkpoints) for i in range(settings.n_checkpoints)}
    log.info(
        "train %d steps on %d images, %d to validate", settings.max_steps, len(trainer.data.samples), len(val.samples)
    )
    task.tensorboard_dir.mkdir(parents=True, exist_ok=True)
    with SummaryWriter(str(task.tensorboard_dir)) as board:
        for step, (losses, rate) in enumerate(trainer.steps(), start=1):
            for part, value in losses.items():
                board.add_scalar(f"loss/{part}", value, step)
            board.add_scalar("learning_rate", rate, step)
            if step in ends:
                name = f"step_{step}"
                files = save_checkpoint(task.models_dir / name, trainer.average, trainer.names, val.pictures.size)
                score = trainer.measure(val)
                board.add_scalar("val/mAP", score, step)
                log.info("step %d: loss %.3f, mAP %.4f", step, losses["total"], score)
                stages[name] = {
                    "stage_name": name, "files": files, "timestamp": int(time.time()), "mAP": round(score, 6),
                }  # fmt: skip
            monitor.progress(LOADED + (TRAINED - LOADED) * step / settings.max_steps)
    write_result(task, stages, settings.conf_threshold)
    monitor.progress(1.0)


def write_result(task: Task, stages: dict[str, dict[str, object]], conf_threshold: float) -> None:
    """Write result.yaml; of equal stages the last is the best.

    Source: YMIR's executor contract, protocol version 1.1.0, `result.yaml`.
    """
    best = max(reversed(list(stages)), key=lambda name: float(str(stages[name]["mAP"])))
    result = {
        "model_stages": stages,
        "best_stage_name": best,
        "mAP": stages[best]["mAP"],
        "evaluate_config": {"iou_thr": IOU, "conf_thr": conf_threshold},
    }
    write_atomically(task.training_result, yaml.safe_dump(result, sort_keys=False))


class Trainer:
    """A detector under training.

    Parameters
    ----------
    settings : TrainingSettings
        The parameters.
    names : list of str
        Its classes.
    data : Split
        The training images.
    device : torch.device
        Where it computes.
    """

    def __init__(self, settings: TrainingSettings, names: list[str], data: Split, device: torch.device) -> None:
        self.settings = settings
        self.names = names
        self.data = data
        self.device = device
        self.half = use_half(settings.precision, device)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.model = new_detector(len(names), self.generator).to(device)
        self.average = copy.deepcopy(self.model)

    def steps(self) -> Iterator[tuple[dict[str, float], float]]:
        """Do the training, a step at a time; gives the losses and the learning rate of each."""
        settings = self.settings
        self.model.train()
        self.average = copy.deepcopy(self.model).requires_grad_(requires_grad=False)
        optimiser = AdamW(self.model.parameters(), weight_decay=settings.weight_decay)
        augment = Augmenter(strength=settings.augmentation, flip=settings.flip, generator=self.generator)
        for step, positions in zip(range(settings.max_steps), self._batches(), strict=False):
            rate = settings.learning_rate * one_cycle(step / settings.max_steps)
            images, objects = augment(*self._batch(positions))
            parts = self._learn(images.to(self.device), objects.to(self.device), step)
            optimiser.step(rate)
            _follow(self.average, self.model, min(EMA_DECAY, (1 + step) / (10 + step)))
            yield parts, rate

    def _learn(self, images: torch.Tensor, objects: Objects, step: int) -> dict[str, float]:
        """Compute the gradients of a batch."""
        n, _, height, width = images.shape
        targets = make_targets(objects, n, len(self.names), height // STRIDE, width // STRIDE)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            logits, distances = self.model(images)
        loss, parts = detection_loss(logits, distances, targets)
        if not math.isfinite(parts["total"]):
            raise ExecutorFailure(
                f"the loss is {parts['total']} at step {step + 1}. Lower learning_rate "
                f"(it is {self.settings.learning_rate})",
                code=NOT_A_NUMBER,
            )
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT)
        return parts

    def measure(self, val: Split) -> float:
        """Give the averaged model's mAP at IoU 0.5."""
        settings = self.settings
        fast = for_inference(self.average, half=self.half)
        finder = Finder(fast, settings.conf_threshold, settings.nms_iou, settings.max_boxes)
        found = []
        for start in range(0, len(val.samples), settings.batch_size):
            found += finder(val.pictures.get(range(start, min(start + settings.batch_size, len(val.samples)))))
        return mean_ap50(val.samples, found, len(self.names))

    def _batches(self) -> Iterator[list[int]]:
        """Deal the images out for ever: each once before any comes again."""
        hand: list[int] = []
        while True:
            while len(hand) < self.settings.batch_size:
                hand += torch.randperm(len(self.data.samples), generator=self.generator).tolist()
            yield hand[: self.settings.batch_size]
            hand = hand[self.settings.batch_size :]

    def _batch(self, positions: list[int]) -> tuple[torch.Tensor, Objects]:
        """Collect pixels and objects of a batch, boxes in input pixels."""
        pictures = self.data.pictures.get(positions)
        samples = [self.data.samples[position] for position in positions]
        boxes = [
            torch.from_numpy(sample.boxes).float() * torch.tensor(picture.scale).float().repeat(2)
            for sample, picture in zip(samples, pictures, strict=True)
        ]
        counts = torch.tensor([len(sample.boxes) for sample in samples])
        objects = Objects(
            torch.repeat_interleave(torch.arange(len(samples)), counts),
            torch.cat(boxes),
            torch.cat([torch.from_numpy(sample.classes) for sample in samples]),
        )
        return torch.stack([picture.pixels for picture in pictures]), objects


def one_cycle(progress: float) -> float:
    """Give the learning rate's share of its highest value: up in a straight line, down by a cosine."""
    if progress < WARM_UP:
        return 0.05 + 0.95 * progress / WARM_UP
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


@torch.no_grad()
def _follow(average: Detector, model: Detector, decay: float) -> None:
    """Move the averaged weights, and the norms' statistics, towards the present ones."""
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
