"""What a worker process starts from: the program's interpreter, environment, directory, search path and command line.

Taken once, in the coordinator's process, when the coordinator is made. So a worker that replaces another starts from
the same, whatever the program has changed since, or changes at this moment in another thread.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from typing import Any, Final, Self

from ... import standard_streams
from ...errors import FloxideError
from ...wire import hash_seed, search_path

_ADVICE: Final = (
    "name the Python {} that workers are to be run by: multiprocessing.set_executable(path), with what the program "
    "imports installed there; or run inline: workers=0"
)
_default: str | None = None  # what ``sys.executable`` was before ``multiprocessing`` was asked to start anything
_ONE_THREAD: Final = (  # what libraries take their number of threads from
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TBB_NUM_THREADS",
)


class Preparation:
    """All of it, and the hash seed of the workers that are started from it. ``close`` it when no more are.

    Attributes:
        python: the command that starts an interpreter with this one's options.
        environment: of the workers.
        hash_seed: 0 to 2**32 - 1.

    Raises:
        FloxideError: there is no interpreter that could be a worker, or this process must not start any.
    """

    def __init__(self) -> None:
        standard_streams.occupy()
        self.python = (interpreter(), *_flags())
        self.environment, self._restored = _environment()
        self.hash_seed = hash_seed.drawn()
        self._path = search_path.absolute()
        self._arguments = _arguments()
        try:
            self._directory = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._directory = -1  # one that cannot be entered: workers inherit it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Start no more workers from it."""
        directory, self._directory = self._directory, -1
        if directory >= 0:
            os.close(directory)

    @property
    def inherited(self) -> tuple[int, ...]:
        """The descriptors that a worker needs for ``program``."""
        return () if self._directory < 0 else (self._directory,)

    def program(self, module: str, call: str) -> bytes:
        """The first code that a worker runs, whose last line calls something of a module."""
        lines = [
            "import gc, os, sys",
            "gc.disable()",
            f"if sys.implementation.cache_tag != {sys.implementation.cache_tag!r}:",
            f"    sys.exit({_other_version()!r} % (sys.executable, sys.version.split()[0]))",
            f"sys.path[:] = {self._path!r}",
            f"sys.argv[:] = {self._arguments!r}",
            f"os.environ.update({self._restored!r})",
        ]
        if self._directory >= 0:
            lines += [f"os.fchdir({self._directory})", f"os.close({self._directory})"]
        return "\n".join([*lines, f"from {module} import {call.partition('(')[0]}", call]).encode()


def interpreter() -> str:
    """The path of the Python that workers are run by: as ``multiprocessing`` has it.

    Raises:
        FloxideError: there is none, or it is known to be another program.
    """
    version = "{}.{}".format(*sys.version_info)
    advice = _ADVICE.format(version)
    named = _named() or ""
    python = os.fsdecode(named) if isinstance(named, str | bytes | os.PathLike) else ""
    if not python:
        raise FloxideError(f"workers cannot be started: sys.executable is {sys.executable!r}; {advice}")
    host = _host()
    if host and sys.executable and _same(python, sys.executable):
        text = f"workers cannot be started: {host}, so sys.executable, {python}, is the program itself; {advice}"
        raise FloxideError(text)
    return python


def not_python(python: str, error: OSError | None = None) -> str:
    """Why a program has run no code of ours, in words. With an error: that of the start."""
    advice = _ADVICE.format("{}.{}".format(*sys.version_info))
    how = "has not run as a Python interpreter" if error is None else f"cannot be run: {error.strerror}"
    return f"{python} {how}; {advice}"


def _named() -> str | bytes | None:
    """What the user has told ``multiprocessing``, or else ``sys.executable``."""
    global _default
    loaded: Any = sys.modules.get("multiprocessing.spawn")  # importing it here would take each program 10 ms
    if loaded is None:
        _default = sys.executable  # what ``multiprocessing`` will find, when we import it: nobody has told it that
        return _default
    told: str | bytes | None = loaded.get_executable()
    return sys.executable if not told or os.fsdecode(told) == _default else told


def _host() -> str:
    """What runs this interpreter that is no interpreter by itself, in words; "" if nothing is known to."""
    if getattr(sys, "frozen", False):
        return "the program is frozen (sys.frozen)"
    if hasattr(sys.modules.get("__main__"), "__compiled__"):
        return "the program is compiled (Nuitka)"
    if "uwsgi" in sys.modules or "uwsgi" in sys.builtin_module_names:
        return "the program runs in uWSGI"
    return ""


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return one == other


def _arguments() -> list[str]:
    """The command line, as workers have it; nothing, where a host has put something else there."""
    arguments = getattr(sys, "argv", None)
    return [str(argument) for argument in arguments] if isinstance(arguments, list | tuple) else []


def _flags() -> list[str]:
    """This interpreter's options, but for those that would keep a hash seed from the workers."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    for ours, theirs in (("-E", []), ("-I", ["-s", "-P"])):
        if ours in flags:
            at = flags.index(ours)
            flags[at : at + 1] = theirs
    # Of the -X options the standard library hands on those that it knows to be harmless. A node's answer may hang on
    # the others (int_max_str_digits, utf8, gil), or on one that only the user's code asks for.
    handed_on = {text.partition("=")[0] for option, text in pairwise(flags) if option == "-X"}
    for name, value in sys._xoptions.items():
        if name not in handed_on:
            flags += ["-X", name if value is True else f"{name}={value}"]
    return flags


def _environment() -> tuple[dict[str, str], dict[str, str]]:
    """The environment to start a worker with, and what the worker is to add to it.

    The latter is what an interpreter that starts must not see: Python's own variables, if this one passed over them.
    """
    # Not ``dict(os.environ)``, which fails if another thread removes a variable meanwhile.
    named = [(name, os.environ.get(name)) for name in list(os.environ)]
    whole = {**dict.fromkeys(_ONE_THREAD, "1"), **{name: text for name, text in named if text is not None}}
    if not sys.flags.ignore_environment:
        return whole, {}
    hidden = {name: text for name, text in whole.items() if name.startswith("PYTHON") and name != hash_seed.NAME}
    return {name: text for name, text in whole.items() if name not in hidden}, hidden


def _other_version() -> str:
    advice = _ADVICE.format("{}.{}".format(*sys.version_info)).replace("%", "%%")
    return f"workers would be run by %s, which is Python %s; {advice}"
