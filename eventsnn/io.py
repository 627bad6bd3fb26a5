"""Saving a network, or any tree of modules, numbers and arrays, to one file.

The file is a zip archive that holds `header.json`, which names the class and the fields of every
module, and one `.npy` file per array. Loading sets the fields of classes that are on a list: it
calls no constructor, imports nothing and unpickles nothing, so a file from a stranger can do no harm.
"""

import io
import json
import os
import secrets
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._tree_header import HeaderReader, describe

_FORMAT = "eventsnn"
_VERSION = 1
_HEADER = "header.json"


def save(path: str | os.PathLike, tree: Any) -> None:
    """Save a network, complete with solver, tolerances and dtype.

    The file appears at `path` at once and whole: if saving is interrupted, what was there before
    remains. `tree` may also be a dict, list or tuple of networks, arrays, numbers and strings.

    **Raises:** `TypeError` for a tree that holds something else, such as a lambda, and for a `path` that is none.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is a {type(path).__name__}, expected the name of a file: write save(path, tree)")
    path = Path(path)
    arrays: list[np.ndarray] = []
    header = {"format": _FORMAT, "version": _VERSION, "tree": describe(tree, arrays, path.name)}
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            _write(file, header, arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | os.PathLike, custom: Sequence[type[eqx.Module]] = ()) -> Any:
    """What `save` saved: the same numbers to the bit, so the same spikes to the bit.

    **Arguments:**

    - `path`: the file.
    - `custom`: classes of your own that the network consists of, such as a neuron model. Classes of
        eventsnn, Diffrax, Equinox, Optimistix and Lineax need not be listed.

    **Raises:** `FileNotFoundError` if there is no file; `ValueError` if it is damaged, if it is not
    from `save`, if it needs a class that is not in `custom`, if a class has changed since, or if it
    holds `float64` numbers and JAX is set to 32 bits.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            header = _read_header(archive, path)
            arrays = [_read_array(archive, f"{n}.npy") for n in range(_number_of_arrays(header, path))]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"{path} is damaged or is not a file saved by eventsnn ({error}): "
            "expected a file written by eventsnn.save; save the network again"
        ) from error
    _check_precision(arrays, path)
    return HeaderReader(path.name, [jnp.asarray(array) for array in arrays], custom).build(header["tree"])


def _write(file: Any, header: dict, arrays: list[np.ndarray]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_HEADER, json.dumps(header | {"arrays": len(arrays)}, indent=1, allow_nan=False))
        for number, array in enumerate(arrays):
            data = io.BytesIO()
            np.save(data, array, allow_pickle=False)
            archive.writestr(f"{number}.npy", data.getvalue())


def _read_header(archive: zipfile.ZipFile, path: Path) -> dict:
    foreign = f"{path} was not saved by eventsnn: expected a file written by eventsnn.save"
    try:
        header = json.loads(archive.read(_HEADER))
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"{foreign} ({_HEADER} is missing or unreadable)") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT or "tree" not in header:
        raise ValueError(foreign)
    if header.get("version") != _VERSION:
        raise ValueError(
            f"{path} has format version {header.get('version')!r}, expected {_VERSION}: "
            "load it with the version of eventsnn that saved it"
        )
    return header


def _number_of_arrays(header: dict, path: Path) -> int:
    number = header.get("arrays")
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"{path} says it holds {number!r} arrays, expected a number: it was altered; save it again")
    return number


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    try:
        return np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
    except (KeyError, ValueError) as error:
        raise zipfile.BadZipFile(f"{name}: {error}") from error


def _check_precision(arrays: list[np.ndarray], path: Path) -> None:
    for array in arrays:
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise ValueError(
                f"{path} holds {array.dtype} numbers, which JAX would round to 32 bits: "
                'call jax.config.update("jax_enable_x64", True) before loading'
            )
