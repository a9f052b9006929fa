"""Where this process's modules come from, as it is good in another process and in any directory: ``sys.path``, and the
files of modules that this does not lead to. The workers of the program import by it what their workflow needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final, NamedTuple


class Place(NamedTuple):
    """Where modules come from.

    Attributes:
        path: as ``sys.path``, absolute.
        files: by name of a module, the file that it was made from though its name does not lead there. So it is with
            test files under ``pytest --import-mode=importlib``, and with plugins that a program loads by their path.
    """

    path: list[str]
    files: dict[str, str]


def directory() -> str | None:
    """The working directory; None: it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


_FIRST: Final = directory()  # where the program was when it imported this package


def absolute() -> list[str]:
    """``sys.path`` with absolute entries only.

    A relative entry means the directory that it meant when a module was first looked for in it: the importer that
    Python keeps for it looks there, wherever the program has gone since. The empty entry means the directory that the
    program was in when it imported this package, and the one that it is in now. Both go where there is none any more.
    """
    found: dict[str, None] = {}
    for entry in sys.path:
        if not isinstance(entry, str):
            continue  # Python passes over it, too
        if not entry:
            found.update((known, None) for known in (_FIRST, directory()) if known is not None)
        elif os.path.isabs(entry):
            found[entry] = None
        else:
            kept = getattr(sys.path_importer_cache.get(entry), "path", None)
            if kept is None and (now := directory()) is not None:
                kept = os.path.normpath(os.path.join(now, entry))
            if kept is not None:
                found[kept] = None
    return list(found)


_seen: tuple[int, list[str]] = 0, []  # modules, and ``sys.path``: when ``_files`` was made
_files: dict[str, str] = {}


def here() -> Place:
    """Where this process's modules come from."""
    global _seen, _files
    if _seen != (len(sys.modules), sys.path):
        _seen = len(sys.modules), sys.path.copy()
        _files = _unfound(frozenset(absolute()))
    return Place(absolute(), _files)


def take_up(place: Place) -> None:
    """Import, in this process, also what another one has from there. What is found without it comes first."""
    sys.path.extend(entry for entry in place.path if entry not in sys.path)
    if place.files:
        _Finder.files.update(place.files)
        if _Finder not in sys.meta_path:
            sys.meta_path.append(_Finder)


def _unfound(path: frozenset[str]) -> dict[str, str]:
    """The files of modules that nobody would find by the name of the module."""
    found: dict[str, str] = {}
    tops: dict[str, Sequence[str]] = {}
    for name, module in list(sys.modules.items()):
        spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
        known = getattr(spec, "name", None) == name and getattr(spec, "origin", None) == file
        if not known or type(file) is not str or not file.endswith(".py"):
            continue
        end = os.sep + name.replace(".", os.sep)
        root = file.removesuffix(".py").removesuffix(f"{os.sep}__init__").removesuffix(end)
        top = name.partition(".")[0]
        whole = getattr(sys.modules.get(top), "__file__", None) is not None  # else another one of that name comes first
        if (root in path and whole) or not os.path.isabs(file):
            continue
        if top not in tops:
            tops[top] = _places(top)
        if not file.startswith(tuple(tops[top])):
            found[name] = file
    return found


def _places(top: str) -> Sequence[str]:
    """Where a fresh process finds the top-level module of that name: its file or its directories."""
    for finder in sys.meta_path:
        try:
            spec: Any = finder.find_spec(top, None)
        except Exception:  # somebody else's
            continue
        if spec is not None:
            return [*(spec.submodule_search_locations or ()), *filter(None, [spec.origin])]
    return ()


class _Finder:
    """Of ``sys.meta_path``, the last one."""

    files: Final[dict[str, str]] = {}

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = cls.files.get(name)
        if file is not None:
            from importlib.util import spec_from_file_location

            return spec_from_file_location(name, file)
        if any(known.startswith(f"{name}.") for known in cls.files):
            return ModuleSpec(name, None, is_package=True)
        return None
