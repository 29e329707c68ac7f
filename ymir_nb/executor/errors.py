"""What can go wrong in an executor, with the return codes that YMIR gives it."""

from __future__ import annotations

CONFIG = 300001
DATASET = 300002
IMAGE_FORMAT = 300003
MODEL = 300004
OBJECT_TYPE = 300005
NO_GPU = 300102
OUT_OF_MEMORY = 300103
NOT_A_NUMBER = 300201
CONTAINER = 160004


class ExecutorFailure(Exception):
    """A task that cannot be done, told in one line.

    Parameters
    ----------
    message : str
        What, where, and the fix.
    code : int
        Return code for the fifth column of monitor.txt.

    Source: YMIR's executor contract, protocol version 1.1.0, return codes.
    """

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code
