"""Executors a workspace knows: what they are, what they may do, and the parameters they take."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from ymir_nb.backend import parameters as known_parameters
from ymir_nb.backend.errors import ExecutorNotFound, PreflightFailed
from ymir_nb.backend.manual_files import read_folder
from ymir_nb.backend.manuals import KINDS, OBJECT_TYPES, RESERVED, Manual, read_manual
from ymir_nb.backend.names import check_name
from ymir_nb.backend.objects import write_atomically
from ymir_nb.backend.parameters import bytes_of, gpu_count
from ymir_nb.backend.pinned_images import is_image_name, look_into
from ymir_nb.backend.runners.base import Isolation, Launch
from ymir_nb.backend.runners.engine import ImageMissing
from ymir_nb.backend.store import Store

if TYPE_CHECKING:
    from ymir_nb.backend.workspace import Workspace

__all__ = ["BUILTIN", "KINDS", "RESERVED", "Executor", "ExecutorBook", "builtin", "gpu_count"]

PYTHON = "{python}"
BUILTIN = "tiny"
CODE_DIR = "/app"
"""Where YMIR's images put live code."""


@dataclass(frozen=True)
class Executor:
    """One executor: a program that reads ``/in`` and writes ``/out``.

    Parameters
    ----------
    name : str
        What the workspace calls it.
    command : tuple of str
        Program and arguments; ``{python}`` stands for the Python that runs ymir-nb. For an image: empty for
        what the image itself starts.
    manual : Manual
        What it says of itself.
    image : str
        Name of an image, for one that runs in a container.
    digest : str
        The image's id, to which it is pinned.
    repo_digest : str
        The image's name in the registry that it came from, by content; empty for one built here.
    isolation : Isolation
        What it may do.
    """

    name: str
    command: tuple[str, ...] = ()
    manual: Manual = field(default_factory=lambda: Manual({}))
    image: str = ""
    digest: str = ""
    repo_digest: str = ""
    isolation: Isolation = field(default_factory=Isolation)

    @property
    def runner(self) -> str:
        """How it is run: a key of `runners.RUNNERS`."""
        return "docker" if self.image else "process"

    @property
    def templates(self) -> Mapping[str, Mapping[str, Any]]:
        """Its own parameters with their defaults, for each of ``training``, ``mining`` and ``infer`` that it offers."""
        return self.manual.templates

    @property
    def object_type(self) -> int:
        """What it finds: 2 boxes, 3 the class of every pixel, 4 outlines."""
        return self.manual.object_type

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
            shm_bytes=bytes_of(config.get("shm_size"), what="shm_size"),
            scratch=(CODE_DIR,) if self.image and config.get("git_url") else (),
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
            of another type than its default.
        """
        self._check_offer(kind)
        given = dict(parameters or {})
        known_parameters.check(
            given, known_parameters.accepted(self.manual, kind), whose=f"executor {self.name!r}, {kind}"
        )
        several = {"object_type": self.object_type} if len(self.manual.object_types) > 1 else {}
        return {**several, **self.templates[kind], **given}

    def parameters(self, kind: str) -> pd.DataFrame:
        """List what can be set for one function.

        Parameters
        ----------
        kind : {'training', 'mining', 'infer'}
            The function.

        Returns
        -------
        DataFrame
            Columns name, type (number, true/false, text, list, mapping, any), default and help; first those
            of its template, in its order, then those that every executor takes.

        Raises
        ------
        PreflightFailed
            The executor does not offer `kind`.

        Examples
        --------
        >>> builtin().parameters("training").iloc[1].tolist()
        ['max_steps', 'number', 400, 'training budget, in batches']
        """
        self._check_offer(kind)
        return known_parameters.to_frame(known_parameters.accepted(self.manual, kind))

    def changes(self, former: Executor) -> list[str]:
        """Say how it differs from what was registered under its name before, a line for each."""
        before, after = former._facts(), self._facts()
        lines = [
            f"{name}: {before.get(name, 'none')} -> {after.get(name, 'none')}"
            for name in dict.fromkeys([*before, *after])
            if before.get(name) != after.get(name)
        ]
        for kind in KINDS:
            old, new = former.templates.get(kind, {}), self.templates.get(kind, {})
            for name in dict.fromkeys([*old, *new]) if kind in former.templates and kind in self.templates else ():
                if old.get(name) != new.get(name) or (name in old) != (name in new):
                    shown = [repr(values[name]) if name in values else "none" for values in (old, new)]
                    lines.append(f"{kind}, {name}: {shown[0]} -> {shown[1]}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Give what there is to show, as plain values."""
        facts: dict[str, Any] = {"name": self.name, "runner": self.runner, "command": list(self.command)}
        if self.image:
            facts |= {"image": self.image, "digest": self.digest, "repo_digest": self.repo_digest}
        manual = self.manual
        facts |= {"object_type": self.object_type, "object_types": list(manual.object_types)}
        facts |= {"livecode": manual.livecode, "code": dict(manual.code), "readme": manual.readme}
        facts |= {"isolation": asdict(self.isolation), "loosened": self.isolation.settings()}
        return facts | {"templates": {kind: dict(template) for kind, template in self.templates.items()}}

    def _facts(self) -> dict[str, str]:
        """Name what a person looks at when an executor was replaced."""
        facts = {"image": self.image, "digest": self.digest[:19], "command": shlex.join(self.command)}
        facts |= {"offers": ", ".join(self.templates), "isolation": _shown(self.isolation)}
        facts["object type"] = ", ".join(OBJECT_TYPES.get(number, str(number)) for number in self.manual.object_types)
        return {name: value for name, value in facts.items() if value}

    def _check_offer(self, kind: str) -> None:
        if kind not in self.templates:
            raise PreflightFailed(
                f"executor {self.name!r} offers {', '.join(self.templates) or 'nothing'}, not {kind}."
            )


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

    @classmethod
    def of(cls, workspace: Workspace) -> ExecutorBook:
        """Give the executors of a workspace."""
        return cls(workspace.store)

    def get(self, name: str) -> Executor:
        """Give an executor by name.

        Raises
        ------
        ExecutorNotFound
            Nobody registered it.
        """
        known = self.read()
        if name not in known:
            raise ExecutorNotFound(
                f"executor {name!r} is not registered; there is {', '.join(known)}. Register it: "
                f"ymir-nb executor add {name} IMAGE, or 'COMMAND' --templates DIRECTORY"
            )
        return known[name]

    def add(
        self,
        name: str,
        image_or_command: str | Sequence[str],
        *,
        templates: str | Path | None = None,
        isolation: Mapping[str, Any] | None = None,
        object_type: int | None = None,
    ) -> Executor:
        """Register an executor: an image, or with its templates a local command.

        An image is pinned to what it is now; its templates are read out of it, and nothing of it is run.
        Added again under the same name it is looked into again: `Executor.changes` says what differs.

        Parameters
        ----------
        name : str
            What to call it.
        image_or_command : str or sequence of str
            Name of an image that the engine has; or program and arguments, where a text is split as a shell
            would, and no shell runs it.
        templates : str or Path, optional
            For a command: folder of its ``training-template.yaml``, ``mining-template.yaml``,
            ``infer-template.yaml`` and ``manifest.yaml``, as an image has them in ``/img-man``.
        isolation : mapping, optional
            Named settings that differ from the default, as in `Isolation`; by default those that the name
            had before.
        object_type : int, optional
            Which to use of an executor that offers several; by default the first.

        Raises
        ------
        PreflightFailed
            No engine, no such image or program, an image that cannot run here or is no executor, a template
            that is no mapping, an isolation setting that there is not.
        """
        check_name(name, what="executor")
        if name == BUILTIN:
            raise PreflightFailed(f"{BUILTIN!r} is the embedded executor. Choose another name.")
        if templates is None:
            row = _image_row(image_or_command, object_type)
        else:
            row = _command_row(name, image_or_command, Path(templates), object_type)
        with self._store.lock():
            rows = self._rows()
            kept = rows.get(name, {}).get("isolation") or {} if isolation is None else isolation
            loosened = Isolation.of(kept).settings()
            rows[name] = row | ({"isolation": loosened} if loosened else {})
            text = yaml.dump({"executors": rows}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
            write_atomically(self._path, text)
            self._store.git.commit([self._path], f"Executor {name} registered")
        return self.get(name)

    def to_frame(self) -> pd.DataFrame:
        """List the executors: columns name, runner, offers, finds, starts, digest, isolation."""
        known = self.read().values()
        return pd.DataFrame(
            {
                "name": [e.name for e in known],
                "runner": [e.runner for e in known],
                "offers": [", ".join(e.templates) for e in known],
                "finds": [OBJECT_TYPES.get(e.object_type, "") for e in known],
                "starts": [e.image or shlex.join(e.command) for e in known],
                "digest": [e.digest[:19] for e in known],
                "isolation": [_shown(e.isolation) for e in known],
            }
        )

    def read(self) -> dict[str, Executor]:
        """Give all executors by name, the embedded one first.

        Raises
        ------
        PreflightFailed
            ``executors.yaml`` cannot be understood.
        """
        return {BUILTIN: builtin()} | {name: self._executor(name, row) for name, row in self._rows().items()}

    def _executor(self, name: str, row: Mapping[str, Any]) -> Executor:
        """Understand a record."""
        where = f"{self._path}, executor {name!r}"
        try:
            return Executor(
                name,
                tuple(row.get("command") or ()),
                Manual.from_row(row, where=where),
                image=row.get("image", ""),
                digest=row.get("digest", ""),
                repo_digest=row.get("repo_digest", ""),
                isolation=Isolation.of(row.get("isolation") or {}),
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise PreflightFailed(
                f"{where} cannot be understood: {error}. Restore it: git checkout executors.yaml"
            ) from error

    def _rows(self) -> dict[str, Any]:
        try:
            data = yaml.safe_load(self._path.read_text(encoding="utf-8")) or {}
            rows: dict[str, Any] = dict(data.get("executors") or {})
        except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
            raise PreflightFailed(
                f"{self._path} cannot be read: {error}. Restore it: git checkout executors.yaml"
            ) from error
        return rows


@cache
def builtin() -> Executor:
    """Give the embedded executor: a small PyTorch detector in a local process."""
    manual = resources.files("ymir_nb.executor") / "img-man"
    with resources.as_file(manual) as directory:
        read = read_manual(read_folder(directory), where=str(directory))
    return Executor(BUILTIN, (PYTHON, "-m", "ymir_nb.executor"), read)


def _image_row(image: str | Sequence[str], object_type: int | None) -> dict[str, Any]:
    """Look into an image and give its record."""
    if not isinstance(image, str) or not is_image_name(image):
        raise PreflightFailed(
            f"{image!r} is no name of an image. If it is a local command, name the folder of its templates too: "
            "--templates DIRECTORY (templates=...)."
        )
    try:
        pinned = look_into(image)
    except ImageMissing as error:
        hint = f" If {image!r} is a local command, name the folder of its templates too: --templates DIRECTORY."
        raise ImageMissing(f"{error}{hint}") from error
    manual = read_manual(pinned.files, where=f"image {image!r}, /img-man", object_type=object_type)
    pin = {"image": image, "digest": pinned.digest}
    return pin | ({"repo_digest": pinned.repo_digest} if pinned.repo_digest else {}) | manual.to_row()


def _command_row(name: str, command: str | Sequence[str], templates: Path, object_type: int | None) -> dict[str, Any]:
    """Look at a command and its templates and give its record."""
    argv = shlex.split(command) if isinstance(command, str) else [str(part) for part in command]
    if not argv:
        raise PreflightFailed(f"executor {name!r} needs a command, such as 'python /opt/mine/start.py'.")
    if argv[0] != PYTHON and shutil.which(argv[0]) is None:
        raise PreflightFailed(
            f"there is no program {argv[0]!r} here. If it is an image, leave the templates out: they are in the image."
        )
    manual = read_manual(read_folder(templates), where=str(templates), object_type=object_type)
    return {"command": argv} | manual.to_row()


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as lines."""


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _write_text)


def _shown(isolation: Isolation) -> str:
    """Say what differs from the default."""
    return ", ".join(name if value is True else f"{name}={value}" for name, value in isolation.settings().items())
