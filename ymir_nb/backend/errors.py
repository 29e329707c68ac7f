"""Every error that ymir-nb raises on purpose.

::

    YmirError
    |-- InvalidName           (ValueError)         a name that cannot be a file, dataset or project
    |-- InvalidTable          (ValueError)         a frame without the columns or types of `tables`
    |-- LabelNotFound         (KeyError)           a label that labels.yaml does not know
    |-- LabelConflict         (ValueError)         a name or alias that stands there already
    |-- UnknownLabels         (ValueError)         an import met labels that nobody declared
    |-- FormatNotRecognised   (ValueError)         no reader fits what lies in the source
    |-- ImportRefused         (ValueError)         a source that cannot be imported at all
    |-- MergeConflict         (ValueError)         the same image, annotated differently on two sides
    |-- WorkspaceNotFound     (FileNotFoundError)  no workspace here or above
    |-- VersionNotFound       (KeyError)           no such dataset, prediction, model or version
    |-- StoreError            (OSError)            git, DVC or the disk refused
    |   |-- ObjectMissing                          a listed object is not in the cache
    |   `-- ObjectDamaged                          an object's bytes are not what its name says
    |-- ExecutorNotFound      (KeyError)           no executor registered under this name
    |-- JobError              (RuntimeError)       work in an executor did not come to its end
    |   |-- PreflightFailed                        refused before anything was started
    |   |-- JobFailed                              the executor ended with an error
    |   `-- ProtocolViolated                       it ended well, and wrote what the contract forbids
    `-- ProjectError          (ValueError)         a project or round asked for what it cannot do
        |-- ProjectNotFound                        no such project
        `-- StepFailed                             a step's notebook stopped; it is kept

A leaf also inherits the builtin that a reader would catch.
"""

from __future__ import annotations


class YmirError(Exception):
    """Root of all errors that ymir-nb raises on purpose; its text says what, where and the fix."""

    def __str__(self) -> str:
        # KeyError prints the repr of its argument; a message is for people.
        return str(self.args[0]) if self.args else ""


class InvalidName(YmirError, ValueError):
    """A name that cannot be used for a dataset, model, project or executor."""


class InvalidTable(YmirError, ValueError):
    """A frame that does not have the columns or values that `tables` documents."""


class LabelNotFound(YmirError, KeyError):
    """A label that is neither a main name nor an alias in labels.yaml."""


class LabelConflict(YmirError, ValueError):
    """A name or alias that already belongs to a label."""


class UnknownLabels(YmirError, ValueError):
    """Labels met by an import under the policy `stop`.

    Parameters
    ----------
    message : str
        What to show.
    counts : dict of str to int
        Every unknown label with its number of objects.
    """

    def __init__(self, message: str, counts: dict[str, int]) -> None:
        super().__init__(message)
        self.counts = counts


class FormatNotRecognised(YmirError, ValueError):
    """No annotation format fits what lies in the source."""


class ImportRefused(YmirError, ValueError):
    """A source that cannot be imported: unreadable, unsafe, or with nothing in it."""


class MergeConflict(YmirError, ValueError):
    """The same image is annotated differently in two datasets, and the policy is `stop`."""


class WorkspaceNotFound(YmirError, FileNotFoundError):
    """There is no workspace in this folder or above it."""


class VersionNotFound(YmirError, KeyError):
    """No dataset, prediction or model of this name, number or revision."""


class StoreError(YmirError, OSError):
    """Git, DVC or the disk refused an operation on the workspace."""


class ObjectMissing(StoreError):
    """A listed object is not in the cache."""


class ObjectDamaged(StoreError):
    """An object whose bytes do not match the hash it is stored under."""


class ExecutorNotFound(YmirError, KeyError):
    """No executor is registered under this name."""


class JobError(YmirError, RuntimeError):
    """Work in an executor did not come to its end."""


class PreflightFailed(JobError):
    """A job was refused before anything was exported or started."""


class JobFailed(JobError):
    """An executor ended with an error; the message carries its exit code and last log lines."""


class ProtocolViolated(JobError):
    """An executor's output breaks the contract; nothing of it was ingested.

    Parameters
    ----------
    message : str
        What to show.
    faults : list of str
        Every fault that was found, one sentence each.
    """

    def __init__(self, message: str, faults: list[str]) -> None:
        super().__init__(message)
        self.faults = faults


class ProjectError(YmirError, ValueError):
    """A project or round was asked for what it cannot do."""


class ProjectNotFound(ProjectError):
    """No project of this name."""


class StepFailed(ProjectError):
    """A step's notebook stopped with an error; the message names the kept notebook."""
