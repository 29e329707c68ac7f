"""The few git verbs that a workspace needs, through the git program itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from ymir_nb.backend.errors import StoreError

IDENTITY = {"user.name": "ymir-nb", "user.email": "ymir-nb@localhost"}


class Git:
    """A git work tree.

    Parameters
    ----------
    root : Path
        Top folder of the work tree.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        """Run git and give its standard output.

        Raises
        ------
        StoreError
            Git is not installed, or ended with an error; its own words are in the message.
        """
        environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=self.root, input=stdin, capture_output=True, check=True, env=environment
            )
        except FileNotFoundError as error:
            raise StoreError("the program git was not found. Install it: a workspace is a git repository.") from error
        except subprocess.CalledProcessError as error:
            words = error.stderr.decode(errors="replace").strip() or error.stdout.decode(errors="replace").strip()
            raise StoreError(f"git {arguments[0]} failed in {self.root}: {words}") from error
        return done.stdout

    def init(self) -> None:
        """Make a repository on branch main, unless this folder is the top of one already."""
        if not (self.root / ".git").exists():
            self.run("init", "-q", "-b", "main")
        for key, value in IDENTITY.items():
            if not self._configured(key):
                self.run("config", "--local", key, value)

    def commit(self, paths: Iterable[Path], message: str) -> str:
        """Commit these files alone, whatever else is staged; give the commit's hash.

        Nothing is committed where none of them changed.
        """
        relative = [path.relative_to(self.root).as_posix() for path in paths]
        self.run("add", "--force", "--", *relative)
        if self.run("status", "--porcelain", "--", *relative).strip():
            identity = [part for k, v in IDENTITY.items() if not self._configured(k) for part in ("-c", f"{k}={v}")]
            self.run(*identity, "commit", "-q", "--no-verify", "-m", message, "--", *relative)
        return self.head()

    def head(self) -> str:
        """Hash of the commit that is checked out, or the empty text where there is none yet."""
        try:
            return self.run("rev-parse", "--verify", "-q", "HEAD").decode().strip()
        except StoreError:
            return ""

    def show(self, revision: str, path: str) -> bytes | None:
        """Give a file's bytes at a revision, or None where that revision has no such file.

        Raises
        ------
        StoreError
            The revision itself does not exist.
        """
        commit = self.resolve(revision)
        listed = self.run("ls-tree", "-z", commit, "--", path)
        return self.run("cat-file", "blob", f"{commit}:{path}") if listed else None

    def resolve(self, revision: str) -> str:
        """Give the commit that a branch, tag or hash names."""
        return self.run("rev-parse", "--verify", "-q", "--end-of-options", f"{revision}^{{commit}}").decode().strip()

    def history(self, path: str) -> list[tuple[str, bytes]]:
        """List every commit of this branch that changed a file, newest first, with the file's bytes."""
        if not self.head():
            return []
        commits = self.run("log", "--format=%H", "--", path).decode().split()
        if not commits:
            return []
        answer = self.run("cat-file", "--batch", stdin="".join(f"{c}:{path}\n" for c in commits).encode())
        found = []
        for commit in commits:
            header, _, answer = answer.partition(b"\n")
            if header.endswith(b"missing"):
                continue
            size = int(header.split()[-1])
            found.append((commit, answer[:size]))
            answer = answer[size + 1 :]
        return found

    def tracked(self, folder: str, suffix: str) -> list[str]:
        """List the files of a folder that HEAD holds, by suffix, sorted."""
        if not self.head():
            return []
        names = self.run("ls-tree", "-z", "--name-only", "HEAD", "--", f"{folder}/").decode().split("\0")
        return sorted(Path(name).name for name in names if name.endswith(suffix))

    def _configured(self, key: str) -> bool:
        try:
            return bool(self.run("config", key).strip())
        except StoreError:
            return False
