"""The folder that a training run leaves: the model, the history, and what is needed to go on."""

import csv
import dataclasses
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from .evnn import FFEvNN
from .io import load, save
from .training.fit import EpochSummary, Recipe, TrainingState, start

MODEL = "model.zip"
HISTORY = "history.csv"
CHECKPOINT = "checkpoint.zip"


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run at the end of an epoch.

    - `state`: the network, the optimiser's state and the number of epochs done.
    - `history`: one entry per epoch.
    - `recipe`: how it is trained.
    - `options`: other numbers and strings that made this run, by name; `samples` is how many
        samples it trains on.
    """

    state: TrainingState
    history: tuple[EpochSummary, ...]
    recipe: Recipe
    options: dict[str, Any]


def save_run(folder: str | os.PathLike, run: Run) -> None:
    """Write `model.zip`, `history.csv` and `checkpoint.zip`, each of them at once and whole.

    The checkpoint holds all of it, so an interruption between the files does no harm.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    leaves = jax.tree.leaves(eqx.filter(run.state.optimiser_state, eqx.is_array))
    content = {
        "network": run.state.network,
        "optimiser": leaves,
        "epoch": run.state.epoch,
        "history": [dataclasses.asdict(entry) for entry in run.history],
        "recipe": dataclasses.asdict(run.recipe),
        "options": run.options,
    }
    save(folder / CHECKPOINT, content)
    save(folder / MODEL, run.state.network)
    write_history(folder / HISTORY, run.history)


def load_run(folder: str | os.PathLike) -> Run:
    """The run that `save_run` saved, to go on with.

    **Raises:** `FileNotFoundError` if there is no run in the folder, `ValueError` if its checkpoint
    is damaged.
    """
    path = Path(folder) / CHECKPOINT
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no {CHECKPOINT}: there is nothing to resume; train without --resume")
    content = load(path)
    try:
        recipe = Recipe(**content["recipe"])
        state = start(content["network"], recipe, content["options"]["samples"])
        arrays, rest = eqx.partition(state.optimiser_state, eqx.is_array)
        arrays = jax.tree.unflatten(jax.tree.structure(arrays), content["optimiser"])
        state = TrainingState(state.network, eqx.combine(arrays, rest), content["epoch"])
        history = tuple(EpochSummary(**entry) for entry in content["history"])
        return Run(state, history, recipe, content["options"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not the checkpoint of a training run ({error}): train without --resume") from error


def find_model(path: str | os.PathLike) -> Path:
    """The file of a saved model: `path` itself, or `model.zip` in the folder `path`."""
    path = Path(path)
    return path / MODEL if path.is_dir() else path


def load_model(path: str | os.PathLike, custom: Sequence[type[eqx.Module]] = ()) -> FFEvNN:
    """A saved network, from its file or from the folder of its run; see `load` for `custom`.

    **Raises:** as `load`, and `ValueError` if something else was saved there.
    """
    network = load(find_model(path), custom)
    if not isinstance(network, FFEvNN):
        raise ValueError(f"{path} holds a {type(network).__name__}, expected a network: pass the file {MODEL}")
    return network


def write_history(path: str | os.PathLike, history: Sequence[EpochSummary]) -> None:
    """Write a table with one row per epoch, at once and whole."""
    path = Path(path)
    names = [field.name for field in dataclasses.fields(EpochSummary)]
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "x", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(dataclasses.asdict(entry) for entry in history)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_history(path: str | os.PathLike) -> tuple[EpochSummary, ...]:
    """The table that `write_history` wrote. **Raises** `ValueError` if it is something else."""
    names = [field.name for field in dataclasses.fields(EpochSummary) if field.name != "epoch"]
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        numbers = [{name: float(row[name]) for name in names} for row in rows]
        return tuple(EpochSummary(int(row["epoch"]), **n) for row, n in zip(rows, numbers, strict=True))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} is not the history of a training run ({error}): expected a {HISTORY}") from error
