"""Takes files away from a drop folder: the only code that ever removes a user's file.

A name can be given to another file at any instant, and no system call removes a name only if it
is still a certain file's. So a file is first given a name of ours, in its own folder. What has that
name then is compared with the file that was read, and nobody else puts another in its place.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from sensordrop.adapters.opened_file import OpenedFile
from sensordrop.adapters.source import FolderSource
from sensordrop.adapters.target import TargetFolder, target_is_missing
from sensordrop.adapters.unoverwritten import give_name
from sensordrop.core.failure import FailureError
from sensordrop.core.keys import path_text
from sensordrop.core.sandbox import drop_in
from sensordrop.core.taking import ASIDE, Traces, Wish, WishKind, name_of_ours
from sensordrop.ports.life import StopFlag
from sensordrop.ports.reading import DigestPlan, FileGoneError, RootMissingError
from sensordrop.ports.taking import CannotTakeError, FileToTake, LeftError

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOR_ALL = frozenset(
    {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE}
)
"""What is wrong with the folder or the target as a whole, and not with one file."""


class FolderTaking:
    """`ports.Taking` on a local folder."""

    def __init__(self, root: str, wish: Wish, source: FolderSource | None = None) -> None:
        """Take files away from below `root`, which `source` reads; `wish` is never to keep them."""
        assert wish.kind is not WishKind.KEEP, "nothing is taken from who keeps it"
        self._root = root
        self._wish = wish
        self._source = source or FolderSource(root)

    @property
    def wish(self) -> Wish:
        """What is done with the files."""
        return self._wish

    def check(self) -> None:
        """See that the root and the target can be written; see `ports.Taking.check`."""
        for folder in self._folders():
            with self._told():
                if not os.path.isdir(folder):  # noqa: PTH112 — asked of what may be odd names
                    raise target_is_missing(folder)
                if os.statvfs(folder).f_flag & os.ST_RDONLY:
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS), folder)
                if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
                    raise OSError(errno.EACCES, os.strerror(errno.EACCES), folder)
        root, *target = (os.path.realpath(each) for each in self._folders())
        if target and os.path.commonpath([root, *target]) == root:
            raise CannotTakeError(
                f"{self._wish.target} lies inside the drop folder {self._root}",
                "move files to a folder outside: there they would be found again",
            )

    def take(self, file: FileToTake, stop: StopFlag) -> str | None:
        """Read a file once more and take it away; see `ports.Taking.take`."""
        with self._told():
            try:
                with self._source.open(file.path) as opened:
                    self._prove(opened, file, stop)
                    if self._wish.kind is WishKind.DELETE:
                        self._remove(opened, file, lambda: True)
                        return None
                    target = TargetFolder(self._wish.target)
                    moved_to = target.receive(opened, file, stop)
                    self._remove(opened, file, lambda: target.holds(moved_to))
                    return path_text(moved_to)
            except (FileGoneError, RootMissingError) as error:
                raise LeftError("it is no longer there") from error
            except FailureError as error:
                raise LeftError(error.failure.message) from error

    def mend(self, file: FileToTake, wish: Wish, stop: StopFlag) -> Traces:
        """Put back what was on its way out; see `ports.Taking.mend`."""
        with self._told():
            aside = self._put_back(file)
            in_place = aside or self._source.look(file.path) is not None
            moved_to = None
            if wish.kind is WishKind.MOVE:
                moved_to = TargetFolder(wish.target).find(file, stop)
        return Traces(in_place=in_place, aside=aside, moved_to=moved_to)

    def remove_empty(self, folders: Iterable[bytes]) -> int:
        """Remove empty folders, the deepest first; see `ports.Taking.remove_empty`."""
        removed = 0
        for path in sorted(folders, key=lambda each: -each.count(b"/")):
            if not path:
                continue  # the root stays
            with self._told(), self._folder_of(path) as (above, name):
                try:
                    os.rmdir(name, dir_fd=above)
                except OSError as error:
                    # Junk, a file that stays, or one that somebody put there just now.
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                        raise
                else:
                    removed += 1
        return removed

    # --- one file -------------------------------------------------------------------------

    def _prove(self, opened: OpenedFile, file: FileToTake, stop: StopFlag) -> None:
        """See that an open file is the one that was stored, byte for byte, and nobody writes it."""
        if opened.device != self._source.device():
            raise LeftError("it is on another file system than its folder")
        if opened.opened != file.fingerprint:
            raise LeftError("its size or times changed")
        size_bytes = opened.digest(DigestPlan(md5=False), stop)
        if (size_bytes, opened.sha256) != (file.fingerprint.size_bytes, file.sha256):
            raise LeftError("its bytes are not those that were stored")
        if opened.being_written():
            raise LeftError("somebody has it open for writing")
        if opened.fingerprint() != opened.opened:
            raise LeftError("it changed while it was read")

    def _remove(self, opened: OpenedFile, file: FileToTake, kept: Callable[[], bool]) -> None:
        """Remove the name of a file that was proven; what turns out to be another gets it back.

        `kept` tells whether it still is where it was moved: where folder and target are one by
        some mount, it left both with its name.
        """
        with self._folder_of(file.path) as (folder, name):
            aside = _aside(file)
            if _there(aside, folder):
                raise LeftError(f"{path_text(aside)} is in the way beside it")
            os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
            try:
                self._same_still(opened, file, os.stat(aside, dir_fd=folder, follow_symlinks=False))
                if not kept():
                    raise LeftError("the target is the drop folder itself, by another way")
                os.unlink(aside, dir_fd=folder)
            except BaseException:
                _give_back(aside, name, folder)
                raise

    def _same_still(self, opened: OpenedFile, file: FileToTake, found: os.stat_result) -> None:
        """See that what has our name now is the file that was read, as it was read.

        Its change time is another one: it was renamed, and perhaps linked.
        """
        mine = os.fstat(opened.fileno())
        if (found.st_dev, found.st_ino) != (mine.st_dev, mine.st_ino):
            raise LeftError("another file took its place")
        now = opened.fingerprint()
        before = file.fingerprint
        if (now.size_bytes, now.mtime_ns) != (before.size_bytes, before.mtime_ns):
            raise LeftError("it changed after it was read")
        if opened.being_written():
            raise LeftError("somebody opened it for writing")

    def _put_back(self, file: FileToTake) -> bool:
        """Give a file its name back that has ours; True: it keeps ours, its own is taken."""
        try:
            with self._folder_of(file.path) as (folder, name):
                aside = _aside(file)
                if not _there(aside, folder):
                    return False
                try:
                    give_name(aside, name, folder, folder)
                except FileExistsError:
                    return True
                return False
        except (FileNotFoundError, NotADirectoryError):
            return False  # its folder is gone, and whatever was in it

    # --- folders --------------------------------------------------------------------------

    def _folders(self) -> list[str]:
        return [each for each in (self._root, self._wish.target) if each]

    @contextmanager
    def _folder_of(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """Give a descriptor of the folder that holds a path, through no link, and the last name."""
        *folders, name = path.split(b"/")
        at = os.open(self._root, _FOLDER_FLAGS & ~os.O_NOFOLLOW)
        try:
            for part in folders:
                deeper = os.open(part, _FOLDER_FLAGS, dir_fd=at)
                os.close(at)
                at = deeper
            yield at, name
        finally:
            os.close(at)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in words what the system refuses: of one file, or of all of them."""
        try:
            yield
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            if error.errno not in _FOR_ALL:
                raise LeftError(f"it could not be taken away: {why}") from error
            where = " or ".join(path_text(os.fsencode(each)) for each in self._folders())
            raise CannotTakeError(f"{where} can't be written: {why}", self._hint(error)) from error

    def _hint(self, error: OSError) -> str:
        if error.errno == errno.EROFS:
            return (
                f"systemctl edit sensordropd, and give it: {drop_in(self._folders())}; then "
                "systemctl restart sensordropd. Where the card's own switch is on, flip it"
            )
        if error.errno in (errno.EACCES, errno.EPERM):
            return (
                "let the service's user write there (setfacl -R -m u:sensordrop:rwX …, see "
                "docs/operating/systemd.md), or set after_verified: keep"
            )
        return "look at the disk, and how full it is"


def _aside(file: FileToTake) -> bytes:
    return name_of_ours(ASIDE, file.number, file.sha256)


def _there(name: bytes, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _give_back(aside: bytes, name: bytes, folder: int) -> None:
    """Give a file its name back, where it still has ours. One whose name was taken by another
    meanwhile keeps ours: both are there.
    """
    with suppress(FileNotFoundError, FileExistsError):
        give_name(aside, name, folder, folder)
