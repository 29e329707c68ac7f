"""Live code: an executor's program as a git repository that lies in the job, pinned to a commit.

Images with live code clone the config's ``git_url`` and check out its ``git_branch``. The clone from
the network happens here instead, on the host and before the start, so that the executor itself needs
no network: it clones the file ``/in/code``.

Source: YMIR 2.5.0, executors with ``enable_livecode``: `git clone --filter=blob:none <git_url> /app`,
then `git checkout <git_branch>`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.objects import write_atomically

CODE_FILE = "code"
BRANCH = "refs/heads/ymir-nb"
RECORD_FILE = "code.json"
LIMIT_SECONDS = 600.0
PROTOCOLS = ("https", "ssh", "file")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/@]*)@)?")
_SCP_LIKE = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:[^:]")
_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@#-]{0,249}")
# Nothing asks at a terminal or a desktop, and nothing but these protocols is spoken. An empty
# GIT_ASKPASS stands before the other two places that git takes a program for questions from.
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GCM_INTERACTIVE": "never",
    "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS),
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=30",
    "LC_ALL": "C.UTF-8",
}
_INHERITED = ("GIT_SSL", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_PROXY")
_NO_HOOKS = ("-c", "core.hooksPath=/dev/null")


@dataclass(frozen=True)
class Code:
    """The code that an executor is told to run.

    Parameters
    ----------
    git_url : str
        Where it comes from.
    git_branch : str
        Branch, tag or commit that was asked for.
    commit : str
        What that was when the job was made.
    """

    git_url: str
    git_branch: str
    commit: str


def is_asked(config: Mapping[str, Any]) -> bool:
    """Tell whether a config names live code; an empty ``git_url`` does not."""
    return bool(config.get("git_url"))


def preflight(config: Mapping[str, Any], *, allow_network: bool) -> None:
    """Refuse live code that could not be fetched, without fetching it.

    Parameters
    ----------
    config : mapping
        An executor's config, with or without ``git_url`` and ``git_branch``.
    allow_network : bool
        Whether the host may go to the network for it.

    Raises
    ------
    PreflightFailed
        No ``git_branch``, or one that is no revision; a ``git_url`` that holds a password, speaks
        another protocol than https, ssh and file, or lies in the network where that is not allowed.
    """
    if not is_asked(config):
        return
    url, revision = config["git_url"], config.get("git_branch")
    if not isinstance(revision, str) or not _REVISION.fullmatch(revision) or ".." in revision:
        raise PreflightFailed(
            f"live code needs a git_branch: a branch, tag or commit of {url!r}; it is {revision!r}. Set git_branch."
        )
    if _is_remote(url) and not allow_network:
        raise PreflightFailed(
            f"git_url {url!r} lies in the network, which nobody opened. Allow it for this executor (ymir-nb executor "
            "add ... --allow network), or clone the repository and give its path as git_url."
        )


def fetch(git_url: str, git_branch: str, target: Path, *, limit_seconds: float = LIMIT_SECONDS) -> str:
    """Get a commit with its history into one file, a git bundle, from which any git can clone.

    A bundle, since git refuses to clone a folder that belongs to another user, as ``/in`` does for
    root in a container. No hook, filter or submodule of the repository is run or followed, and
    nobody is asked for a password.

    Parameters
    ----------
    git_url : str
        ``https://``, ``ssh://``, ``user@host:path``, ``file://`` or an absolute path.
    git_branch : str
        Branch, tag or commit, found in this order.
    target : Path
        The file to make.
    limit_seconds : float, default 600
        Longest time it may take.

    Returns
    -------
    str
        The commit, 40 hexadecimal digits.

    Raises
    ------
    PreflightFailed
        No such repository or revision, the network fails, or it takes too long; git's own words are
        in the message, and nothing is left behind.
    """
    preflight({"git_url": git_url, "git_branch": git_branch}, allow_network=True)
    with tempfile.TemporaryDirectory(prefix="ymir-nb-code-") as folder:
        clone, bundle = Path(folder) / "clone", Path(folder) / "bundle"
        said = _git("clone", "--bare", "--quiet", "--", git_url, str(clone), seconds=limit_seconds)
        if said is None:
            raise PreflightFailed(
                f"cloning {git_url!r} took over {limit_seconds:.0f} s and was ended. Try again, or clone it yourself "
                "and give the path as git_url."
            )
        if said.returncode:
            raise PreflightFailed(
                f"cannot clone git_url {git_url!r}: {_words(said)}. Check the address, the network, and that "
                f"`git ls-remote {git_url}` works here without a question."
            )
        commit = _resolve(clone, git_branch)
        if not commit:
            raise PreflightFailed(
                f"{git_url!r} has no branch, tag or commit {git_branch!r}; it has {_refs(clone)}. Correct git_branch."
            )
        if (clone / "shallow").exists():
            raise PreflightFailed(
                f"{git_url!r} is a shallow clone, which cannot be cloned on. Complete it: git fetch --unshallow"
            )
        for step in (
            ("update-ref", BRANCH, commit),
            ("symbolic-ref", "HEAD", BRANCH),
            ("bundle", "create", "--quiet", str(bundle), "HEAD", BRANCH),
        ):
            said = _git(*step, at=clone, seconds=limit_seconds)
            if said is None or said.returncode:
                raise PreflightFailed(f"git {step[0]} failed on {git_url!r}: {_words(said) if said else 'too long'}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(bundle, target)
    return commit


def place(config: Mapping[str, Any], job_dir: Path, in_root: str) -> dict[str, Any]:
    """Fetch the code that a config names into a job's ``in/code``, and name that place instead.

    What was asked for, and the commit that it was, are recorded in ``code.json`` beside ``in``.

    Parameters
    ----------
    config : mapping
        An executor's config.
    job_dir : Path
        Directory of the job.
    in_root : str
        ``in`` as the executor sees it.

    Returns
    -------
    dict
        The config, its ``git_url`` and ``git_branch`` replaced; unchanged where it names no code.

    Raises
    ------
    PreflightFailed
        As `fetch`.
    """
    if not is_asked(config):
        return dict(config)
    url, revision = config["git_url"], config["git_branch"]
    commit = fetch(url, revision, job_dir / "in" / CODE_FILE)
    write_atomically(job_dir / RECORD_FILE, json.dumps(asdict(Code(url, revision, commit)), indent=2))
    return dict(config) | {"git_url": f"{in_root}/{CODE_FILE}", "git_branch": commit}


def read(job_dir: Path) -> Code | None:
    """Give what code a job was made with; None where it has none."""
    try:
        return Code(**json.loads((job_dir / RECORD_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _is_remote(url: object) -> bool:
    """Tell whether a repository lies in the network; refuse what git should not be given."""
    scheme = _SCHEME.match(url) if isinstance(url, str) else None
    if scheme and scheme[2] and (":" in scheme[2] or scheme[1].lower() != "ssh"):
        raise PreflightFailed(
            "git_url holds a password or token, which would stand in the job's record. Leave it out, and use "
            "git's credential store or an ssh key."
        )
    if scheme and scheme[1].lower() in PROTOCOLS:
        return scheme[1].lower() != "file"
    if isinstance(url, str) and scheme is None and _SCP_LIKE.match(url):
        return True
    if isinstance(url, str) and url.startswith("/"):
        return False
    raise PreflightFailed(
        f"git_url {url!r} must be https://..., ssh://..., user@host:path, file:///... or an absolute path. Correct it."
    )


def _resolve(repository: Path, revision: str) -> str:
    """Find the commit of a branch, a tag or a commit's own name; empty where there is none."""
    names = [f"refs/heads/{revision}", f"refs/tags/{revision}"]
    names += [revision] if _COMMIT.fullmatch(revision) else []
    for name in names:
        found = _git("rev-parse", "--verify", "-q", "--end-of-options", f"{name}^{{commit}}", at=repository)
        if found is not None and not found.returncode:
            return found.stdout.decode().strip()
    return ""


def _refs(repository: Path) -> str:
    """List the first branches and tags."""
    found = _git("for-each-ref", "--count=10", "--format=%(refname:short)", at=repository)
    names = found.stdout.decode(errors="replace").split() if found else []
    return ", ".join(map(ascii, names)) or "none"


def _git(
    *arguments: str, at: Path | None = None, seconds: float = LIMIT_SECONDS
) -> subprocess.CompletedProcess[bytes] | None:
    """Run git; None where it took too long, and then nothing of it runs on."""
    where = [f"--git-dir={at}"] if at else []
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith(_INHERITED)}
    try:
        process = subprocess.Popen(
            ["git", *_NO_HOOKS, *where, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=inherited | _ENVIRONMENT,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise PreflightFailed("live code needs the program git, which was not found. Install it.") from error
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _words(done: subprocess.CompletedProcess[bytes]) -> str:
    """Give git's last words, in one line of printable text."""
    text = " ".join(done.stderr.decode(errors="replace").split())
    return "".join(c if c.isprintable() else "?" for c in text)[-500:].strip().rstrip(".") or f"exit {done.returncode}"
