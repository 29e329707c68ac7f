"""Executor images that others have published."""

from __future__ import annotations

from importlib import resources

import pandas as pd
import yaml


def public_executors() -> pd.DataFrame:
    """List the known public YMIR images.

    Returns
    -------
    DataFrame
        Columns image (a name without digest: pull it, then register what arrived), finds, trains, mines
        (algorithms, the default first), infers and note.

    Examples
    --------
    >>> public_executors().iloc[0]["finds"]
    'det, semantic-seg, instance-seg'

    Source: YMIR 2.5.0's deployment settings and the documents of its public executors; see the data file.
    """
    text = (resources.files("ymir_nb.backend") / "public_executors.yaml").read_text(encoding="utf-8")
    rows = [
        row | {"finds": ", ".join(row["finds"]), "mines": ", ".join(row["mines"])}
        for row in ({"infers": True, "note": ""} | row for row in yaml.safe_load(text))
    ]
    return pd.DataFrame(rows, columns=["image", "finds", "trains", "mines", "infers", "note"])
