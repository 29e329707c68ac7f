"""A conformance kit: what of the executor contract an image or command really holds.

`verify` runs an executor on a small dataset of awkward but legal images and reports, check by check.
Each check is a small function and one row in the tables at the end of `every_run`, `training_checks`,
`scoring_checks` and `special_checks`; what is run, and in which order, stands in `steps.STEPS`.
"""

from __future__ import annotations

from ymir_nb.backend.verification.findings import Check, Finding, Row, Verification
from ymir_nb.backend.verification.kit import verify

__all__ = ["Check", "Finding", "Row", "Verification", "verify"]
