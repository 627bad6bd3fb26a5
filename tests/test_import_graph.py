"""Who may import whom, and what `import eventsnn` gives."""

import ast
import graphlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "eventsnn"

# A room is a folder or a file directly below the package, under its own name or, for files that are
# one thing in several pieces, under the name of their room.
ROOMS = {"_cli_train": "cli", "_cli_pictures": "cli", "__main__": "cli", "_tree_header": "io"}

# What each room may import from besides itself: whole rooms, or single files of them.
NEURON_CONTRACT = {"flows", "materialise", "neuron_models.base", "neuron_models.parameter"}
MODEL_SIDE = {"evnn", "network", "arguments", "times", "weightless", "connections", "engine", "flows", "neuron_models"}
ARROWS = {
    "materialise": set(),
    "flows": {"materialise"},
    "neuron_models": {"flows"},
    "connections": {"neuron_models.parameter"},
    "engine": NEURON_CONTRACT,
    "arguments": {"connections", "engine", "neuron_models"},
    "times": {"neuron_models"},
    "weightless": {"connections", "engine", "neuron_models"},
    "changes": {"arguments", "connections", "neuron_models"},
    "devices": {"engine"},
    "network": {"arguments", "changes", "times", "engine", "neuron_models"},
    "evnn": {
        *("network", "arguments", "changes", "times", "weightless"),
        *("connections", "engine", "neuron_models"),
    },
    "training": MODEL_SIDE,
    "analysis": {"evnn", "arguments", "neuron_models"},
    "plot": MODEL_SIDE | {"analysis"},
    "io": MODEL_SIDE,
    "run_folder": MODEL_SIDE | {"training", "io"},
    "cli": MODEL_SIDE | {"training", "plot", "io", "run_folder"},
    # The list of public names. Plotting stays outside, because it needs matplotlib.
    "": MODEL_SIDE | {"analysis", "training", "io", "devices"},
}

# Rooms that nothing depends on, but for these.
LEAVES = {"plot": {"cli"}, "io": {"cli", "run_folder", ""}, "run_folder": {"cli"}, "cli": set()}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def absolute(importer: str, path: Path, node: ast.ImportFrom) -> str:
    """The full name of the module that a `from … import` names."""
    if not node.level:
        return node.module or ""
    package = importer.split(".") if path.name == "__init__.py" else importer.split(".")[:-1]
    package = package[: len(package) - (node.level - 1)]
    return ".".join([*package, *([node.module] if node.module else [])])


def imports_of(importer: str, path: Path) -> set[str]:
    """The modules of the package that a file imports anywhere in its text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute(importer, path, node)
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                found.add(submodule if submodule in FILES else base)
    return {name for name in found if name in FILES and name != importer}


IMPORTS = {name: imports_of(name, path) for name, path in FILES.items()}


def room_of(name: str) -> str:
    """The room of a module; that of the package's own file has no name."""
    first = name.split(".")[1] if "." in name else ""
    return ROOMS.get(first, first)


def test_the_graph_is_read_from_the_files():
    assert "eventsnn.neuron_models.base" in IMPORTS["eventsnn.neuron_models.lif"]
    assert "eventsnn.evnn" in IMPORTS["eventsnn"]


def test_no_module_imports_itself_through_others():
    # Raises CycleError, which names the modules of the cycle.
    list(graphlib.TopologicalSorter(IMPORTS).static_order())


@pytest.mark.parametrize("importer", FILES)
def test_every_arrow_is_allowed(importer):
    room = room_of(importer)
    assert room in ARROWS, f"{room} is new: say in ARROWS what it may import, and who may import it"
    for target in IMPORTS[importer]:
        allowed = {room} | ARROWS[room]
        path = target.removeprefix("eventsnn.")
        assert room_of(target) in allowed or path in allowed, f"{importer} imports {target}, allowed are {allowed}"


@pytest.mark.parametrize("leaf", LEAVES)
def test_nothing_depends_on_a_leaf(leaf):
    importers = {room_of(name) for name, targets in IMPORTS.items() if leaf in map(room_of, targets)}
    assert importers <= LEAVES[leaf] | {leaf}


def test_the_engine_names_no_concrete_neuron():
    concrete = {"LIF", "QIF"}
    for name, path in FILES.items():
        if room_of(name) == "engine":
            words = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            assert not words & concrete, name


def test_importing_the_package_needs_no_plotting_and_no_notebook_library():
    blocked = ("matplotlib", "IPython", "nbclient", "nbformat", "pytest", "hypothesis", "beartype")
    code = f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\nimport eventsnn"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def public_names() -> list[str]:
    """The names that `eventsnn/__init__.py` re-exports."""
    names = []
    for node in ast.parse((PACKAGE / "__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
    return names


def test_the_public_list_is_explicit():
    for node in ast.parse((PACKAGE / "__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" and alias.asname == alias.name for alias in node.names), ast.unparse(node)
        else:
            # Besides the list there is the docstring and the version.
            assert isinstance(node, ast.Expr | ast.Assign), ast.unparse(node)


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_is_documented(name):
    import eventsnn

    assert (inspect.getdoc(getattr(eventsnn, name)) or "").strip()
    if inspect.isclass(getattr(eventsnn, name)):
        assert getattr(eventsnn, name).__dict__.get("__doc__"), f"{name} only inherits its docstring"
