"""Executors a workspace knows: their commands and the parameters they offer."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ymir_nb.backend.errors import ExecutorNotFound, PreflightFailed
from ymir_nb.backend.names import check_name
from ymir_nb.backend.objects import write_atomically
from ymir_nb.backend.runners.base import Isolation, Launch
from ymir_nb.backend.store import Store

KINDS = ("training", "mining", "infer")
PYTHON = "{python}"
BUILTIN = "tiny"
RESERVED = frozenset(
    {"task_id", "class_names", "gpu_id", "pretrained_model_params", "model_params_path", "run_infer", "run_mining"}
)


@dataclass(frozen=True)
class Executor:
    """One executor: a command that reads ``/in`` and writes ``/out``.

    Parameters
    ----------
    name : str
        What the workspace calls it.
    command : tuple of str
        Program and arguments; ``{python}`` stands for the Python that runs ymir-nb.
    templates : mapping of str to mapping
        Editable parameters with their defaults, for each of ``training``, ``mining`` and ``infer`` that it offers.
    object_type : int
        2 detection, 3 semantic and 4 instance segmentation.
    image : str
        Name of an image, for one that runs in a container.
    digest : str
        The image's id, to which it is pinned.
    isolation : Isolation
        What it may do.
    """

    name: str
    command: tuple[str, ...] = ()
    templates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    object_type: int = 2
    image: str = ""
    digest: str = ""
    isolation: Isolation = field(default_factory=Isolation)

    @property
    def runner(self) -> str:
        """How it is run: a key of `runners.RUNNERS`."""
        return "docker" if self.image else "process"

    def launch(self, config: Mapping[str, Any]) -> Launch:
        """Say how it is started for a run with this config, which names GPUs and shared memory.

        Raises
        ------
        PreflightFailed
            ``gpu_count`` or ``shm_size`` cannot be understood.
        """
        return Launch(
            runner=self.runner,
            command=tuple(sys.executable if part == PYTHON else part for part in self.command),
            image=self.image,
            digest=self.digest,
            isolation=self.isolation,
            n_gpus=gpu_count(config),
            shm_bytes=_bytes_of(config.get("shm_size")),
        )

    def start(self) -> list[str]:
        """Name what is started: the image's digest, or the command."""
        return [self.digest or self.image, *self.command] if self.image else list(self.command)

    def config(self, kind: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Give the config of one run: the template's defaults under the caller's parameters.

        Raises
        ------
        PreflightFailed
            The executor does not offer `kind`, or a parameter is reserved, not in its template, or
            a word where the template has a number.
        """
        if kind not in self.templates:
            raise PreflightFailed(
                f"executor {self.name!r} offers {', '.join(self.templates) or 'nothing'}, not {kind}."
            )
        given = dict(parameters or {})
        unknown = sorted(set(given) - set(self.templates[kind]))
        if unknown:
            reserved = sorted(set(unknown) & RESERVED)
            words = (
                f"{', '.join(reserved)} are set by ymir-nb itself" if reserved else "its template does not list them"
            )
            raise PreflightFailed(
                f"executor {self.name!r}, {kind}: parameters {', '.join(unknown)} cannot be set ({words}). "
                f"It takes {', '.join(sorted(self.templates[kind]))}."
            )
        for name, value in given.items():
            default = self.templates[kind][name]
            if _is_number(default) != _is_number(value) and default is not None:
                raise PreflightFailed(
                    f"executor {self.name!r}, {kind}: {name} is {value!r}; it must be "
                    f"{'a number' if _is_number(default) else 'no number'}, such as its default {default!r}."
                )
        return {**self.templates[kind], **given}


class ExecutorBook:
    """The executors of a workspace: the embedded one, and those of ``executors.yaml``.

    Parameters
    ----------
    store : Store
        Of the workspace.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.root / "executors.yaml"

    def get(self, name: str) -> Executor:
        """Give an executor by name.

        Raises
        ------
        ExecutorNotFound
            Nobody registered it.
        """
        known = self._read()
        if name not in known:
            raise ExecutorNotFound(
                f"executor {name!r} is not registered; there is {', '.join(known)}. Register it: "
                f"ymir-nb executor add {name} 'COMMAND' --templates DIRECTORY"
            )
        return known[name]

    def add(self, name: str, command: str | Sequence[str], *, templates: str | Path) -> Executor:
        """Register an executor that is a local command.

        Parameters
        ----------
        name : str
            What to call it.
        command : str or sequence of str
            Program and arguments; a text is split as a shell would, and no shell runs it.
        templates : str or Path
            Folder of its ``training-template.yaml``, ``mining-template.yaml``, ``infer-template.yaml`` and
            ``manifest.yaml``: a copy of the image's ``/img-man``.

        Raises
        ------
        PreflightFailed
            No command, no template, or a template that is no mapping.
        """
        check_name(name, what="executor")
        if name == BUILTIN:
            raise PreflightFailed(f"{BUILTIN!r} is the embedded executor. Choose another name.")
        argv = tuple(shlex.split(command) if isinstance(command, str) else command)
        if not argv:
            raise PreflightFailed(f"executor {name!r} needs a command, such as 'python /opt/mine/start.py'.")
        executor = Executor(name, argv, *_read_manual(Path(templates)))
        with self._store.lock():
            rows = self._rows()
            rows[name] = {
                "command": list(executor.command),
                "object_type": executor.object_type,
                "templates": {kind: dict(template) for kind, template in executor.templates.items()},
            }
            write_atomically(self._path, yaml.safe_dump({"executors": rows}, sort_keys=False, allow_unicode=True))
            self._store.git.commit([self._path], f"Executor {name} registered")
        return executor

    def to_frame(self) -> pd.DataFrame:
        """List the executors: columns name, runner, offers, starts."""
        known = self._read().values()
        return pd.DataFrame(
            {
                "name": [e.name for e in known],
                "runner": [e.runner for e in known],
                "offers": [", ".join(e.templates) for e in known],
                "starts": [e.image or shlex.join(e.command) for e in known],
            }
        )

    def _read(self) -> dict[str, Executor]:
        known = {BUILTIN: builtin()}
        for name, row in self._rows().items():
            known[name] = Executor(
                name,
                tuple(row.get("command") or ()),
                row.get("templates") or {},
                int(row.get("object_type", 2)),
                image=row.get("image", ""),
                digest=row.get("digest", ""),
                isolation=Isolation.of(row.get("isolation") or {}),
            )
        return known

    def _rows(self) -> dict[str, Any]:
        try:
            data = yaml.safe_load(self._path.read_text(encoding="utf-8")) or {}
            rows: dict[str, Any] = data.get("executors") or {}
        except (OSError, yaml.YAMLError, AttributeError) as error:
            raise PreflightFailed(
                f"{self._path} cannot be read: {error}. Restore it: git checkout executors.yaml"
            ) from error
        return rows


def builtin() -> Executor:
    """Give the embedded executor: a small PyTorch detector in a local process."""
    manual = resources.files("ymir_nb.executor") / "img-man"
    with resources.as_file(manual) as directory:
        return Executor(BUILTIN, (PYTHON, "-m", "ymir_nb.executor"), *_read_manual(directory))


def _read_manual(directory: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """Read an executor's /img-man: its templates and the object type of its manifest."""
    templates = {kind: _mapping(directory / f"{kind}-template.yaml") for kind in KINDS}
    offered = {
        kind: {key: value for key, value in template.items() if key not in RESERVED}
        for kind, template in templates.items()
        if template is not None
    }
    if not offered:
        names = ", ".join(f"{kind}-template.yaml" for kind in KINDS)
        raise PreflightFailed(f"{directory} holds no template of an executor. It needs one or more of {names}.")
    object_type = (_mapping(directory / "manifest.yaml") or {}).get("object_type", 2)
    return offered, int(object_type[0] if isinstance(object_type, list) else object_type)


def gpu_count(config: Mapping[str, Any]) -> int:
    """Give how many GPUs a config asks for.

    Raises
    ------
    PreflightFailed
        It is no count.

    Examples
    --------
    >>> gpu_count({"gpu_count": 2})
    2
    """
    count = config.get("gpu_count") or 0
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise PreflightFailed(f"gpu_count is {count!r}; it must be a whole number from 0 (0: on the CPU).")
    return count


def _bytes_of(size: Any) -> int:
    """Read a size as Docker does: ``16G``, ``512m``, or bytes; nothing is 0."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", str(size or 0).strip().lower())
    if found is None:
        raise PreflightFailed(f"shm_size is {size!r}; it must be a size such as 16G or 512m.")
    return int(float(found[1]) * 1024 ** " kmgt".index(found[2] or " "))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mapping(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise PreflightFailed(f"{path} is no YAML: {error}. Mend it.") from error
    if not isinstance(data, dict):
        raise PreflightFailed(f"{path} must be a flat mapping of parameter to default, not {type(data).__name__}.")
    return data
