"""Models that are hidden: kept, and out of sight; ``hidden.yaml`` of the workspace says which.

The file is committed with the rest, so that a clone hides the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from ymir_nb.backend.errors import InvalidName, ProjectError, StoreError
from ymir_nb.backend.names import parse_ref
from ymir_nb.backend.objects import write_atomically
from ymir_nb.backend.projects import names, open_project
from ymir_nb.backend.workspace import Workspace

HIDDEN_FILE = "hidden.yaml"


def hidden_models(workspace: Workspace) -> frozenset[str]:
    """Give the versions that are hidden, such as ``helmets@v2``.

    Raises
    ------
    StoreError
        The file is no list of references.
    """
    path = workspace.root / HIDDEN_FILE
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return frozenset()
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())
        raise StoreError(f"{path} cannot be read: {words}. Restore it: git checkout {HIDDEN_FILE}") from error
    listed = document.get("models") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(ref, str) for ref in listed):
        raise StoreError(f"{path} has no list of models. Restore it: git checkout {HIDDEN_FILE}")
    return frozenset(listed)


def hide_model(workspace: Workspace, ref: str) -> list[str]:
    """Hide a version of a model, or all versions of a name.

    A hidden version stays out of lists and is not what the bare name means; it can be opened by its
    full reference, such as ``helmets@v2``.

    Parameters
    ----------
    workspace : Workspace
        Where it is registered.
    ref : str
        ``helmets@v2``, or ``helmets`` for all its present versions.

    Returns
    -------
    list of str
        The versions that were meant, oldest first.

    Raises
    ------
    VersionNotFound, InvalidName
        There is no such model, or the reference names a stage.
    ProjectError
        A project uses it.
    """
    with workspace.store.lock():
        refs = _versions_of(workspace, ref)
        users = models_in_use(workspace)
        protected = [f"{used} ({', '.join(users[used])})" for used in refs if used in users]
        if protected:
            raise ProjectError(f"a project uses {'; '.join(protected)}: it cannot be hidden. Delete the project first.")
        _write(workspace, hidden=refs, message=f"model {ref}: hidden")
    return refs


def restore_model(workspace: Workspace, ref: str) -> list[str]:
    """Bring hidden versions of a model back.

    Parameters
    ----------
    workspace, ref
        As `hide_model`.

    Returns
    -------
    list of str
        The versions that were meant, oldest first.

    Raises
    ------
    VersionNotFound, InvalidName
        As `hide_model`.
    """
    with workspace.store.lock():
        refs = _versions_of(workspace, ref)
        _write(workspace, restored=refs, message=f"model {ref}: restored")
    return refs


def models_in_use(workspace: Workspace) -> dict[str, list[str]]:
    """Tell which models the rounds of projects name: reference to project and round, sorted."""
    users: dict[str, set[tuple[str, int]]] = {}
    for name in names(workspace):
        for number, steps in enumerate(open_project(workspace, name).rounds):
            for record in steps.values():
                for part in ("settings", "result"):
                    ref = str((record.get(part) or {}).get("model") or "").partition(":")[0]
                    users.setdefault(ref, set()).add((name, number))
    users.pop("", None)
    return {ref: [f"{name}, round {number}" for name, number in sorted(users[ref])] for ref in sorted(users)}


def _versions_of(workspace: Workspace, ref: str) -> list[str]:
    """Give the versions that a reference means, oldest first."""
    if ":" in ref:
        raise InvalidName(f"{ref!r} names a stage. Hide or restore the whole version: {ref.partition(':')[0]}")
    version = workspace.version(f"models/{ref}")
    if "@" in ref:
        return [version.ref]
    name, _, _ = parse_ref(ref)
    return [version.ref for version in reversed(workspace.store.versions("models", name))]


def _write(workspace: Workspace, *, message: str, hidden: Iterable[str] = (), restored: Iterable[str] = ()) -> None:
    """Change the list and commit it; nothing is written where nothing changes."""
    before = hidden_models(workspace)
    after = (before | set(hidden)) - set(restored)
    if after != before:
        path = workspace.root / HIDDEN_FILE
        write_atomically(path, yaml.safe_dump({"models": sorted(after)}, allow_unicode=True))
        workspace.store.git.commit([path], message)
