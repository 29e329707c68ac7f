"""Training: from two dataset versions to a model in the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ymir_nb.backend import contract, ops, packages
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import JobFailed, PreflightFailed
from ymir_nb.backend.executors import ExecutorBook, gpu_count
from ymir_nb.backend.jobs import Jobs, Order, Watch
from ymir_nb.backend.models import Model, open_model, save_model
from ymir_nb.backend.names import check_name, work_id
from ymir_nb.backend.training_results import TrainingResult, read_training, readable_stages
from ymir_nb.backend.workspace import Workspace


def train(
    workspace: Workspace,
    name: str,
    *,
    train: str,
    val: str,
    labels: Sequence[str] | None = None,
    pretrained: str = "",
    overlap: str = "stop",
    executor: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    watch: Watch = None,
) -> Model:
    """Train a model and register it as the next version of a name.

    The same inputs train the same model: asked again while the job runs, it is waited for; once it
    is done, its result is taken.

    Parameters
    ----------
    workspace, name, train, val, labels, pretrained, overlap, executor, parameters
        As `order_training`.
    watch : callable, optional
        Gets the share done and a few words.

    Returns
    -------
    Model

    Raises
    ------
    PreflightFailed
        As `order_training`.
    JobFailed, ProtocolViolated
        The executor failed, or broke the contract; nothing is registered then.
    """
    order = order_training(
        workspace,
        name,
        train=train,
        val=val,
        labels=labels,
        pretrained=pretrained,
        overlap=overlap,
        executor=executor,
        parameters=parameters,
    )
    jobs = Jobs.of(workspace)
    try:
        return open_model(workspace, jobs.run(order, watch=watch).result)
    except JobFailed as error:
        record = jobs.attach(order.id)
        if readable_stages(record.out_dir) is None:
            raise
        raise JobFailed(
            f"{error}\nIt left a model that can be read. Keep it: ymir-nb jobs salvage {order.id}"
        ) from error


def order_training(
    workspace: Workspace,
    name: str,
    *,
    train: str,
    val: str,
    labels: Sequence[str] | None = None,
    pretrained: str = "",
    overlap: str = "stop",
    executor: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Order:
    """Say what a training is, for `Jobs.start` or `Jobs.run`; nothing is started yet.

    Parameters
    ----------
    workspace : Workspace
        Where the data is and the model goes.
    name : str
        Name of the model.
    train, val : str
        Dataset references; images that are not labelled yet are left out.
    labels : sequence of str, optional
        What to detect; by default all labels of the training set. Aliases count as their main name.
    pretrained : str
        Reference of a model, or of a stage of it (``helmets@v2:epoch10``), to begin with; empty to begin from scratch.
    overlap : {'stop', 'train', 'val'}
        What happens to images that stand in both sets: stop, or count them as one side's.
    executor : str, optional
        Who trains; by default the workspace's.
    parameters : mapping, optional
        Executor parameters that differ from its training template.

    Returns
    -------
    Order

    Raises
    ------
    PreflightFailed
        Nothing labelled to learn from, a label that nobody annotated, common images under `stop`,
        a parameter that the executor does not have.
    """
    check_name(name, what="model")
    chosen = ExecutorBook(workspace.store).get(executor or str(workspace.settings["executor"]))
    sides = separate(workspace.dataset(train), workspace.dataset(val), overlap=overlap)
    refs = {"train": sides[0].ref, "val": sides[1].ref}
    learn, check = (ops.filter(side, state="labelled") for side in sides)
    main = tuple(workspace.labels.main_name(label) for label in labels or learn.labels)
    base = open_model(workspace, pretrained) if pretrained else None
    parents = [*refs.values(), *([f"models/{base.ref}"] if base else [])]
    given = dict(parameters or {})
    config = chosen.config("training", given)
    order = {"labels": main, "config": config, "overlap": overlap, "executor": chosen.start()}
    if base and base.stage:
        order["stage"] = base.stage
    task = contract.Task(
        task_id=work_id(f"train-{name}", order, workspace.lineage(parents)),
        class_names=main,
        config=config,
        training=True,
        train=learn,
        val=check,
        model=base.package() if base else None,
        stage=base.stage if base else "",
        gpu_id=",".join(map(str, range(gpu_count(config)))),
        allow_network=chosen.isolation.network,
    )

    def save(result: TrainingResult, operation: str) -> str:
        info = result.to_info(
            executor_config={**config, "class_names": list(main), "task_id": task.task_id},
            task_context={"executor": chosen.name, "src_revs": f"tr:{refs['train']};va:{refs['val']}", "dst_rev": name},
        )
        annotated = learn.annotations["label"].isin(main)
        counts = {"n_images": len(learn), "n_boxes": int(annotated.sum())}
        saved = save_model(
            workspace,
            name,
            packages.pack(result.files, info),
            operation=operation,
            executor=chosen.name,
            parameters=given | {"overlap": overlap},
            trained_on=refs | counts | {"from": base.full_ref if base else ""},
            parents=parents,
            job=task.task_id,
        )
        return saved.ref

    def ingest(out: Path) -> str:
        made = workspace.store.made_by(task.task_id, "models", name)
        return made.ref if made else save(read_training(out, object_type=chosen.object_type), "train")

    def salvage(out: Path) -> str:
        left = readable_stages(out, object_type=chosen.object_type)
        return save(left, "salvage") if left else ""

    arguments = {
        "name": name,
        **refs,
        "labels": list(main),
        "pretrained": base.full_ref if base else "",
        "overlap": overlap,
        "executor": chosen.name,
        "parameters": given,
    }
    asked = {"flow": "train", "arguments": arguments}
    return Order(task.task_id, task, chosen.launch(config), ingest, asked, salvage)


def separate(train: Dataset, val: Dataset, *, overlap: str = "stop") -> tuple[Dataset, Dataset]:
    """Make two datasets disjoint by a named rule.

    Parameters
    ----------
    train, val : Dataset
        The two sides.
    overlap : {'stop', 'train', 'val'}
        Raise on common images, or leave them to that side.

    Returns
    -------
    tuple of Dataset
        Train and val, with their `ref`.

    Raises
    ------
    PreflightFailed
        Under `stop`: names the common images' files; or the rule is unknown, or empties a side.
    """
    common = train.images[train.images["image"].isin(val.images["image"])]
    if overlap not in ("stop", "train", "val"):
        raise PreflightFailed(f"overlap is {overlap!r}; it is one of stop, train, val.")
    if len(common) and overlap == "stop":
        files = ", ".join(sorted(common["file"])[:5])
        shown = f"{files} ..." if len(common) > 5 else files
        raise PreflightFailed(
            f"{len(common)} images stand in both {train.ref or 'train'} and {val.ref or 'val'}: {shown}. "
            "Exclude them from one, or say whose they are: overlap='train' or overlap='val'."
        )
    if overlap == "train":
        return train, replace(ops.exclude(val, train), ref=val.ref)
    return replace(ops.exclude(train, val), ref=train.ref), val
