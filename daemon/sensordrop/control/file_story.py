"""A file's story as it goes over the socket, and as it is read there again."""

from __future__ import annotations

from functools import cache
from typing import cast

from pydantic import TypeAdapter

from sensordrop.control.told import Told
from sensordrop.core.story import FileStory


def story_told(story: FileStory) -> Told:
    """Write a story for programs: its values by their names, instants in ISO 8601."""
    return cast("Told", _form().dump_python(story, mode="json"))


def story_of(told: Told) -> FileStory:
    """Read a story that `story_told` wrote. Raises ValueError where it is none."""
    return _form().validate_python(told)


@cache
def _form() -> TypeAdapter[FileStory]:
    """Give what knows the form; made when it is first needed, for that takes a while."""
    return TypeAdapter(FileStory)
