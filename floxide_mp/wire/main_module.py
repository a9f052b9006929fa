"""``__main__``: whether it is a script that workers can run, and running it there. Pickling is ``codec``'s.

A script with a file and a ``__main__`` guard goes to the workers as its text, and each runs it, but for what is under
the guard, before anything of a workflow is opened. What the script defines is then found there under its name, and what
it sets for the process (precisions, filters, registries) is set. ``sys.modules["__main__"]`` is the script in both
processes, so whatever is pickled by name in one is found in the other.

What is not such a script (a notebook, a prompt, standard input, a script without a guard) cannot be run once more, and
what it defines travels by value. So does what is defined or bound under the guard.

Runs in the program's process (``script_here``) and in workers (``enter``).
"""

from __future__ import annotations

import os
import sys
from _thread import RLock
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from types import CodeType, ModuleType
from typing import Any, Final, NamedTuple

from ..errors import FloxideError
from . import main_guard

NAMES: Final = ("__main__", "__mp_main__")  # the second is that of a process which ``multiprocessing`` has spawned
ADVICE: Final = 'put it into a module (or give the script an `if __name__ == "__main__":` guard)'


class Script(NamedTuple):
    """What a worker needs to run it.

    Attributes:
        path: of its file, absolute.
        module: the module's name, if the program was started with ``python -m``; else None.
        package: of that module.
        source: the text; what a worker runs that starts later is what this program runs, though the file is edited.
    """

    path: str
    module: str | None
    package: str | None
    source: bytes


class MainScript(NamedTuple):
    """A script that is ``__main__`` in this process, whose things go by name.

    Attributes:
        script: for the workers.
        late: the names that are bound under its guard, where no worker comes.
        rebound: the names that its functions bind by ``global``.
    """

    script: Script
    late: frozenset[str]
    rebound: frozenset[str]


# Alias, as in ``multiprocessing``: what a spawned process has pickled refers to it.
sys.modules.setdefault("__mp_main__", sys.modules["__main__"])


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


_FIRST: Final = sys.modules["__main__"]
_STAMP: Final = _stamp(getattr(_FIRST, "__file__", None) or "")  # when the program imported this package

_RUNNERS: Final = frozenset({"cProfile", "profile", "trace"})  # of the standard library; the others take its place
_LOST: Final = "workers get what it defines by value, and not what it sets for its process (precisions, filters)"
_AS_USUAL: Final = 'have everything that only the program does under `if __name__ == "__main__":`'
_BY_ITSELF: Final = "what needs that belongs into a module, or start the profiler in the script (cProfile.Profile())"

_known: tuple[ModuleType, bool, MainScript | None] | None = (
    None  # of which ``__main__``, whether at a prompt; what it is
)
_entered: Script | None = None  # by this process, which is a worker
_entering: Final = RLock()
_offered: set[str] = set()  # names of a ``__main__`` that goes by value
_left: list[ModuleType] = []  # former ``__main__``s of a worker: a module that nobody has loses its globals
missing: frozenset[str] = frozenset()  # names of the script that could not be sent to this worker


def script_here() -> MainScript | None:
    """The script that ``__main__`` is in this process, if workers can run it, or this is a worker that has run it."""
    global _known
    main, prompt = sys.modules["__main__"], hasattr(sys, "ps1")
    if _known is None or _known[0] is not main or _known[1] is not prompt:
        _known = main, prompt, _looked_at(main, prompt)
    return _known[2]


def by_name(obj: Any) -> bool:
    """Whether it goes by its name in ``__main__``, since workers find it there."""
    home = script_here()
    if home is None or getattr(obj, "__module__", None) not in NAMES:
        return False
    name = name_of(obj)
    return name.partition(".")[0] not in home.late and found(name) is obj


def name_of(obj: Any) -> str:
    """The qualified name that it has in its module, by its own account; "" if it has none."""
    name = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", "")
    return name if isinstance(name, str) else ""


def found(name: str) -> Any:
    """What ``__main__`` has under a qualified name; None: there is no such thing."""
    at: Any = sys.modules["__main__"]
    for part in name.split("."):
        at = getattr(at, part, None)
    return at


def definitions() -> tuple[str, ...]:
    """The names of all that ``__main__`` itself has made, which values may refer to."""
    return tuple(name for name, value in list(vars(sys.modules["__main__"]).items()) if is_own(value))


def unrun(home: MainScript, globals_of: Callable[[CodeType], Iterable[str]]) -> dict[str, Any]:
    """What workers do not get by running the script: what is bound under its guard, or again by its functions.

    That is: each definition under the guard, and each value that some function of the script looks up by its name.

    Args:
        home: the script.
        globals_of: gives the global names that a function looks up.
    """
    bound = {name: value for name, value in vars(sys.modules["__main__"]).items() if name in home.late | home.rebound}
    if not bound:
        return {}
    code = _code(home.script)
    asked = {name for part in code.co_consts if isinstance(part, CodeType) for name in globals_of(part)}
    return {name: value for name, value in bound.items() if name in asked or (name in home.late and is_own(value))}


@lru_cache(1)
def _code(script: Script) -> CodeType:
    return main_guard.without(script.source, script.path)


def enter(script: Script, not_sent: frozenset[str] = frozenset()) -> None:
    """Run the script in this worker, but for what is under its guard; once.

    Args:
        script: of the program.
        not_sent: names that are bound under the guard, and could not be sent.

    Raises:
        FloxideError: it ended with ``sys.exit``.
        Exception: that of the script.
    """
    global _entered, missing
    with _entering:
        if _entered is None and _path_of(sys.modules["__main__"]) == script.path:
            return  # this is the program itself, or a process that it has forked, or ``multiprocessing`` spawned
        if script != _entered:
            _run(script)
            _entered = script
        missing = not_sent
        for name in not_sent:
            vars(sys.modules["__main__"]).pop(name, None)  # or another value would be taken for it


def _run(script: Script) -> None:
    global _known
    before = sys.modules["__main__"], sys.modules["__mp_main__"], _known
    module = _module_of(script)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    _left.append(before[0])
    _known = module, hasattr(sys, "ps1"), MainScript(script, frozenset(), frozenset())
    try:
        if script.package:
            __import__(script.package)
        exec(_code(script), vars(module))
    except BaseException as error:
        sys.modules["__main__"], sys.modules["__mp_main__"], _known = before
        if isinstance(error, Exception | KeyboardInterrupt):
            error.add_note(f"raised by the script {script.path}, which each worker runs, to have what it defines")
            raise
        said = f" ({error.__context__})" if error.__context__ is not None else ""
        what = f"sys.exit({error.code!r})" if isinstance(error, SystemExit) else repr(error)
        raise FloxideError(
            f"the script {script.path} ended with {what}{said} as a worker ran it, to have what it defines (sys.argv "
            f"is {sys.argv!r} there); what only the program itself is to do belongs under its "
            'if __name__ == "__main__":'
        ) from error


def _module_of(script: Script) -> ModuleType:
    from importlib.machinery import ModuleSpec, SourceFileLoader

    module = ModuleType("__main__")
    module.__file__, module.__package__ = script.path, script.package
    module.__loader__ = loader = SourceFileLoader("__main__", script.path)
    if script.module is not None:
        module.__spec__ = ModuleSpec(script.module, loader, origin=script.path)
    return module


def warn_of_size(size: int) -> None:
    """A workflow that goes by value has taken a lot along: say what it may be, and where it belongs."""
    import logging

    def size_of(name: str) -> int:
        value = vars(sys.modules["__main__"])[name]
        return max(sys.getsizeof(value), getattr(value, "nbytes", 0) if not isinstance(value, type) else 0)

    name = max(vars(sys.modules["__main__"]), key=size_of)
    text = "the workflow takes %.0f MB to each worker; what its nodes share belongs into the context, as Fixed(...), %s"
    which = f"of which workers share one copy (the largest global here is {name})"
    logging.getLogger("floxide_mp").warning(text, size / 1e6, which)


def offer(groups: Iterable[tuple[Iterable[str], bytes]], load: Callable[[bytes], Any]) -> None:
    """Have ``__main__`` of this worker give more of what that of the program has, to code that asks it by name.

    That is ``pickle.load`` of what the program has written, or ``from __main__ import``. Each is opened when it is
    asked for: it may import what the nodes do not need.
    """
    main = sys.modules["__main__"]
    pickles = {name: made for names, made in groups for name in names}
    if not pickles or _path_of(main) is not None:
        return  # this is the program itself

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in pickles:
            raise AttributeError(f"module '__main__' has no attribute {name!r} in this worker: {ADVICE}", name=name)
        try:
            found = load(pickles[name])
        except Exception as error:
            raise AttributeError(f"{name} of '__main__' cannot be had in this worker: {ADVICE}", name=name) from error
        for other, value in found.items():
            vars(main).setdefault(other, value)
        return vars(main)[name]

    main.__getattr__ = __getattr__  # type: ignore[method-assign]
    _offered.update(pickles)


def note(failure: BaseException) -> None:
    """Say with an error what is the matter with a name of the script that this worker does not have."""
    if isinstance(failure, NameError) and failure.name in missing:
        failure.add_note(
            f'{failure.name} is bound under the script\'s `if __name__ == "__main__":`, and cannot be sent to workers: '
            "bind it above that, where each worker runs it, or put it into a module"
        )
    elif _offered and (name := _asked_for(failure)) is not None:
        failure.add_note(f"{name} is of the program's __main__; workers have what the nodes refer to: {ADVICE}")


def _asked_for(failure: BaseException) -> str | None:
    """The name in ``__main__`` that was looked up where it is not."""
    text = str(failure)
    if isinstance(failure, KeyError | NameError):
        name = failure.args[0] if isinstance(failure, KeyError) and failure.args else getattr(failure, "name", None)
        return name if isinstance(name, str) and name in _offered else None
    if isinstance(failure, AttributeError) and "on <module '__main__'" in text:
        return text.rpartition("attribute '")[2].partition("'")[0]
    return "what is imported" if isinstance(failure, ImportError) and failure.name == "__main__" else None


# -- the program's side ---------------------------------------------------------------------------------------------


def _looked_at(main: ModuleType, prompt: bool) -> MainScript | None:
    path = _path_of(main)
    # At a prompt (also behind a script, after ``python -i``) more may be defined than is in the file.
    if path is None or prompt:
        return None
    if _is_installed(main, path):
        _warn_of_runner(main)
        return None
    try:
        source = _source(main, path)
        guards = main_guard.looked_at(source, path)
    except (OSError, SyntaxError, ValueError):
        return None
    if not guards.found and main.__name__ != "__mp_main__":
        if guards.unclear:
            _warn(f"what {path} does with __name__ is not recognised as a guard: {_LOST}; {_AS_USUAL}")
        return None
    if main is _FIRST and _stamp(path) != _STAMP:
        _warn(f"{path} was changed since this program began: workers get what it defines by value")
        return None
    spec = getattr(main, "__spec__", None)
    script = Script(path, getattr(spec, "name", None), getattr(main, "__package__", None), source)
    return MainScript(script, guards.late, frozenset(main_guard.rebound(source)))


def _source(main: ModuleType, path: str) -> bytes:
    """Its text, which may be in an archive (``python app.pyz``).

    Raises:
        OSError, ValueError: it cannot be had.
    """
    get_data = getattr(getattr(main, "__loader__", None), "get_data", None)
    try:
        with open(path, "rb") as file:
            return file.read()
    except NotADirectoryError:
        if get_data is None:
            raise
        return bytes(get_data(path))


def _warn_of_runner(main: ModuleType) -> None:
    """A script that a module of the standard library runs (``python -m cProfile script.py``) is not ``__main__``."""
    module, path = getattr(getattr(main, "__spec__", None), "name", None), sys.argv[0]
    if module not in _RUNNERS or not os.path.isfile(path):
        return
    with suppress(OSError, SyntaxError, ValueError), open(path, "rb") as file:
        guards = main_guard.looked_at(file.read(), path)
        if guards.found:
            _warn(f"{path} is run by {module}, and is not the module __main__: {_LOST}; {_BY_ITSELF}")


def _warn(text: str) -> None:
    import logging

    from .log import say

    say(logging.WARNING, "%s", text)


def _path_of(main: ModuleType) -> str | None:
    path = getattr(main, "__file__", None)
    return os.path.abspath(path) if isinstance(path, str) else None


def _is_installed(main: ModuleType, path: str) -> bool:
    """Whether it is no script of the user's, but an installed command (pytest, say), which workers do not need."""
    module = getattr(getattr(main, "__spec__", None), "name", None) or ""
    real = os.path.realpath(path)
    folders = [os.path.dirname(os.__file__), os.path.join(sys.prefix, "bin")]
    if sys.executable and isinstance(sys.executable, str | bytes | os.PathLike):  # a host may have put anything there
        folders.append(os.path.dirname(os.fsdecode(sys.executable)))
    return (
        module.partition(".")[0] == "floxide_mp"
        or any(f"{os.sep}{name}{os.sep}" in real for name in ("site-packages", "dist-packages"))
        or any(real.startswith(os.path.realpath(folder) + os.sep) for folder in folders)
    )


def is_own(value: object) -> bool:
    """Whether ``__main__`` has made it, or its class."""
    try:
        return getattr(value, "__module__", None) in NAMES and not isinstance(value, ModuleType)
    except Exception:  # a proxy of somebody's
        return False
