"""Training: steps with a one-cycle learning rate, averaged weights, stages with their mAP."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

from ymir_nb.executor.annotations import Sample
from ymir_nb.executor.augmentation import Augmenter, Objects
from ymir_nb.executor.checkpoints import carry_over, load_checkpoint, save_checkpoint
from ymir_nb.executor.contract import Task, write_atomically
from ymir_nb.executor.detection import Finder, find_all
from ymir_nb.executor.device import choose_device, make_repeatable, use_half, workers
from ymir_nb.executor.errors import NOT_A_NUMBER, ExecutorFailure
from ymir_nb.executor.images import InputSize, PictureSource
from ymir_nb.executor.losses import detection_loss, make_targets
from ymir_nb.executor.monitor import Monitor
from ymir_nb.executor.network import STRIDE, Detector, for_inference, new_detector, twin
from ymir_nb.executor.planning import TrainingPlan
from ymir_nb.executor.precision import IOU, mean_ap50
from ymir_nb.executor.settings import TrainingSettings

log = logging.getLogger(__name__)

SHARD = 8
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
    make_repeatable()
    trainer = Trainer(settings, names, _split(plan.train, settings), device)
    if task.config.get("pretrained_model_params"):
        checkpoint = load_checkpoint(task.config["pretrained_model_params"], "pretrained_model_params")
        shared = carry_over(trainer.model, checkpoint, names)
        log.info("start from a model of %d classes, %d of them carried over", len(checkpoint.names), len(shared))
    with workers(settings.n_threads, device) as pool:
        _run(task, trainer, _split(plan.val, settings), monitor, pool)


def _split(samples: list[Sample], settings: TrainingSettings) -> Split:
    size = InputSize(settings.input_width, settings.input_height)
    paths = [sample.path for sample in samples]
    return Split(samples, PictureSource(paths, size, cache_mb=settings.cache_mb))


def _run(task: Task, trainer: Trainer, val: Split, monitor: Monitor, pool: ThreadPoolExecutor) -> None:
    """Go through the steps, save and measure a stage at each checkpoint, write the result."""
    settings, stages = trainer.settings, {}
    ends = {math.ceil(settings.max_steps * (i + 1) / settings.n_checkpoints) for i in range(settings.n_checkpoints)}
    log.info(
        "train %d steps on %d images, %d to validate", settings.max_steps, len(trainer.data.samples), len(val.samples)
    )
    task.tensorboard_dir.mkdir(parents=True, exist_ok=True)
    with SummaryWriter(str(task.tensorboard_dir)) as board:
        for step, (losses, rate) in enumerate(trainer.steps(pool), start=1):
            for part, value in losses.items():
                board.add_scalar(f"loss/{part}", value, step)
            board.add_scalar("learning_rate", rate, step)
            if step in ends:
                name = f"step_{step}"
                files = save_checkpoint(task.models_dir / name, trainer.average, trainer.names, val.pictures.size)
                score = trainer.measure(val, pool)
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

    Notes
    -----
    A batch is dealt out in shards of at most 8 images, each with its own twin of the model, which
    shares the weights and keeps batch statistics of its own, and its own generator. So shards may run at
    the same time, and the result does not depend on how many threads there are.
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

    def steps(self, pool: ThreadPoolExecutor) -> Iterator[tuple[dict[str, float], float]]:
        """Do the training, a step at a time; gives the losses and the learning rate of each."""
        settings, model = self.settings, self.model.train()
        self.average = copy.deepcopy(model).requires_grad_(requires_grad=False)
        n_shards = math.ceil(settings.batch_size / SHARD)
        twins = [twin(model) for _ in range(n_shards)]
        augmenters = [self._augmenter() for _ in range(n_shards)]
        optimiser = self._optimiser(model)
        for step, positions in zip(range(settings.max_steps), self._batches(), strict=False):
            shards = [positions[i::n_shards] for i in range(n_shards)]
            answers = list(pool.map(self._learn, twins, augmenters, shards))
            losses = {part: sum(loss[part] for _, loss in answers) / n_shards for part in answers[0][1]}
            self._check(losses["total"], step)
            gradients = zip(*(gradient for gradient, _ in answers), strict=True)
            for parameter, parts in zip(model.parameters(), gradients, strict=True):
                parameter.grad = torch.stack(parts).mean(0)
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT)
            rate = settings.learning_rate * one_cycle(step / settings.max_steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            _gather(model, twins)
            _follow(self.average, model, min(EMA_DECAY, (1 + step) / (10 + step)))
            yield losses, rate

    def _optimiser(self, model: Detector) -> torch.optim.AdamW:
        """Make AdamW with decay on the kernels; biases and norms are left alone."""
        parameters = list(model.parameters())
        kernels, others = ([p for p in parameters if (p.ndim > 1) == many] for many in (True, False))
        decay = self.settings.weight_decay
        groups = [{"params": kernels, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.settings.learning_rate)

    def _augmenter(self) -> Augmenter:
        seed = int(torch.randint(2**62, (1,), generator=self.generator))
        generator = torch.Generator().manual_seed(seed)
        return Augmenter(strength=self.settings.augmentation, flip=self.settings.flip, generator=generator)

    def _learn(
        self, model: Detector, augment: Augmenter, positions: list[int]
    ) -> tuple[tuple[torch.Tensor, ...], dict[str, float]]:
        """Compute the gradients and losses of a shard."""
        images, objects = augment(*self._batch(positions))
        n, _, height, width = images.shape
        targets = make_targets(objects.to(self.device), n, len(self.names), height // STRIDE, width // STRIDE)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            logits, distances = model(images.to(self.device))
        loss, parts = detection_loss(logits, distances, targets)
        return torch.autograd.grad(loss, list(model.parameters())), parts

    def _check(self, loss: float, step: int) -> None:
        if not math.isfinite(loss):
            raise ExecutorFailure(
                f"the loss is {loss} at step {step + 1}. Lower learning_rate (it is {self.settings.learning_rate})",
                code=NOT_A_NUMBER,
            )

    def measure(self, val: Split, pool: ThreadPoolExecutor) -> float:
        """Give the averaged model's mAP at IoU 0.5."""
        settings = self.settings
        fast = for_inference(self.average, half=self.half)
        finder = Finder(fast, settings.conf_threshold, settings.nms_iou, settings.max_boxes)
        found = list(find_all(finder, val.pictures, SHARD, pool))
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
        pictures = [self.data.pictures.get(position) for position in positions]
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
def _gather(model: Detector, twins: list[Detector]) -> None:
    """Give the model the mean of its twins' batch statistics."""
    for mean, *parts in zip(model.buffers(), *(other.buffers() for other in twins), strict=True):
        mean.copy_(torch.stack(parts).mean(0) if mean.is_floating_point() else parts[0])


@torch.no_grad()
def _follow(average: Detector, model: Detector, decay: float) -> None:
    """Move the averaged weights, and the norms' statistics, towards the present ones."""
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
