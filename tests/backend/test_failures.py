"""Why a job failed, in words."""

import pytest

from ymir_nb.backend.failures import LOG_FILE, cause, explain, first_error, last_lines
from ymir_nb.backend.runners.base import ENGINE_STOPPED, KILLED, OUT_OF_MEMORY, RunState


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (RunState("exited", 3), "exit code 3"),
        (RunState("exited", -9), "was killed (signal 9"),
        (RunState("exited", 137), "was killed (signal 9"),
        (RunState("exited", 137, reason=OUT_OF_MEMORY), "memory ran out"),
        (RunState("exited", 137, reason=ENGINE_STOPPED), "engine was stopped"),
        (RunState("exited", 137, reason=KILLED), "from outside, with signal 9, and not for want of memory"),
        (RunState("exited", 139), "SIGSEGV (exit code 139)"),
        (RunState("exited", 255), "exit code 255"),
        (RunState("exited", -11), "SIGSEGV"),
        (RunState("exited", None, reason="cancelled"), "asked for it"),
        (RunState("vanished"), "machine stopped"),
    ],
)
def test_case_44_ends_of_different_kinds_have_different_words(tmp_path, state, said):
    assert said in explain(tmp_path, state)


def test_the_first_real_error_line_is_found_in_a_long_log(tmp_path):
    path = tmp_path / LOG_FILE
    lines = ["loading, 0 errors found", "Traceback (most recent call last):", "torch.OutOfMemoryError: CUDA is full"]
    path.write_text("\n".join([*lines, "ValueError: later", *(f"bye {n}" for n in range(30)), "  5%|x\r 10%|xx\n\n"]))
    assert first_error(path) == "torch.OutOfMemoryError: CUDA is full"
    assert last_lines(path, n_lines=2) == ["bye 29", " 10%|xx"]
    (tmp_path / "monitor.txt").write_text("t\t1\t1\t4\t300103\n")
    text = explain(tmp_path, RunState("exited", 1))
    assert "exit code 1. It says: memory ran out (return code 300103)." in text
    assert "First error: torch.OutOfMemoryError" in text
    assert text.endswith(f"Log: {path}")
    path.write_bytes(b"bash: nope: command not found\x1b[0m\n\xff\xfe")
    assert first_error(path) == "bash: nope: command not found [0m"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB", "the GPU's memory ran out"),
        ("RuntimeError: CUDA error: out of memory", "the GPU's memory ran out"),
        ("CUDA driver version is insufficient for CUDA runtime version", "driver or GPU do not fit together"),
        ("Failed to initialize NVML: Driver/library version mismatch", "driver or GPU do not fit together"),
        ("NVRM: Xid 79, GPU has fallen off the bus.", "the GPU was lost"),
        ("RuntimeError: No CUDA GPUs are available", "Ask for one with gpu_count"),
        ("OSError: [Errno 28] No space left on device: '/out/w'", "the disk is full"),
        ("DataLoader worker (pid 9) is killed by signal: Bus error. insufficient shared memory (shm)", "shm_size"),
        ("OSError: [Errno 27] File too large", "out_bytes"),
        ("touch: cannot touch '/opt/x': Read-only file system", "writable_root"),
        ("curl: (6) Could not resolve host: example.org", "the setting network"),
        ("RuntimeError: can't start new thread", "n_pids"),
        ("ValueError: 3 labels", ""),
    ],
)
def test_case_44_what_a_log_says_is_told_with_what_helps(tmp_path, line, said):
    (tmp_path / LOG_FILE).write_text(f"epoch 1\n{line}\nbye\n")
    found = cause(tmp_path / LOG_FILE)
    assert said in found
    assert bool(said) == bool(found)
    assert (f"It seems that {found}." if found else "exit code 1. First") in explain(tmp_path, RunState("exited", 1))


def test_of_several_causes_the_last_one_counts(tmp_path):
    (tmp_path / LOG_FILE).write_text("Read-only file system: no cache\nCUDA out of memory\n" + "bye\n" * 20)
    assert "GPU" in cause(tmp_path / LOG_FILE)


def test_a_log_that_is_not_complete_says_so(tmp_path):
    state = RunState("exited", 1, log_error="the log is not complete: No space left on device")
    assert explain(tmp_path, state).endswith(f"{LOG_FILE} (the log is not complete: No space left on device)")
