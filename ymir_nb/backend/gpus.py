"""The GPUs of this machine: what the driver lists, what of it can be used, and what a container sees of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import pynvml

from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.untrusted import show

if TYPE_CHECKING:
    import pandas as pd

_NO_DRIVER = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
_ON_CPU = "A job with gpu_count 0 needs none of it."
_REASONS = {
    pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU is lost: the driver cannot reach it any more. Reboot the machine; where "
    "that does not bring it back, have its power and its seat looked at.",
    pynvml.NVML_ERROR_RESET_REQUIRED: "the GPU must be reset before it can be used again. End what runs on it, then: "
    "nvidia-smi --gpu-reset, or reboot the machine.",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver that is loaded and its library are of different "
    "versions, most often after an update. Reboot the machine, or unload and load the nvidia kernel modules.",
    pynvml.NVML_ERROR_NO_PERMISSION: "this user may not use the NVIDIA devices. Ask for access to /dev/nvidia*, often "
    "by being made a member of the group video.",
}
# MIG slices stand indented below their GPU, with a UUID that begins otherwise.
_LISTED = re.compile(r"^GPU \d+: [^\n]*\(UUID: (GPU-[0-9a-fA-F-]+)\)", re.MULTILINE)


@dataclass(frozen=True)
class Gpu:
    """One GPU, as the driver lists it.

    Parameters
    ----------
    index : int
        Number that the driver gives it, from 0; another one after a reboot, maybe.
    uuid : str
        Name that it keeps, ``GPU-...``; empty for one too broken to tell.
    name : str
        Its model.
    memory_bytes, free_bytes : int
        Memory in all, and how much of it no program uses; both 0 where the driver does not say.
    fault : str
        Why it cannot be used, and what to do; empty for a sound one.
    """

    index: int
    uuid: str
    name: str
    memory_bytes: int
    free_bytes: int
    fault: str = ""

    @property
    def free_share(self) -> float:
        """Part of its memory that is free, in [0, 1]; 1 where the driver does not say."""
        return self.free_bytes / self.memory_bytes if self.memory_bytes else 1.0


def inventory(nvml: Any = None) -> list[Gpu]:
    """List the GPUs of this machine.

    A GPU that is lost or wants a reset is listed with its `Gpu.fault`, since the others still work.

    Parameters
    ----------
    nvml : module, optional
        Something with the functions of `pynvml`, which is the default.

    Returns
    -------
    list of Gpu
        By index; empty where there is no NVIDIA driver.

    Raises
    ------
    PreflightFailed
        There is a driver, and it does not work: of another version than its library, or not for this user.

    Examples
    --------
    >>> sum(gpu.fault == "" for gpu in inventory()) >= 0
    True

    Source: NVIDIA Management Library (NVML) API reference.
    """
    nvml = nvml or pynvml
    try:
        nvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value in _NO_DRIVER:
            return []
        raise PreflightFailed(f"the GPUs cannot be listed: {_reason(error)} {_ON_CPU}") from error
    try:
        return [_look_at(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        raise PreflightFailed(f"the GPUs cannot be counted: {_reason(error)} {_ON_CPU}") from error
    finally:
        nvml.nvmlShutdown()


def to_frame(gpus: Sequence[Gpu]) -> pd.DataFrame:
    """Give GPUs as a frame with the columns of `Gpu`, a row each.

    Examples
    --------
    >>> to_frame([Gpu(0, "GPU-1", "Tiny", 8, 6)])["free_bytes"].tolist()
    [6]
    """
    import pandas as pd

    return pd.DataFrame([asdict(gpu) for gpu in gpus], columns=[field.name for field in fields(Gpu)])


def check_available(n: int, gpus: Sequence[Gpu]) -> None:
    """Refuse a job that asks for more GPUs than the machine could ever give it.

    Parameters
    ----------
    n : int
        How many it asks for.
    gpus : sequence of Gpu
        From `inventory`; whether they are free right now does not matter.

    Raises
    ------
    PreflightFailed
        With both numbers and what to do.

    Examples
    --------
    >>> check_available(0, [])
    """
    sound = [gpu for gpu in gpus if not gpu.fault]
    if n <= len(sound):
        return
    asked = f"the job asks for {_count(n)}, and"
    if not gpus:
        raise PreflightFailed(
            f"{asked} this machine has none: no NVIDIA driver answers. Set gpu_count to 0 to run on the CPU, or "
            f"install the driver (nvidia-smi shows whether it works)."
        )
    faults = " ".join(f"{in_words(gpu)}: {gpu.fault}" for gpu in gpus if gpu.fault)
    raise PreflightFailed(
        f"{asked} this machine has {len(sound)} that can be used: {', '.join(map(in_words, sound)) or 'none'}. "
        f"Set gpu_count to {len(sound)} or fewer. {faults}".rstrip()
    )


def faults(leased: Sequence[Gpu], gpus: Sequence[Gpu]) -> dict[str, str]:
    """Tell which GPUs of a job have gone bad since it got them.

    Parameters
    ----------
    leased : sequence of Gpu
        What it was given.
    gpus : sequence of Gpu
        What `inventory` says now.

    Returns
    -------
    dict of str to str
        The reason by UUID; empty where all are sound.

    Examples
    --------
    >>> gpu = Gpu(0, "GPU-1", "Tiny", 8, 6)
    >>> faults([gpu], [gpu])
    {}
    """
    now: dict[str | int, str] = {gpu.uuid or gpu.index: gpu.fault for gpu in gpus}
    gone = "the driver does not list it any more. Reboot the machine."
    return {gpu.uuid: fault for gpu in leased if (fault := now.get(gpu.uuid, now.get(gpu.index, gone)))}


def seen_gpus(text: str) -> list[str]:
    """Read the UUIDs of the GPUs that ``nvidia-smi -L`` printed, in the order printed.

    Examples
    --------
    >>> seen_gpus("GPU 0: Tiny (UUID: GPU-0a-1b)")
    ['GPU-0a-1b']

    Source: nvidia-smi's own output; its form is not promised, and has been this for ten years.
    """
    return list(dict.fromkeys(_LISTED.findall(text)))


def check_seen(text: str, leased: Sequence[Gpu]) -> str:
    """Say what is wrong with the GPUs that a container sees.

    Parameters
    ----------
    text : str
        What ``nvidia-smi -L`` printed in it.
    leased : sequence of Gpu
        What it was given.

    Returns
    -------
    str
        Empty, or a sentence that says what it sees, what it should, and the fix.

    Examples
    --------
    >>> gpu = Gpu(0, "GPU-0a", "Tiny", 8, 6)
    >>> check_seen("GPU 0: Tiny (UUID: GPU-0a)", [gpu])
    ''
    """
    seen, given = set(seen_gpus(text)), {gpu.uuid: gpu for gpu in leased}
    if seen == set(given):
        return ""
    if not seen:
        said = text.strip().partition("\n")[0]
        return (
            f"the container was given {_count(len(given))} and sees none"
            + (f"; nvidia-smi said {show(said)}" if said else "")
            + ". Install the NVIDIA Container Toolkit, register it (nvidia-ctk runtime configure), restart the engine."
        )
    missing = [in_words(gpu) for uuid, gpu in given.items() if uuid not in seen]
    parts = [f"does not see {', '.join(missing)}"] if missing else []
    if others := sorted(seen - set(given)):
        parts.append(f"sees {_count(len(others))} that it was not given, {others[0]} first")
    return (
        f"the container was given {_count(len(given))}, and {' and '.join(parts)}. Look for NVIDIA_VISIBLE_DEVICES in "
        f"the image's environment and for other settings of the engine that choose GPUs."
    )


def in_words(gpu: Gpu) -> str:
    """Name a GPU for a message.

    Examples
    --------
    >>> in_words(Gpu(0, "GPU-1", "Tiny", 8 << 30, 6 << 30))
    'GPU 0 (Tiny, 8.0 GiB, GPU-1)'
    """
    known = [gpu.name, f"{gpu.memory_bytes / (1 << 30):.1f} GiB" if gpu.memory_bytes else "", gpu.uuid]
    return f"GPU {gpu.index} ({', '.join(part for part in known if part) or 'unknown'})"


def _look_at(nvml: Any, index: int) -> Gpu:
    """Ask all about one GPU, as far as it answers."""
    uuid = name = ""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError as error:
        # Where GPU and processor share one memory, the GPU has none of its own to tell of.
        shares_memory = name and error.value == pynvml.NVML_ERROR_NOT_SUPPORTED
        return Gpu(index, uuid, name, 0, 0, "" if shares_memory else _reason(error))
    return Gpu(index, uuid, name, memory.total, memory.free)


def _reason(error: pynvml.NVMLError) -> str:
    """Say what an error of NVML means and what to do."""
    known = _REASONS.get(error.value)
    return known or f"NVML says: {str(error).rstrip('.')} (error {error.value}). See what nvidia-smi says."


def _count(n: int) -> str:
    return f"{n} GPU" if n == 1 else f"{n} GPUs"
