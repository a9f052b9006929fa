"""What ``MODULE[:NAME]`` on the command line means: importing a module or a file, and finding the workflow in it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from ..api.nodes import CompositeNode
from ..api.workflow import Workflow
from ..errors import WorkflowDefinitionError
from ..graph.validate import nearest
from . import formatting
from .formatting import CliError


def load(target: str) -> Workflow:
    """The workflow that ``MODULE[:NAME]`` means.

    Raises:
        Refused: there is no such thing, or importing it fails.
        WorkflowDefinitionError: its graph is wrong.
    """
    place, name = _split(target)
    module = import_target(target)
    found = _workflows(module)
    if name is None:
        whole = [name for name, one in found.items() if one not in _parts(found.values())]
        if len(whole) != 1:
            raise CliError(_which(place, module, found))
        name = whole[0]
    value = getattr(module, name, None)
    if isinstance(value, type) and issubclass(value, Workflow):
        return value()
    if isinstance(value, Workflow):
        return value
    what = f"{place} has no {name!r}{nearest(name, found)}"
    if hasattr(module, name):
        kind = "class" if isinstance(value, type) else type(value).__name__
        what = f"{name} in {place} is no workflow but a {kind}"
    hint = f"workflows in it: {formatting.listed(found)}" if found else ""
    raise CliError(formatting.message(what, hint))


def import_target(target: str) -> ModuleType:
    """Import the module that ``MODULE[:NAME]`` means.

    Raises:
        Refused: there is no such thing, or importing it fails.
        WorkflowDefinitionError: the graph of a workflow in it is wrong.
    """
    if not sys.flags.safe_path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as ``python -m`` does
    place, _ = _split(target)
    return _import(_module_of(place) if place.endswith(".py") or os.sep in place else place)


def _split(target: str) -> tuple[str, str | None]:
    place, colon, name = target.rpartition(":")
    return (place, name) if colon and not Path(target).is_file() else (target, None)


def _workflows(module: ModuleType) -> dict[str, type[Workflow]]:
    """The workflows that a module defines, by name; those it only imports are not among them."""
    found: dict[str, type[Workflow]] = {}
    for name, value in vars(module).items():
        if isinstance(value, type) and issubclass(value, Workflow) and value.__declaration__ is not None:
            here = value.__module__ in (module.__name__, Workflow.__module__)  # the latter's are made by build()
            if here and value not in found.values():
                found[name] = value
    return found


def _parts(workflows: Iterable[type[Workflow]]) -> set[type[Workflow]]:
    """Those that some of ``workflows`` have as a part of theirs."""
    nodes = [made for one in workflows if one.__declaration__ for made in one.__declaration__.nodes.values()]
    return {type(made.workflow) for made in nodes if isinstance(made, CompositeNode)}


def _which(place: str, module: ModuleType, found: Mapping[str, type[Workflow]]) -> str:
    if found:
        names = " or ".join(f"{place}:{name}" for name in sorted(found))
        return formatting.message(f"{place} has {len(found)} workflows, so a name is needed", f"say {names}")
    foreign = [
        f"{value.__module__}:{value.__name__}"
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Workflow) and value.__declaration__ is not None
    ]
    hint = f"it imports {formatting.listed(foreign)}" if foreign else "a workflow is a class deriving from Workflow"
    return formatting.message(f"{place} defines no workflow", hint)


def _module_of(path: str) -> str:
    """The name under which a file can be imported, here and in the workers: its directory goes onto ``sys.path``."""
    file = Path(path).absolute()
    if not file.is_file():
        hint = f"did you mean {path}.py?" if Path(f"{path}.py").is_file() else ""
        raise CliError(formatting.message(f"there is no file {path}", hint))
    name = file.stem
    if file.suffix != ".py" or "." in name:
        raise CliError(formatting.message(f"{path} cannot be imported: its name must be NAME.py"))
    # Files here and there may have one name, but none may hide a module that somebody else counts on.
    installed = [entry for entry in sys.path if os.path.abspath(entry) != os.getcwd()]
    taken = [getattr(sys.modules.get(name), "__spec__", None), PathFinder.find_spec(name, installed)]
    if name in sys.stdlib_module_names or any(spec and spec.origin and not _is_at(spec, file) for spec in taken):
        raise CliError(
            formatting.message(f"{path} cannot be imported: there is another module {name!r}", "rename the file")
        )
    sys.path.insert(0, str(file.parent))
    importlib.invalidate_caches()
    spec = importlib.util.find_spec(name)
    if not _is_at(spec, file):
        other = spec.origin if spec else None
        raise CliError(formatting.message(f"{path} cannot be imported: {name} means {other}", "rename the file"))
    return name


def _is_at(spec: ModuleSpec | None, file: Path) -> bool:
    origin = spec and spec.origin
    return bool(origin) and os.path.exists(str(origin)) and os.path.samefile(str(origin), file)


def _import(name: str) -> ModuleType:
    if not all(name.split(".")):
        raise CliError(
            formatting.message(f"{name!r} is not a module's name", "e.g. orders, shop.orders or shop/orders.py")
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise CliError(formatting.user_traceback(error)) from None
        raise CliError(_no_module(name, error.name)) from None
    except WorkflowDefinitionError:
        raise
    except SystemExit as error:
        hint = 'what a module runs belongs under: if __name__ == "__main__":'
        raise CliError(formatting.message(f"importing {name} ended with sys.exit({error.code!r})", hint)) from None
    except BaseException as error:
        raise CliError(formatting.user_traceback(error)) from None


def _no_module(name: str, missing: str) -> str:
    parent, _, last = missing.rpartition(".")
    above = sys.modules.get(parent)
    if above is not None and not hasattr(above, "__path__"):
        return formatting.message(f"there is no module {name!r}: {parent} is no package", f"say {parent}:{last}")
    path = above.__path__ if above is not None else [os.getcwd()]
    near = nearest(last, [module.name for module in pkgutil.iter_modules(path)])
    where = f"it is looked for in {os.getcwd()} and in Python's search path"
    return formatting.message(f"there is no module {missing!r}{near}", where)
