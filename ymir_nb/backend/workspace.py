"""A workspace: a git and DVC repository that holds labels, datasets, predictions, models and projects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import StoreError, VersionNotFound, WorkspaceNotFound
from ymir_nb.backend.label_book import LabelBook
from ymir_nb.backend.labels import Labels
from ymir_nb.backend.names import check_name
from ymir_nb.backend.objects import write_atomically
from ymir_nb.backend.store import SHELVES, Store, StoreMedia, Version, run_dvc
from ymir_nb.backend.tables import ANNOTATIONS, IMAGES, from_parquet_bytes, to_parquet_bytes

MARKER = "ymir.yaml"
FORM = 1
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "BMP": "bmp", "WEBP": "webp", "TIFF": "tif", "GIF": "gif"}
TABLES: dict[str, Mapping[str, Any]] = {"images.parquet": IMAGES, "annotations.parquet": ANNOTATIONS}
_SETTINGS = {"form": FORM, "executor": "tiny", "checkout_limit": 20_000}


class Workspace:
    """A workspace on disk; make one with `init`, find one with `open`.

    Parameters
    ----------
    root : Path
        Its top folder, which holds ``ymir.yaml``.

    Examples
    --------
    >>> import tempfile
    >>> ws = Workspace.init(tempfile.mkdtemp())
    >>> ws.datasets().columns[0]
    'name'
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = _read_settings(root)
        self.store = Store(root, checkout_limit=int(self.settings["checkout_limit"]))
        self.media = StoreMedia(self.store)
        self.labels = LabelBook(self.store)

    def __repr__(self) -> str:
        """Say in one line where it is and what it holds."""
        return f"<Workspace {self.root}: {len(self.store.names('datasets'))} datasets, {len(self.labels)} labels>"

    @classmethod
    def init(cls, path: str | Path) -> Workspace:
        """Make a workspace, or open the one that is there.

        Parameters
        ----------
        path : str or Path
            Folder to make it in; what lies there stays as it is.

        Raises
        ------
        StoreError
            Git or DVC refused.
        """
        root = Path(path).expanduser().resolve()
        if (root / MARKER).exists():
            return cls(root)
        store = Store.init(root)
        written = {
            root / "labels.yaml": Labels().to_yaml(),
            root / "executors.yaml": yaml.safe_dump({"executors": {}}),
            root / "projects" / ".gitignore": "",
            root / MARKER: yaml.safe_dump(_SETTINGS, sort_keys=False),
        }
        for file, text in written.items():
            if not file.exists():
                write_atomically(file, text)
        for ignore, line in ((root / ".gitignore", "/.ymir/"), (root / ".dvcignore", "/.ymir")):
            text = ignore.read_text(encoding="utf-8") if ignore.exists() else ""
            if line not in text.splitlines():
                write_atomically(ignore, f"{text}{line}\n")
        dvc_files = [root / ".dvc" / name for name in ("config", ".gitignore")]
        shelves = [root / shelf / ".gitignore" for shelf in SHELVES]
        paths = [*written, root / ".gitignore", root / ".dvcignore", *dvc_files, *shelves]
        store.git.commit(paths, "Workspace made")
        return cls(root)

    @classmethod
    def open(cls, path: str | Path = ".") -> Workspace:
        """Find the workspace that a folder lies in.

        Parameters
        ----------
        path : str or Path
            Any folder inside a workspace; by default the notebook's own.

        Raises
        ------
        WorkspaceNotFound
            Neither the folder nor one above it is a workspace.
        """
        start = Path(path).expanduser().resolve()
        for folder in (start, *start.parents):
            if (folder / MARKER).is_file():
                return cls(folder)
        raise WorkspaceNotFound(
            f"there is no workspace in {start} or above it (no {MARKER}). Make one: Workspace.init({str(path)!r}), "
            f"or in a shell: ymir-nb -w {path} init"
        )

    def dataset(self, ref: str) -> Dataset:
        """Read a version of a dataset from the cache; no checkout is needed.

        Parameters
        ----------
        ref : str
            ``train`` (the newest), ``train@v3``, or ``train@REVISION`` at any git revision.

        Raises
        ------
        VersionNotFound
            There is no such version.
        ObjectMissing
            Its tables are not in the cache; the message says how to get them.
        """
        return self._read("datasets", ref)

    def predictions(self, ref: str) -> Dataset:
        """Read a version of predictions, such as ``val.helmets@v2``; annotations carry scores."""
        return self._read("predictions", ref)

    def _read(self, shelf: str, ref: str) -> Dataset:
        version = self.store.find(shelf, ref)
        images, annotations = (
            from_parquet_bytes(self.store.read(version, file), schema) for file, schema in TABLES.items()
        )
        labels = self.labels.read()

        def fold(name: str) -> str:
            return labels.main_name(name) if name in labels else name

        names = list(version.meta.get("labels", {}))
        folded = {name: fold(name) for name in names}
        if any(name != main for name, main in folded.items()):
            annotations = annotations.assign(label=annotations["label"].map(folded).astype("str"))
        return Dataset(images, annotations, tuple(dict.fromkeys(folded.values())), self.media, version.ref)

    def save(
        self,
        dataset: Dataset,
        name: str,
        *,
        operation: str,
        parameters: Mapping[str, Any] | None = None,
        parents: Iterable[str] = (),
        details: Mapping[str, Any] | None = None,
        extra: Mapping[str, bytes] | None = None,
        shelf: str = "datasets",
    ) -> Dataset:
        """Save a dataset as the next version of a name: one git commit.

        Parameters
        ----------
        dataset : Dataset
            Its images must be in the cache already; only the two tables are written.
        name : str
            Name of the dataset.
        operation : str
            What made it: import, merge, filter, ...
        parameters : mapping, optional
            Plain values, enough to run the operation again.
        parents : iterable of str
            References it came from, such as ``train@v1`` or ``models/helmets@v2``.
        details : mapping, optional
            Further plain values to keep with the version.
        extra : mapping of str to bytes, optional
            Further files to keep in the version, by name.
        shelf : {'datasets', 'predictions'}
            Which kind of resource it is; predictions list no image files.

        Returns
        -------
        Dataset
            The same value, with its `ref`. Saving what the newest version holds already gives that version.

        Raises
        ------
        InvalidName, LabelNotFound, StoreError
        """
        check_name(name)
        labels = self.labels.read()
        names = sorted((labels.find(label) for label in dataset.labels), key=lambda label: label.id)
        ordered = tuple(label.name for label in names)
        checked = Dataset.of(dataset.images, dataset.annotations, labels=ordered, media=self.media)
        files = {
            "images.parquet": self.store.objects.put(to_parquet_bytes(checked.images, IMAGES)),
            "annotations.parquet": self.store.objects.put(to_parquet_bytes(checked.annotations, ANNOTATIONS)),
        }
        files |= {name: self.store.objects.put(data) for name, data in (extra or {}).items()}
        if shelf == "datasets":
            kinds = checked.images["format"].map(EXTENSIONS)
            files |= {f"images/{i}.{kind}": i for i, kind in zip(checked.images["image"], kinds, strict=True)}
        meta = {
            "operation": operation,
            "parameters": dict(parameters or {}),
            "parents": self.lineage(parents),
            "n_images": len(checked),
            "n_boxes": checked.n_boxes,
            "n_negatives": checked.n_negatives,
            "n_unlabelled": checked.n_unlabelled,
            "labels": checked.counts(),
            **(details or {}),
        }
        counts = f"{len(checked)} images, {checked.n_boxes} boxes"
        version = self.store.save(shelf, name, files, meta=meta, message=f"{name}: {operation} ({counts})")
        return Dataset(checked.images, checked.annotations, ordered, self.media, version.ref)

    def lineage(self, refs: Iterable[str]) -> dict[str, str]:
        """Give each reference in full, such as ``models/helmets@v2``, with the hash of what it held."""
        found = [self.version(ref) for ref in refs]
        return {version.path_ref: version.hash for version in found}

    def version(self, ref: str) -> Version:
        """Find a version by reference; ``models/NAME`` and ``predictions/NAME`` name the other shelves.

        Raises
        ------
        VersionNotFound
            There is no such version or shelf.
        """
        shelf, _, rest = ref.rpartition("/")
        if shelf not in ("", *SHELVES):
            raise VersionNotFound(f"{ref!r}: there are {', '.join(SHELVES)}, and no {shelf!r}.")
        return self.store.find(shelf or "datasets", rest)

    def versions(self, name: str) -> pd.DataFrame:
        """List the versions of a dataset, prediction or model, newest first.

        Parameters
        ----------
        name : str
            As in `version`, without a number.

        Returns
        -------
        DataFrame
            Columns ref, operation, parents, n_images, n_boxes, n_negatives, n_unlabelled, hash, commit.
        """
        newest = self.version(name)
        return _versions_frame(self.store.versions(newest.shelf, newest.name))

    def datasets(self, shelf: str = "datasets") -> pd.DataFrame:
        """List the newest version of every name on a shelf; columns name and those of `versions`."""
        newest = [self.store.versions(shelf, name)[0] for name in self.store.names(shelf)]
        frame = _versions_frame(newest)
        frame.insert(0, "name", [version.name for version in newest])
        return frame

    def checkout(self, ref: str) -> Path:
        """Fill a dataset's folder with the files of its newest version, whatever their number.

        Raises
        ------
        StoreError
            The version is not the newest: a folder always shows what its pointer says.
        """
        version = self.version(ref)
        if version.number != self.store.versions(version.shelf, version.name)[0].number:
            raise StoreError(
                f"{version.ref} is not the newest version. Save it as one, or: git checkout {version.commit[:8]}"
            )
        run_dvc(self.root, "checkout", "-q", version.path)
        return self.root / version.shelf / version.name

    def push(self) -> str:
        """Send the files of every version to DVC's remote: ``dvc push --all-commits``."""
        self.store.keep_remotes()
        return run_dvc(self.root, "push", "--all-commits")

    def pull(self, *, all_versions: bool = False) -> str:
        """Get the files of the newest versions from DVC's remote and check them out: ``dvc pull``.

        Parameters
        ----------
        all_versions : bool
            Get the files of every version into the cache as well.
        """
        words = run_dvc(self.root, "pull")
        if all_versions:
            self.store.keep_remotes()
            words += run_dvc(self.root, "fetch", "--all-commits")
        return words


def _read_settings(root: Path) -> dict[str, Any]:
    """Read ymir.yaml; what it does not say is as `init` writes it."""
    path = root / MARKER
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise StoreError(f"{path} cannot be read: {error}. Restore it: git checkout {MARKER}") from error
    if not isinstance(read, dict) or read.get("form", FORM) != FORM:
        raise StoreError(f"{path} does not say form: {FORM}, the one that this ymir-nb knows. Upgrade ymir-nb.")
    return _SETTINGS | read


def _versions_frame(versions: Iterable[Version]) -> pd.DataFrame:
    counts = ("n_images", "n_boxes", "n_negatives", "n_unlabelled")
    columns = ["ref", "operation", "parents", *counts, "hash", "commit"]
    rows = [
        {
            "ref": version.ref,
            "operation": version.meta.get("operation", ""),
            "parents": ", ".join(version.meta.get("parents", {})),
            **{count: version.meta.get(count) for count in counts},
            "hash": version.hash,
            "commit": version.commit[:10],
        }
        for version in versions
    ]
    return pd.DataFrame(rows, columns=columns)
