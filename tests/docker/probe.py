"""Tries whatever a container must not do, and says what it could: run inside, with nothing but Python."""

# It is not of this project once it runs.
# ruff: noqa: BLE001, PTH107, PTH123, PTH208, SIM115, T201

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long


def libc(function, *arguments):
    if getattr(LIBC, function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def write(path):
    with open(path, "w") as file:
        file.write("x")


def reach(host, port, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        client.connect((host, port) if port else host)


def become_root():
    said = subprocess.run(["/usr/bin/root-id", "-u"], capture_output=True, text=True, check=True)
    if said.stdout.strip() != "0" or os.getuid() == 0:
        raise PermissionError(1, "still the same user")


def be_root():
    if os.getuid():
        raise PermissionError(1, "not root")


def chown():
    write("/out/given")
    os.chown("/out/given", 1234, 1234)


HOST = sys.argv[1].split(":")
ATTEMPTS = {
    "write_out": lambda: write("/out/mine"),
    "write_tmp": lambda: write("/tmp/mine"),
    "write_shm": lambda: write("/dev/shm/mine"),
    "write_in": lambda: write("/in/mine"),
    "change_in": lambda: open("/in/given", "a").close(),
    "remove_in": lambda: os.remove("/in/given"),
    "write_root": lambda: write("/opt/cache/mine"),
    "write_etc": lambda: write("/etc/mine"),
    "write_sysctl": lambda: write("/proc/sys/kernel/hostname"),
    "write_cgroup": lambda: write("/sys/fs/cgroup/pids/tasks"),
    "reach_host": lambda: reach(HOST[0], int(HOST[1])),
    "reach_metadata": lambda: reach("169.254.169.254", 80),
    "ask_dns": lambda: socket.getaddrinfo("example.org", 80),
    "reach_engine": lambda: reach("/var/run/docker.sock", 0, socket.AF_UNIX),
    "raw_socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close(),
    "mount": lambda: libc("mount", b"none", b"/tmp", b"tmpfs", 0, b""),
    "new_namespace": lambda: libc("unshare", 0x10000000),
    "make_device": lambda: os.mknod("/out/device", 0o600 | 0o060000, os.makedev(8, 0)),
    "read_disk": lambda: open("/dev/sda", "rb").close(),
    "chown": chown,
    "become_root": become_root,
    "be_root": be_root,
    "change_time": lambda: libc("settimeofday", None, bytes(8)),
    "kill_init": lambda: os.kill(1, signal.SIGKILL) or os.kill(2**22 - 1, 0),
}
could, errors = [], {}
for name, attempt in ATTEMPTS.items():
    try:
        attempt()
        could.append(name)
    except Exception as error:
        errors[name] = f"{type(error).__name__}: {error}"
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
facts = {
    "user": [os.getuid(), os.getgid(), os.getgroups()],
    "capabilities": [status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")],
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "seccomp": status["Seccomp"].strip(),
    "links": sorted(os.listdir("/sys/class/net")),
    "shm_bytes": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
    "env": dict(os.environ),
    "disks": [name for name in os.listdir("/dev") if name.startswith(("sd", "vd", "nvme", "kvm", "mem"))],
    "mounts": [
        line.split()[1] for line in open("/proc/mounts") if not line.split()[1].startswith(("/proc", "/sys", "/dev"))
    ],
}
print(json.dumps({"could": could, "errors": errors} | facts))
