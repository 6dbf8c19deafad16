"""Kills a program of sensordrop at a named point. Python imports this where a test puts it in the way.

CRASH_AT names the point:

    sql:before execute:WORDS    a statement with these words is about to be sent
    sql:after execute:WORDS     it was carried out, its transaction is open
    sql:before commit:WORDS     its transaction is about to be committed
    sql:after commit:WORDS      it was committed, and the program does not know
    call:before:MODULE:NAME     a function is about to be called (NAME may be Class.method)
    call:after:MODULE:NAME      it has returned

CRASH_MARK names a file that is made right before, so that a test knows that it was
this that killed the program.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import signal
import sys
from pathlib import Path


def die() -> None:
    Path(os.environ["CRASH_MARK"]).touch()
    os.kill(os.getpid(), signal.SIGKILL)


def dying(function, when: str):
    @functools.wraps(function)
    def call(*args, **more):
        if when == "before":
            die()
        result = function(*args, **more)
        die()
        return result

    return call


class Patcher(importlib.abc.MetaPathFinder):
    """Changes one module right after it was loaded."""

    def __init__(self, module: str, change) -> None:
        self._module = module
        self._change = change

    def find_spec(self, name, path=None, target=None):
        if name != self._module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module) -> None:
            load(module)
            self._change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def change_call(when: str, name: str):
    def change(module) -> None:
        owner, _, last = name.rpartition(".")
        holder = getattr(module, owner) if owner else module
        setattr(holder, last, dying(getattr(holder, last), when))

    return change


def change_psycopg2(when: str, words: str):
    def change(module) -> None:
        from psycopg2 import extensions

        class Cursor(extensions.cursor):
            def execute(self, sql, *args):
                hit = words in str(sql)
                if hit and when == "before execute":
                    die()
                super().execute(sql, *args)
                if hit and when == "after execute":
                    die()
                self.connection.was_hit = self.connection.was_hit or hit

        class Connection(extensions.connection):
            was_hit = False

            def cursor(self, *args, **more):
                return super().cursor(*args, cursor_factory=Cursor, **more)

            def commit(self) -> None:
                if self.was_hit and when == "before commit":
                    die()
                super().commit()
                if self.was_hit and when == "after commit":
                    die()
                self.was_hit = False

        module.connect = functools.partial(module.connect, connection_factory=Connection)

    return change


point = os.environ.get("CRASH_AT", "")
if point.startswith("sql:"):
    _, moment, text = point.split(":", 2)
    sys.meta_path.insert(0, Patcher("psycopg2", change_psycopg2(moment, text)))
elif point.startswith("call:"):
    _, moment, where, function_name = point.split(":")
    sys.meta_path.insert(0, Patcher(where, change_call(moment, function_name)))
