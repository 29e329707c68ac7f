"""Importing a folder or archive as a dataset version, with a report of everything that was not taken as it came."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import ImportRefused
from ymir_nb.backend.gathering import gather
from ymir_nb.backend.names import check_name
from ymir_nb.backend.reports import ImportReport
from ymir_nb.backend.sources import open_source
from ymir_nb.backend.workspace import Workspace

REPORT = "report.json"


@dataclass(frozen=True, repr=False)
class ImportedDataset(Dataset):
    """A dataset fresh from its source, with the report of the import.

    Parameters
    ----------
    report : ImportReport
        Accepted, quarantined, rejected, folded: a row each, with the remedy.
    """

    report: ImportReport = field(default_factory=ImportReport)

    def _repr_html_(self) -> str:
        """Show the report in a notebook."""
        return self.report._repr_html_()


def import_dataset(
    workspace: Workspace,
    name: str,
    source: str | Path,
    *,
    format: str | None = None,  # noqa: A002 (the user's word)
    unknown_labels: str = "stop",
) -> ImportedDataset:
    """Import images, with the annotations that lie beside them, as the next version of a dataset.

    Nothing is committed unless all of the source could be read; importing the same again gives the
    same version.

    Parameters
    ----------
    workspace : Workspace
        Where to.
    name : str
        Name of the dataset.
    source : str or Path
        Folder or zip: Pascal VOC, COCO, or images alone.
    format : {'voc', 'coco', 'images'}, optional
        Guessed where that is plain.
    unknown_labels : {'stop', 'ignore', 'add'}
        For labels that labels.yaml does not know.

    Returns
    -------
    ImportedDataset
        The dataset, with its `report`.

    Raises
    ------
    UnknownLabels
        Under `stop`; nothing was stored.
    FormatNotRecognised, ImportRefused
        The source cannot be read, or no image in it is usable.
    """
    check_name(name)
    labels = workspace.labels.read()
    with open_source(source) as opened:
        gathered = gather(
            opened, labels=labels, put=workspace.store.objects.put, format=format, unknown_labels=unknown_labels
        )
    report = gathered.report
    if not len(gathered.images):
        rows = "; ".join(f"{row.file}: {row.reason}" for row in report.rows[:5])
        raise ImportRefused(f"no image of {source} can be used ({report.n_quarantined} quarantined: {rows}).")
    added = [label for label in gathered.labels.names if label not in labels]
    if added:
        workspace.labels.extend(added)
    saved = workspace.save(
        Dataset(gathered.images, gathered.annotations, gathered.dataset_labels),
        name,
        operation="import",
        parameters={"source": str(source), "format": report.format, "unknown_labels": unknown_labels},
        extra={REPORT: _to_bytes(report)},
    )
    return ImportedDataset(saved.images, saved.annotations, saved.labels, saved.media, saved.ref, report)


def _to_bytes(report: ImportReport) -> bytes:
    """Write a report as JSON, the same for every import of the same source.

    Which labels were new is left to the history of labels.yaml: they are new only the first time.
    """
    lasting = replace(report, rows=tuple(row for row in report.rows if row.kind != "added"))
    return orjson.dumps(lasting.summary(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
