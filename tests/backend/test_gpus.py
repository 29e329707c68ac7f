"""What the driver lists, and what a container sees.

No test machine is sure to have a GPU, so a stand-in with the functions of `pynvml` answers; the errors that it
raises are the real module's own. The loading of the real library is tested where it is absent.
"""

import subprocess
import sys
from types import SimpleNamespace

import pynvml
import pytest

from ymir_nb.backend import gpus
from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.gpus import Gpu, check_available, check_seen, faults, in_words, inventory, seen_gpus, to_frame

GIB = 1 << 30


class Driver:
    """A stand-in for `pynvml`: what each GPU answers, or the number of the error with which it answers."""

    def __init__(self, *answers, init=0, count=0):
        self.answers, self.init, self.count, self.n_open = answers, init, count, 0

    def nvmlInit(self):  # noqa: N802
        fail(self.init)
        self.n_open += 1

    def nvmlShutdown(self):  # noqa: N802
        self.n_open -= 1

    def nvmlDeviceGetCount(self):  # noqa: N802
        fail(self.count)
        return len(self.answers)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        fail(self.answers[index] if isinstance(self.answers[index], int) else 0)
        return index

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802
        return f"GPU-0{handle}"

    def nvmlDeviceGetName(self, handle):  # noqa: N802
        return "Tiny 9000"

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        total, free = self.answers[handle]
        fail(free if total == 0 else 0)
        return SimpleNamespace(total=total, free=free, used=total - free)


def fail(number):
    if number:
        raise pynvml.NVMLError(number)


def gpu(index, *, fault=""):
    return Gpu(index, f"GPU-0{index}", "Tiny 9000", 8 * GIB, 8 * GIB, fault)


def test_the_inventory_says_of_each_gpu_its_memory_and_what_of_it_is_free():
    driver = Driver((8 * GIB, 2 * GIB), (16 * GIB, 16 * GIB))
    found = inventory(driver)
    assert found == [
        Gpu(0, "GPU-00", "Tiny 9000", 8 * GIB, 2 * GIB),
        Gpu(1, "GPU-01", "Tiny 9000", 16 * GIB, 16 * GIB),
    ]
    assert [g.free_share for g in found] == [0.25, 1.0]
    assert driver.n_open == 0, "what is opened is closed"


def test_gpus_become_a_frame_also_when_there_are_none():
    columns = ["index", "uuid", "name", "memory_bytes", "free_bytes", "fault"]
    assert list(to_frame([]).columns) == columns
    frame = to_frame([gpu(0), gpu(1)])
    assert list(frame.columns) == columns
    assert frame["uuid"].tolist() == ["GPU-00", "GPU-01"]


def test_a_gpu_that_shares_the_processors_memory_counts_as_free():
    shared = (0, pynvml.NVML_ERROR_NOT_SUPPORTED)
    (found,) = inventory(Driver(shared))
    assert (found.fault, found.memory_bytes, found.free_share) == ("", 0, 1.0)
    assert in_words(found) == "GPU 0 (Tiny 9000, GPU-00)"


@pytest.mark.parametrize("number", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_a_machine_without_a_driver_has_no_gpus(number):
    assert inventory(Driver((8, 8), init=number)) == []


def test_the_real_library_is_asked_and_its_absence_is_no_error():
    # A process of its own, in which the loader finds no library whatever this machine has.
    code = (
        "import pynvml; pynvml.CDLL = lambda name: (_ for _ in ()).throw(OSError(name))\n"
        "from ymir_nb.backend.gpus import inventory; print(inventory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_case_44_every_failure_of_the_driver_has_its_own_reason_and_remedy():
    numbers = [
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_UNKNOWN,
        pynvml.NVML_ERROR_TIMEOUT,
    ]
    at_start, later, of_one = [], [], []
    for number in numbers:
        with pytest.raises(PreflightFailed) as found:
            inventory(Driver(init=number))
        at_start.append(str(found.value))
        driver = Driver(count=number)
        with pytest.raises(PreflightFailed) as found:
            inventory(driver)
        assert driver.n_open == 0
        later.append(str(found.value))
        of_one.append(inventory(Driver(number))[0].fault)
    assert len(set(at_start)) == len(set(later)) == len(set(of_one)) == len(numbers)
    assert "different versions" in at_start[0]
    assert "Reboot" in at_start[0]
    assert "may not use" in at_start[1]
    assert "is lost" in of_one[2]
    assert "nvidia-smi --gpu-reset" in of_one[3]
    assert "error 999" in of_one[4]


def test_case_44_a_lost_gpu_does_not_take_the_others_with_it():
    found = inventory(Driver((8, 8), pynvml.NVML_ERROR_GPU_IS_LOST, (8, 8)))
    assert [bool(g.fault) for g in found] == [False, True, False]
    assert found[1].uuid == ""
    check_available(2, found)
    with pytest.raises(PreflightFailed, match=r"asks for 3 GPUs.* has 2 that can be used.* lost"):
        check_available(3, found)


def test_case_44_a_gpu_that_is_lost_while_a_job_has_it_is_named():
    leased = inventory(Driver((8, 8), (8, 8)))
    assert faults(leased, leased) == {}
    now = inventory(Driver((8, 8), pynvml.NVML_ERROR_GPU_IS_LOST))
    assert list(faults(leased, now)) == ["GPU-01"]
    assert "is lost" in faults(leased, now)["GPU-01"]
    assert "does not list it" in faults(leased, now[:1])["GPU-01"]
    assert list(faults(leased, [])) == ["GPU-00", "GPU-01"]


def test_asking_for_more_gpus_than_there_are_is_refused_with_both_numbers_and_a_remedy():
    check_available(2, [gpu(0), gpu(1)])
    with pytest.raises(PreflightFailed, match=r"asks for 3 GPUs.*has 2 .*GPU 0 \(Tiny 9000, 8\.0 GiB, GPU-00\).*to 2 "):
        check_available(3, [gpu(0), gpu(1)])
    with pytest.raises(PreflightFailed, match=r"asks for 1 GPU, .*none.*Set gpu_count to 0 to run on the CPU"):
        check_available(1, [])
    check_available(0, [])
    check_available(0, [gpu(0, fault="it is lost.")])


PRINTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
GPU 1: Name (with) brackets (UUID: GPU-00)
"""


def test_the_uuids_that_nvidia_smi_prints_are_read_and_nothing_else():
    assert seen_gpus(PRINTED) == ["GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77", "GPU-00"]
    assert seen_gpus(PRINTED + PRINTED) == seen_gpus(PRINTED)
    assert seen_gpus("") == []
    assert seen_gpus("no GPU 0: x (UUID: GPU-00)\nGPU x: y (UUID: GPU-01)\nGPU 1: (UUID: MIG-0)") == []


def listed(*uuids):
    return "".join(f"GPU {i}: Tiny (UUID: {uuid})\n" for i, uuid in enumerate(uuids))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["given 2 GPUs", "sees none", "Container Toolkit"]),
        ("Failed to initialize NVML: Driver/library version mismatch", ["sees none", "version mismatch"]),
        (listed("GPU-00"), ["does not see GPU 1 (Tiny 9000, 8.0 GiB, GPU-01)"]),
        (listed("GPU-00", "GPU-01", "GPU-02"), ["sees 1 GPU that it was not given, GPU-02 first"]),
        (listed("GPU-00", "GPU-02"), ["does not see GPU 1", "not given, GPU-02", "NVIDIA_VISIBLE_DEVICES"]),
    ],
)
def test_a_container_that_sees_none_fewer_more_or_other_gpus_is_told_apart(text, words):
    wrong = check_seen(text, [gpu(0), gpu(1)])
    assert [word for word in words if word not in wrong] == []


def test_a_container_that_sees_what_it_was_given_is_well_in_whatever_order():
    assert check_seen(listed("GPU-01", "GPU-00"), [gpu(0), gpu(1)]) == ""
    assert check_seen("", []) == ""


def test_what_a_container_prints_is_shown_in_bounded_space_without_its_control_characters():
    wrong = check_seen("\x1b[2J" + "x" * 1_000_000, [gpu(0)])
    assert len(wrong) < 400
    assert wrong.isprintable()
    assert gpus.seen_gpus("GPU 0: " + "(UUID: GPU-" * 50_000) == []
