"""Machine code of kernels on disk, so that the next process does not compile them again.

Numba's own cache looks at the file of the function only and would go on using a kernel after another file has changed.
Here a folder belongs to the text of all files of this package and to the versions of the libraries; any change leads to
another folder. Only the few last used folders are kept. The place is `$EVENTSNN_CACHE_DIR`, else
`$XDG_CACHE_HOME/eventsnn`, else `~/.cache/eventsnn`. If it cannot be used, kernels are compiled in each process.

A file holds an object file as LLVM made it. It is written under another name and then renamed, so several processes may
write the same kernel at once. Each is loaded into a code generator of its own; equal names of functions in two
kernels do not meet.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core.registry import cpu_target
from numba.core.runtime.nrt import rtsys

try:
    import fcntl
except ImportError:
    fcntl: Any = None

from eventsnn.engine.native import symbols  # noqa: F401, declares what cached kernels refer to

# Folders of other states of the package that are kept: two installations that are used in turns keep their kernels.
KEPT_FOLDERS = 3

_engines: list = []  # own the machine code, which XLA may call until the end of the process
_numba: Any = cpu_target.target_context


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def fingerprint(module: str) -> str:
    """A digest of everything that the machine code of the kernels of a module depends on, the processor excepted."""
    digest = hashlib.sha256()
    versions = (sys.version, _version("eventsnn"), numba.__version__, llvmlite.__version__, _version("jaxlib"))
    digest.update(repr(versions).encode())
    files = sorted(Path(__file__).parent.rglob("*.py"))
    specification = importlib.util.find_spec(module)
    if specification is not None and specification.origin is not None:
        own = Path(specification.origin)
        files += [own] if own not in files else []
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:20]


def _processor() -> str:
    """A digest of the processor and of the settings of Numba."""
    settings = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
    described = repr((_numba.codegen().magic_tuple(), settings))
    return hashlib.sha256(described.encode()).hexdigest()[:10]


def _root() -> Path:
    if os.environ.get("EVENTSNN_CACHE_DIR"):
        return Path(os.environ["EVENTSNN_CACHE_DIR"]) / "native"
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "eventsnn" / "native"
    return Path.home() / ".cache" / "eventsnn" / "native"


def _all_defined(names: list[str]) -> bool:
    """Whether LLVM finds all symbols; it would end the process if one were missing when code is loaded."""
    # Numba's allocation of arrays. To prepare all of Numba (`target_context.refresh()`) takes 0.4 s, this 0.02 s.
    rtsys.initialize(_numba)
    return all(llvm.address_of_symbol(name) is not None for name in names)


class StoredKernel:
    """The place of one kernel on disk."""

    def __init__(self, name: str, module: str):
        self.module, self.state = module, fingerprint(module)
        self.name = f"{name}-{_processor()}"

    def _path(self) -> Path:
        return _root() / self.state / self.name

    def load(self) -> int | None:
        """The address of the handler, or None where it is not stored or cannot be used."""
        try:
            path = self._path()
            digest, header, code = path.read_bytes().split(b"\n", 2)
            if hashlib.sha256(header + b"\n" + code).hexdigest().encode() != digest:
                return None
            header = json.loads(header)
            if not _all_defined(header["needs"]):
                return None
            engine = llvm.create_mcjit_compiler(
                llvm.parse_assembly(""), llvm.Target.from_default_triple().create_target_machine(jit=True)
            )
            engine.add_object_file(llvm.ObjectFileRef.from_data(code))
            engine.finalize_object()
            address = engine.get_function_address(header["symbol"])
            os.utime(path.parent)  # says which folders are in use
        except (OSError, ValueError, KeyError, RuntimeError):
            return None
        _engines.append(engine)
        return address or None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Other processes that want to compile the same kernel wait meanwhile, and then find it stored.

        Where locks of files are not to be had, as on Windows, all compile it.
        """
        try:
            # The system gives a lock back when its process ends, however it ends.
            path = Path(tempfile.gettempdir()) / f"eventsnn-{os.getuid()}-{self.state}-{self.name}.lock"
            file = path.open("w")
            fcntl.flock(file, fcntl.LOCK_EX)
        except (OSError, AttributeError):
            yield
            return
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            file.close()

    def save(self, form: tuple[str, list[str], bytes] | None) -> None:
        """Write `Handler.stored_form()` to disk; without success, nothing happens."""
        if form is None:
            return
        symbol, needs, code = form
        try:
            if fingerprint(self.module) != self.state:
                return  # a file was edited while this process ran, so the code may not belong to its present text
            path = self._path()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            header = json.dumps({"symbol": symbol, "needs": needs}).encode()
            digest = hashlib.sha256(header + b"\n" + code).hexdigest().encode()
            new = path.with_name(f"{path.name}-{uuid.uuid4().hex}")
            try:
                new.write_bytes(digest + b"\n" + header + b"\n" + code)
                os.replace(new, path)
            finally:
                new.unlink(missing_ok=True)
            _remove_old_folders(path.parent)
        except (OSError, RuntimeError):
            return


def _remove_old_folders(current: Path) -> None:
    others = [folder for folder in current.parent.iterdir() if folder.is_dir() and folder != current]
    others.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in others[KEPT_FOLDERS:]:
        shutil.rmtree(folder, ignore_errors=True)
