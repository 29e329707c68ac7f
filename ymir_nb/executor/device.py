"""Where to compute, how precisely, and how to make it repeatable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ymir_nb.executor.errors import NO_GPU, ExecutorFailure
from ymir_nb.executor.settings import usable_threads


def choose_device(config: dict[str, Any]) -> torch.device:
    """Give the first device of `gpu_id`, or the CPU where it is empty.

    Raises
    ------
    ExecutorFailure
        A GPU is asked for, and there is none.
    """
    gpu_id = str(config.get("gpu_id") if config.get("gpu_id") is not None else "").strip()
    if not gpu_id:
        return torch.device("cpu")
    first = gpu_id.split(",")[0].strip()
    if not torch.cuda.is_available() or not first.isdigit() or int(first) >= torch.cuda.device_count():
        raise ExecutorFailure(
            f"config.yaml: gpu_id is {gpu_id!r}, and PyTorch sees {torch.cuda.device_count()} GPUs here. "
            "Set gpu_count to 0 to run on the CPU",
            code=NO_GPU,
        )
    return torch.device("cuda", int(first))


def use_half(precision: str, device: torch.device) -> bool:
    """Decide for bfloat16: as asked, or under `auto` where the processor multiplies it natively.

    Notes
    -----
    On two cores with AVX512-BF16 a training step took a third of its float32 time; without such
    instructions bfloat16 is emulated and slower.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and bool({"avx512_bf16", "amx_bf16"} & set(flags.read_text(encoding="utf-8").split()))


def make_repeatable() -> None:
    """Choose deterministic algorithms, and one thread for each operation.

    Notes
    -----
    Work is shared out by whole images instead (`workers`). A sum that is split among threads rounds
    otherwise with every count of them, and the threads of one convolution wait for each other by
    spinning: beside other busy programs a step took ten times the processor time.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True, warn_only=torch.cuda.is_available())


@contextmanager
def workers(n_threads: int, device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of threads that share images out: `n_threads` on the CPU, one before a GPU.

    What has not begun is dropped when the block ends, so that an error or a signal ends the run at once.
    """
    pool = ThreadPoolExecutor(max_workers=usable_threads(n_threads) if device.type == "cpu" else 1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
