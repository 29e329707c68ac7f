"""Versions in git and DVC: what a name held, when, and how it came to be.

A version is one git commit of one ``NAME.dvc`` file. That file points at a directory listing in
DVC's cache and carries, in its free field ``meta``, the version's number and lineage. Nothing here
needs a checkout, and nothing copies or hashes an image again.
"""

from __future__ import annotations

import configparser
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from ymir_nb.backend.errors import ObjectMissing, StoreError, VersionNotFound
from ymir_nb.backend.git import Git
from ymir_nb.backend.names import parse_ref
from ymir_nb.backend.objects import Objects, write_atomically

SHELVES = ("datasets", "predictions", "models")
LOCK_SECONDS = 120.0
DVC_ENVIRONMENT = {"DVC_NO_ANALYTICS": "1"}


@dataclass(frozen=True)
class Version:
    """One version of a dataset, prediction or model.

    Parameters
    ----------
    shelf : str
        ``datasets``, ``predictions`` or ``models``.
    name : str
        What it is a version of.
    number : int
        From 1, per name and branch.
    hash : str
        DVC's name of the directory listing, ``<md5>.dir``: equal content has an equal hash.
    n_bytes : int
        Size of all its files.
    n_files : int
        How many they are.
    meta : dict
        ``operation``, ``parameters``, ``parents`` (ref to hash) and what the kind adds: counts, labels, metrics.
    commit : str
        Git commit that brought it in.
    """

    shelf: str
    name: str
    number: int
    hash: str
    n_bytes: int
    n_files: int
    meta: dict[str, Any] = field(default_factory=dict)
    commit: str = ""

    @property
    def ref(self) -> str:
        """Its unambiguous short name, such as ``train@v3``."""
        return f"{self.name}@v{self.number}"

    @property
    def path_ref(self) -> str:
        """Its name among all kinds: ``train@v3`` for a dataset, ``models/helmets@v2`` for the others."""
        return self.ref if self.shelf == "datasets" else f"{self.shelf}/{self.ref}"

    @property
    def path(self) -> str:
        """Its pointer file, relative to the workspace."""
        return f"{self.shelf}/{self.name}.dvc"

    def to_yaml(self) -> str:
        """Write the text of the ``.dvc`` file."""
        out = {"md5": self.hash, "size": self.n_bytes, "nfiles": self.n_files, "hash": "md5", "path": self.name}
        meta = {"ymir": {"version": self.number, **self.meta}}
        text: str = yaml.safe_dump({"outs": [out], "meta": meta}, sort_keys=False, allow_unicode=True)
        return text

    @classmethod
    def from_yaml(cls, text: bytes, *, shelf: str, name: str, commit: str) -> Version:
        """Read the text of a ``.dvc`` file.

        Raises
        ------
        StoreError
            It is not a pointer that a workspace wrote.
        """
        try:
            data = yaml.safe_load(text)
            out, meta = data["outs"][0], dict(data["meta"]["ymir"])
            return cls(
                shelf,
                name,
                int(meta.pop("version")),
                str(out["md5"]),
                int(out["size"]),
                int(out["nfiles"]),
                meta,
                commit,
            )
        except (yaml.YAMLError, KeyError, IndexError, TypeError, ValueError) as error:
            raise StoreError(
                f"{shelf}/{name}.dvc at {commit[:8] or 'HEAD'} is not a version of a workspace ({error!r}). "
                f"See its history: git log -- {shelf}/{name}.dvc"
            ) from error


class Store:
    """The versions of a workspace.

    Parameters
    ----------
    root : Path
        Top folder of the workspace.
    checkout_limit : int
        A version with more images than this stays a pointer until ``dvc checkout``.
    """

    def __init__(self, root: Path, *, checkout_limit: int = 20_000) -> None:
        self.root = root
        self.git = Git(root)
        self.objects = Objects(_cache_dir(root) / "files" / "md5")
        self.checkout_limit = checkout_limit

    @classmethod
    def init(cls, root: Path) -> Store:
        """Make the git and DVC repository that a workspace is; no network, no telemetry."""
        root.mkdir(parents=True, exist_ok=True)
        git = Git(root)
        git.init()
        if not (root / ".dvc").exists():
            run_dvc(root, "init", "-q")
            for key, value in {
                "core.analytics": "false",
                "core.check_update": "false",
                "cache.type": "hardlink,copy",
            }.items():
                run_dvc(root, "config", key, value)
        for shelf in SHELVES:
            write_atomically(root / shelf / ".gitignore", "/*\n!*.dvc\n!.gitignore\n")
        return cls(root)

    def lock(self, name: str = "store") -> FileLock:
        """Give a lock between processes; the system frees it when its holder dies."""
        folder = self.root / ".ymir" / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock", timeout=LOCK_SECONDS)

    def save(
        self, shelf: str, name: str, files: Mapping[str, str], *, meta: Mapping[str, Any], message: str
    ) -> Version:
        """Make the next version of a name: one listing, one pointer, one git commit.

        Saving what the newest version holds already, made the same way, gives that version: a step
        that was interrupted after its commit can simply run again.

        Parameters
        ----------
        shelf : str
            One of `SHELVES`.
        name : str
            Name of the dataset, prediction or model.
        files : mapping of str to str
            Relative POSIX path to the md5 of an object in the cache.
        meta : mapping
            At least ``operation``, ``parameters`` and ``parents``.
        message : str
            Commit message.

        Raises
        ------
        StoreError
            Another process holds the store, git refused, or the checked-out folder was changed by hand.
        """
        try:
            with self.lock():
                return self._save(shelf, name, files, dict(meta), message)
        except Timeout as error:
            raise StoreError(
                f"another process has held {self.root} for over {LOCK_SECONDS:.0f} s. Wait for it, or end it."
            ) from error

    def _save(self, shelf: str, name: str, files: Mapping[str, str], meta: dict[str, Any], message: str) -> Version:
        newest = next(iter(self.versions(shelf, name)), None)
        self._refuse_edited(shelf, name, newest)
        listing = self.objects.put_listing(files)
        version = Version(
            shelf,
            name,
            number=newest.number + 1 if newest else 1,
            hash=listing,
            n_bytes=sum(self.objects.path(md5).stat().st_size for md5 in files.values()),
            n_files=len(files),
            meta=yaml.safe_load(yaml.safe_dump(meta)),
        )
        if newest and (newest.hash, newest.meta) == (version.hash, version.meta):
            version = newest
        write_atomically(self.root / version.path, version.to_yaml())
        commit = self.git.commit([self.root / version.path], message)
        self.checkout(version, files)
        return version if version is newest else replace(version, commit=commit)

    def versions(self, shelf: str, name: str) -> list[Version]:
        """List the versions of a name on this branch, newest first; empty where there is none."""
        found: dict[int, Version] = {}
        for commit, text in reversed(self.git.history(f"{shelf}/{name}.dvc")):
            version = Version.from_yaml(text, shelf=shelf, name=name, commit=commit)
            found[version.number] = version
        return [found[number] for number in sorted(found, reverse=True)]

    def made_by(self, job: str, shelf: str, name: str) -> Version | None:
        """Find the version on this branch that a job's result was saved as."""
        return next((version for version in self.versions(shelf, name) if version.meta.get("job") == job), None)

    def names(self, shelf: str) -> list[str]:
        """List the names on a shelf, sorted."""
        return [name.removesuffix(".dvc") for name in self.git.tracked(shelf, ".dvc")]

    def find(self, shelf: str, ref: str) -> Version:
        """Give the version that ``name``, ``name@v3`` or ``name@REVISION`` means.

        Raises
        ------
        VersionNotFound
            There is none; the message lists what there is.
        """
        name, number, revision = parse_ref(ref)
        if revision is not None:
            try:
                text = self.git.show(revision, f"{shelf}/{name}.dvc")
            except StoreError as error:
                raise VersionNotFound(
                    f"{ref!r}: {revision!r} is no version and no git revision of {self.root}. See: git log, git branch"
                ) from error
            if text is None:
                raise VersionNotFound(
                    f"{ref!r}: revision {revision!r} has no {shelf}/{name}.dvc. See: git log -- {shelf}"
                )
            return Version.from_yaml(text, shelf=shelf, name=name, commit=self.git.resolve(revision))
        versions = self.versions(shelf, name)
        if not versions:
            known = ", ".join(self.names(shelf)) or "none yet"
            raise VersionNotFound(f"there is no {name!r} in {self.root / shelf}; there is: {known}.")
        for version in versions:
            if number in (None, version.number):
                return version
        raise VersionNotFound(f"{name!r} has versions v1 to v{versions[0].number} on this branch, not v{number}.")

    def files(self, version: Version) -> dict[str, str]:
        """List a version's files: relative POSIX path to md5.

        Raises
        ------
        ObjectMissing
            The listing is not in the cache; the message says how to get it.
        """
        return self.objects.read_listing(version.hash)

    def read(self, version: Version, file: str) -> bytes:
        """Read one file of a version, from the cache, checked.

        Raises
        ------
        ObjectMissing, ObjectDamaged
            The object is not there, or not what it was.
        """
        files = self.files(version)
        if file not in files:
            raise ObjectMissing(f"{version.ref} has no file {file!r}; it has {', '.join(sorted(files)[:5])} ...")
        return self.objects.read(files[file])

    def checkout(self, version: Version, files: Mapping[str, str] | None = None) -> Path | None:
        """Fill a version's folder with links into the cache, or clear it where it is too large.

        Returns
        -------
        Path or None
            The folder, or None where the version stays a pointer.
        """
        listing = self.files(version) if files is None else files
        folder = self.root / version.shelf / version.name
        if len(listing) > self.checkout_limit:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.rglob("*"), reverse=True):
            relative = path.relative_to(folder).as_posix()
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif relative not in listing or not self.objects.is_same(listing[relative], path):
                path.unlink()
        for relative, md5 in listing.items():
            if not (folder / relative).exists():
                self.objects.link(md5, folder / relative)
        return folder

    def keep_remotes(self) -> None:
        """Copy the remotes of .dvc/config to .dvc/config.local, where git revisions cannot hide them.

        DVC reads .dvc/config as each revision had it: a version older than its remote would
        otherwise be left out of a push or fetch of all versions, silently.
        """
        shared, local = (configparser.ConfigParser(interpolation=None) for _ in range(2))
        path = self.root / ".dvc" / "config.local"
        shared.read(self.root / ".dvc" / "config")
        local.read(path)
        wanted = {name: dict(shared[name]) for name in shared.sections() if "remote" in name}
        if shared.has_option("core", "remote"):
            wanted["core"] = {"remote": shared["core"]["remote"]}
        for name, values in wanted.items():
            local[name] = values | (dict(local[name]) if local.has_section(name) else {})
        text = io.StringIO()
        local.write(text)
        write_atomically(path, text.getvalue(), mode=0o600)

    def _refuse_edited(self, shelf: str, name: str, newest: Version | None) -> None:
        """Refuse to write over a checked-out file whose bytes are nowhere else."""
        folder = self.root / shelf / name
        if newest is None or not folder.exists() or not self.objects.has(newest.hash):
            return
        listing = self.files(newest)
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.is_symlink():
                continue
            expected = listing.get(path.relative_to(folder).as_posix(), "")
            if not self.objects.is_same(expected, path) and not self.objects.holds(path):
                raise StoreError(
                    f"{path.relative_to(self.root)} was changed by hand since {newest.ref}. Keep it by importing "
                    f"the folder under another name, or undo it: dvc checkout --force {newest.path}"
                )


class StoreMedia:
    """Images of a workspace by their content hash: the `Media` of a saved dataset.

    Parameters
    ----------
    store : Store
        Whose cache holds them.
    """

    def __init__(self, store: Store) -> None:
        self._objects = store.objects
        self._thumbnails = store.root / ".ymir" / "thumbnails"

    def path(self, image: str) -> Path:
        """Give the cached file of an image.

        Raises
        ------
        ObjectMissing
            It is not in the cache.
        """
        path = self._objects.path(image)
        if not path.exists():
            raise ObjectMissing(f"image {image} is not in the cache ({path}). Get it from the remote: dvc fetch")
        return path

    def read(self, image: str) -> bytes:
        """Read an image and hold its bytes against its hash."""
        return self._objects.read(image)

    def files(self, images: Sequence[str]) -> list[str]:
        """Give the cached files of many images, each held against its hash.

        Raises
        ------
        ObjectMissing, ObjectDamaged
            One is not in the cache, or was changed there.
        """
        return self._objects.verify(images)

    def thumbnail(self, image: str, *, side_px: int) -> bytes:
        """Give an upright JPEG, made once and kept on disk."""
        from ymir_nb.backend.images import thumbnail

        kept = self._thumbnails / str(side_px) / image[:2] / f"{image[2:]}.jpg"
        if not kept.exists():
            write_atomically(kept, thumbnail(self.read(image), side_px=side_px))
        return kept.read_bytes()


def run_dvc(root: Path, *arguments: str) -> str:
    """Run the dvc program of this very Python and give its output.

    Raises
    ------
    StoreError
        It ended with an error; its own words are in the message.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | DVC_ENVIRONMENT,
    )
    if done.returncode:
        raise StoreError(f"dvc {arguments[0]} failed in {root}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _cache_dir(root: Path) -> Path:
    """Find DVC's cache: where .dvc/config or .dvc/config.local puts it, else .dvc/cache."""
    config = configparser.ConfigParser(interpolation=None)
    config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"])
    return (root / ".dvc" / config.get("cache", "dir", fallback="cache")).resolve()
