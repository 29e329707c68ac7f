"""Labels with their aliases: YMIR's ``labels.yaml`` 2.0.0 as an immutable value.

Ids are positions: a label is only ever appended, never removed, so an id never changes hands.
Names and aliases are stripped, and compared without case, without regard to how many spaces stand
inside and to how Unicode spells an accent; none stands twice in the file.
"""

from __future__ import annotations

import difflib
import reprlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pandas as pd
import yaml

from ymir_nb.backend.errors import LabelConflict, LabelNotFound

YMIR_VERSION = "2.0.0"

_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 2  # anchors within anchors make a small file print as gigabytes
# libyaml, where PyYAML was built with it, reads ten thousand labels in 0.5 s instead of 5 s.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Label:
    """One label.

    Parameters
    ----------
    id : int
        Its position in labels.yaml, from 0.
    name : str
        Main name.
    aliases : tuple of str
        Further names that mean the same.
    created, updated : str
        ISO 8601 times, UTC.
    """

    id: int
    name: str
    aliases: tuple[str, ...] = ()
    created: str = ""
    updated: str = ""


@dataclass(frozen=True)
class Labels:
    """All labels of a workspace, in the order of their ids.

    Examples
    --------
    >>> labels = Labels().add("dog").alias("pup", of="dog")
    >>> labels.main_name(" PUP ")
    'dog'
    """

    items: tuple[Label, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Main names in the order of their ids."""
        return tuple(label.name for label in self.items)

    def __len__(self) -> int:
        """Count the labels."""
        return len(self.items)

    def __contains__(self, name: str) -> bool:
        """Tell whether a main name or alias is known."""
        return _key(name) in self._owners

    def find(self, name: str) -> Label:
        """Give the label that a main name or alias belongs to.

        Raises
        ------
        LabelNotFound
            No label has this name; the message suggests near ones.
        """
        owners = self._owners
        found = owners.get(_key(name))
        if found is not None:
            return self.items[found]
        near = difflib.get_close_matches(_key(name), owners, n=1)
        hint = f" Did you mean {self.items[owners[near[0]]].name!r}?" if near else ""
        example = self.names[0] if self.items else "dog"
        raise LabelNotFound(
            f"label {name!r} is not in labels.yaml ({len(self)} labels).{hint} Add it: "
            f"labels.add({name!r}), or as an alias: labels.alias({name!r}, of={example!r})"
        )

    def main_name(self, name: str) -> str:
        """Fold a main name or alias to the main name."""
        return self.find(name).name

    def add(self, name: str, *, aliases: Iterable[str] = ()) -> Labels:
        """Append a label.

        Raises
        ------
        LabelConflict
            The name or an alias already belongs to a label.
        """
        clean = _clean(name)
        now = _now()
        label = Label(len(self.items), clean, tuple(_clean(alias) for alias in aliases), now, now)
        self._refuse_known((label.name, *label.aliases))
        return self._grown(label)

    def alias(self, *names: str, of: str) -> Labels:
        """Give a label further names.

        Parameters
        ----------
        *names : str
            The aliases to add.
        of : str
            Main name or alias of the label.

        Raises
        ------
        LabelNotFound
            `of` is not known.
        LabelConflict
            An alias already belongs to a label; nothing is added then.
        """
        label = self.find(of)
        fresh = tuple(_clean(name) for name in names)
        self._refuse_known(fresh)
        return self._with(replace(label, aliases=(*label.aliases, *fresh), updated=_now()))

    def rename(self, name: str, *, to: str) -> Labels:
        """Change a main name; the old one stays as an alias, so that what was saved still folds to it.

        Raises
        ------
        LabelNotFound
            `name` is not known.
        LabelConflict
            `to` belongs to another label.
        """
        label = self.find(name)
        clean = _clean(to)
        owner = self._owners.get(_key(clean))
        if owner is not None and owner != label.id:
            raise LabelConflict(self._taken(clean))
        kept = tuple(a for a in (*label.aliases, label.name) if _key(a) != _key(clean))
        return self._with(replace(label, name=clean, aliases=kept, updated=_now()))

    def to_frame(self) -> pd.DataFrame:
        """List the labels: columns id, name, aliases."""
        return pd.DataFrame(
            {
                "id": [label.id for label in self.items],
                "name": [label.name for label in self.items],
                "aliases": [", ".join(label.aliases) for label in self.items],
            }
        )

    def to_yaml(self) -> str:
        """Write the text of labels.yaml."""
        rows = [
            {
                "id": label.id,
                "name": label.name,
                "aliases": list(label.aliases),
                "create_time": label.created,
                "update_time": label.updated,
            }
            for label in self.items
        ]
        text: str = yaml.safe_dump({"labels": rows, "ymir_version": YMIR_VERSION}, sort_keys=False, allow_unicode=True)
        return text

    @classmethod
    def from_yaml(cls, text: str) -> Labels:
        """Read the text of labels.yaml.

        Raises
        ------
        LabelConflict
            The file is not of the 2.0.0 form, ids are not positions, or a name stands twice.

        Source: YMIR 2.0.0, `labels.yaml`.
        """
        try:
            data = yaml.load(text, Loader=_LOADER) or {"labels": []}  # noqa: S506 - the safe loader, by either name
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise LabelConflict(f"labels.yaml is no YAML: {error}. Restore it: git checkout labels.yaml") from error
        rows = data.get("labels") if isinstance(data, dict) else None
        if not isinstance(rows, list):
            raise LabelConflict("labels.yaml has no list `labels`. Restore it: git checkout labels.yaml")
        items: list[Label] = []
        known: set[str] = set()
        for position, row in enumerate(rows):
            label = _label_of(row, position)
            names = (label.name, *label.aliases)
            keys = {_key(name) for name in names}
            if len(keys) < len(names) or keys & known:
                earlier = cls(tuple(items))
                earlier._refuse_known(names)
            known |= keys
            items.append(label)
        return cls(tuple(items))

    @cached_property
    def _owners(self) -> dict[str, int]:
        """Every comparable name with the id it belongs to."""
        return {_key(name): label.id for label in self.items for name in (label.name, *label.aliases)}

    def _grown(self, label: Label) -> Labels:
        """Append a label whose names are known to be free, and spare the next one the whole list."""
        grown = Labels((*self.items, label))
        grown.__dict__["_owners"] = self._owners | {_key(name): label.id for name in (label.name, *label.aliases)}
        return grown

    def _with(self, label: Label) -> Labels:
        return Labels(tuple(label if item.id == label.id else item for item in self.items))

    def _refuse_known(self, names: tuple[str, ...]) -> None:
        owners = self._owners
        seen: set[str] = set()
        for name in names:
            if _key(name) in owners:
                raise LabelConflict(self._taken(name))
            if _key(name) in seen:
                raise LabelConflict(f"name {name!r} is given twice. Names and aliases are compared without case.")
            seen.add(_key(name))

    def _taken(self, name: str) -> str:
        owner = self.find(name)
        role = "the main name of" if _key(owner.name) == _key(name) else "an alias of"
        return f"name {name!r} is already {role} label {owner.name!r} (id {owner.id}). Choose another name."


def _label_of(row: Any, position: int) -> Label:
    """Read one entry of labels.yaml, which a person may have edited."""
    entry = row if isinstance(row, dict) else {}
    name, aliases = entry.get("name"), entry.get("aliases") or []
    if type(entry.get("id")) is not int or entry["id"] != position or not isinstance(name, str):
        raise LabelConflict(
            f"labels.yaml: entry {position} must have id {position} and a name that is text (quote it where YAML reads "
            f'something else, as in "no" or "7"); it reads {_BRIEF.repr(row)}. Ids are positions, append-only. '
            "Restore it: git checkout labels.yaml"
        )
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise LabelConflict(
            f"labels.yaml: the aliases of {name!r} must be a list of texts, they read {_BRIEF.repr(aliases)}. "
            'Write them as: aliases: ["pup", "7"]'
        )
    created, updated = (_time_of(entry.get(key)) for key in ("create_time", "update_time"))
    return Label(position, _clean(name), tuple(_clean(alias) for alias in aliases), created, updated)


def _time_of(value: Any) -> str:
    """Give a time as text; YAML reads one that is not quoted as a datetime."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return value if isinstance(value, str) else ""


def _clean(name: str) -> str:
    """Strip a name; an empty one, or one with control characters, is none."""
    clean = name.strip()
    if not clean or any(not character.isprintable() for character in clean):
        raise LabelConflict(f"{name!r} is no label name: it is empty or holds control characters.")
    return clean


def _key(name: str) -> str:
    """Comparable form of a name."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).split())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
