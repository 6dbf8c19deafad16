"""Does what a Dockerfile says, on a machine without a container engine. As root.

The base image is stood in for by the Debian that tests/system/prepare.sh makes, which is the
release of the image's name, with Debian's Python under the image's name for it. Packages come from
a folder, so that nothing depends on how a build reaches its index.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from machine import CACHE

STEP_SECONDS = 600
"""How long one step may take. Generous: a slow machine is no defect."""


@dataclass(kw_only=True)
class Image:
    """A stage as it is after its last step."""

    root: Path
    environment: dict[str, str] = field(
        default_factory=lambda: {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        }
    )
    folder: str = "/"
    user: str = "0"
    program: Sequence[str] = ()
    arguments: Sequence[str] = ()
    healthcheck: Sequence[str] = ()
    stop_signal: str = ""
    volumes: list[str] = field(default_factory=list)

    def command(
        self, argv: Sequence[str], *, user: str | None = None, more: Mapping[str, str] | None = None
    ) -> list[str]:
        """Give the command that runs a program in it, as its user and without any privilege."""
        become = ["/usr/bin/setpriv", "--no-new-privs", "--clear-groups"]
        account = self.user if user is None else user
        if account != "0":
            group = f"--regid={self._group(account)}"
            become += [f"--reuid={account}", group, "--bounding-set=-all", "--inh-caps=-all"]
        variables = {**self.environment, **(more or {})}
        return [
            "chroot", str(self.root), "/usr/bin/env", "--ignore-environment",
            f"--chdir={self.folder}", *(f"{name}={value}" for name, value in variables.items()),
            *become, "--", *argv,
        ]  # fmt: skip

    def _group(self, uid: str) -> str:
        """Give the main group of a user, as an engine looks it up; root's for one without a name."""
        accounts = (self.root / "etc/passwd").read_text(encoding="utf-8").splitlines()
        groups = [words[3] for words in (line.split(":") for line in accounts) if words[2] == uid]
        return groups[0] if groups else "0"


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Give each instruction with its words, comments left out and lines joined."""
    lines = [
        line
        for line in dockerfile.read_text(encoding="utf-8").splitlines()
        if line and not line.lstrip().startswith("#")
    ]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        name, _, words = line.strip().partition(" ")
        yield name, words


class Builder:
    """Builds all stages of one Dockerfile in a folder, and takes them away again."""

    def __init__(self, folder: Path, dockerfile: Path, wheels: Path) -> None:
        self._folder = folder
        self._context = dockerfile.parent
        self._dockerfile = dockerfile
        self._wheels = wheels
        self._stages: dict[str, Image] = {}
        # In memory: some hundred megabytes in thousands of files, for as long as a test takes.
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)

    def build(self) -> Image:
        """Do every step and give the last stage. An instruction that is not known here fails."""
        image: Image | None = None
        for name, words in instructions(self._dockerfile):
            if name == "FROM":
                base, _, alias = words.partition(" AS ")
                assert base.endswith("-bookworm"), f"{base} is not what {CACHE / 'root'} is"
                image = Image(root=self._new_root(alias or str(len(self._stages))))
                self._stages[alias or str(len(self._stages))] = image
                continue
            assert image is not None
            getattr(self, f"_{name.lower()}")(image, words)
        assert image is not None
        return image

    def close(self) -> None:
        """Unmount and remove everything."""
        subprocess.run(["umount", "--lazy", "--recursive", self._folder], check=True)

    def _new_root(self, name: str) -> Path:
        here = self._folder / name
        for each in ("upper", "work", "root"):
            (here / each).mkdir(parents=True)
        layers = f"lowerdir={(CACHE / 'root').resolve()},upperdir={here}/upper,workdir={here}/work"
        subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", layers, here / "root"], check=True
        )
        (here / "root/usr/local/bin/python").symlink_to("/usr/bin/python3")
        for source, place in (
            (self._wheels, "wheels"),
            (Path("/dev"), "dev"),
            (Path("/proc"), "proc"),
        ):
            (here / "root" / place).mkdir(exist_ok=True)
            subprocess.run(["mount", "--bind", source, here / "root" / place], check=True)
        return here / "root"

    # --- one instruction each -----------------------------------------------------------------

    def _run(self, image: Image, words: str) -> None:
        wheels = {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "/wheels",
            "PIP_ROOT_USER_ACTION": "ignore",
        }
        done = subprocess.run(
            image.command(["/bin/sh", "-ec", words], user="0", more=wheels),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=STEP_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, f"RUN {words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    def _copy(self, image: Image, words: str) -> None:
        given = shlex.split(words)
        source_root, ignored = self._context, self._ignored()
        if given[0].startswith("--from="):
            source_root, ignored = self._stages[given.pop(0).removeprefix("--from=")].root, []
        source, target = given
        to = image.root / Path(image.folder, target).relative_to("/")

        def left_out(folder: str, names: list[str]) -> list[str]:
            inside = Path(folder).relative_to(source_root)
            return [each for each in names if _matches(str(inside / each), ignored)]

        shutil.copytree(source_root / source.lstrip("/"), to, symlinks=True, dirs_exist_ok=True,
                        ignore=left_out)  # fmt: skip

    def _ignored(self) -> list[str]:
        return (self._context / ".dockerignore").read_text(encoding="utf-8").split()

    def _workdir(self, image: Image, words: str) -> None:
        image.folder = words
        (image.root / words.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _env(self, image: Image, words: str) -> None:
        for pair in shlex.split(words):
            name, _, value = pair.partition("=")
            known = {f"${each}": had for each, had in image.environment.items()}
            for variable, had in known.items():
                value = value.replace(variable, had)
            image.environment[name] = value

    def _user(self, image: Image, words: str) -> None:
        image.user = words

    def _volume(self, image: Image, words: str) -> None:
        image.volumes.append(words)

    def _stopsignal(self, image: Image, words: str) -> None:
        image.stop_signal = words

    def _healthcheck(self, image: Image, words: str) -> None:
        image.healthcheck = json.loads(words.partition(" CMD ")[2])

    def _entrypoint(self, image: Image, words: str) -> None:
        image.program = json.loads(words)

    def _cmd(self, image: Image, words: str) -> None:
        image.arguments = json.loads(words)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(
        fnmatch.fnmatch(f"x/{path}", f"*/{each.removeprefix('**/')}")
        if each.startswith("**/")
        else fnmatch.fnmatch(path, each)
        for each in patterns
    )
