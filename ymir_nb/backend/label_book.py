"""The labels of a workspace: ``labels.yaml`` read fresh, changed under a lock, committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from ymir_nb.backend.errors import StoreError
from ymir_nb.backend.labels import Labels
from ymir_nb.backend.objects import write_atomically
from ymir_nb.backend.store import Store


class LabelBook:
    """The labels file of a workspace.

    Every call reads the file as it is now, so that two kernels never overwrite each other's labels.

    Parameters
    ----------
    store : Store
        Of the workspace.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def path(self) -> Path:
        """The file ``labels.yaml``."""
        return self._store.root / "labels.yaml"

    def read(self) -> Labels:
        """Read all labels.

        Raises
        ------
        StoreError
            The file is gone.
        LabelConflict
            It is not of YMIR's 2.0.0 form.
        """
        try:
            return Labels.from_yaml(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise StoreError(f"{self.path} is gone. Restore it: git checkout labels.yaml") from error

    @property
    def names(self) -> tuple[str, ...]:
        """Main names in the order of their ids."""
        return self.read().names

    def __len__(self) -> int:
        """Count the labels."""
        return len(self.read())

    def __contains__(self, name: str) -> bool:
        """Tell whether a main name or alias is known."""
        return name in self.read()

    def main_name(self, name: str) -> str:
        """Fold a main name or alias to the main name."""
        return self.read().main_name(name)

    def to_frame(self) -> pd.DataFrame:
        """List the labels: columns id, name, aliases."""
        return self.read().to_frame()

    def add(self, name: str, *, aliases: Iterable[str] = ()) -> Labels:
        """Append a label; see `labels.Labels.add`."""
        return self.update(lambda labels: labels.add(name, aliases=aliases), f"Label {name.strip()} added")

    def alias(self, *names: str, of: str) -> Labels:
        """Give a label further names; see `labels.Labels.alias`."""
        return self.update(
            lambda labels: labels.alias(*names, of=of), f"Label {of.strip()}: aliases {', '.join(names)}"
        )

    def rename(self, name: str, *, to: str) -> Labels:
        """Change a main name; see `labels.Labels.rename`."""
        return self.update(lambda labels: labels.rename(name, to=to), f"Label {name.strip()} renamed to {to.strip()}")

    def extend(self, names: Iterable[str]) -> Labels:
        """Append those of the names that are not known yet, in the order given."""
        wanted = list(names)

        def added(labels: Labels) -> Labels:
            for name in wanted:
                labels = labels if name in labels else labels.add(name)
            return labels

        return self.update(added, f"Labels added: {', '.join(wanted)}")

    def update(self, change: Callable[[Labels], Labels], message: str) -> Labels:
        """Apply a change to the newest labels under a lock, write them atomically and commit.

        Parameters
        ----------
        change : callable
            From the labels as they are to the labels as they shall be.
        message : str
            Commit message.
        """
        with self._store.lock():
            before = self.read()
            after = change(before)
            if after != before:
                write_atomically(self.path, after.to_yaml())
                self._store.git.commit([self.path], message)
        return after

    def __repr__(self) -> str:
        """Say in one line what it holds."""
        return f"<Labels: {', '.join(self.names) or 'none yet'}>"
