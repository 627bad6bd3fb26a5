"""`eventsnn train yin-yang`: training with progress, and the folder that it leaves."""

import argparse
import dataclasses
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ._cli_pictures import draw_pictures
from .run_folder import CHECKPOINT, HISTORY, MODEL, Run, load_run, save_run
from .training.fit import EpochSummary, Samples, start, train_epoch
from .training.respond import accuracy, predict, respond
from .training.yin_yang import YinYang, encode, load_split
from .training.yin_yang_network import make_network, make_recipe

DEFAULTS: dict[str, Any] = {"neuron": "lif", "hidden": 200, "epochs": 20, "batch_size": 32, "seed": 0, "samples": 5000}
"""What the options of `train` are if they are not given."""


def train(arguments: argparse.Namespace) -> None:
    """Train, save after every epoch, draw the pictures and print the test accuracy."""
    folder = Path(arguments.out)
    run = _resumed_run(arguments, folder) if arguments.resume else _new_run(arguments, folder)
    data = load_split("train").first(run.options["samples"])
    samples, validation = _samples(data), _samples(load_split("validation"))
    progress = Progress(run.recipe.epochs, len(run.history))
    print(
        f"yin-yang, {run.options['neuron'].upper()}, {run.options['hidden']} hidden neurons, {len(data)} samples, "
        f"seed {run.recipe.seed}, epochs {run.state.epoch + 1} to {run.recipe.epochs}, in {folder}; "
        "compiling takes a while",
        flush=True,
    )
    if not run.history:
        save_run(folder, run)
    with ThreadPoolExecutor(1) as other:
        # What judges the network is compiled while what trains it is.
        warm_up = other.submit(respond, run.state.network, validation.in_spikes)
        while run.state.epoch < run.recipe.epochs:
            run = _next_epoch(run, samples, validation, progress, warm_up)
            save_run(folder, run)
            progress.finish_epoch(run.history[-1])
    _finish(folder, run)


def _next_epoch(
    run: Run, samples: Samples, validation: Samples, progress: "Progress", warm_up: Future | None = None
) -> Run:
    begin = time.monotonic()
    state, loss, train_accuracy = train_epoch(run.state, samples, run.recipe, on_batch=progress.show_batch)
    if warm_up is not None:
        warm_up.result()
    response = respond(state.network, validation.in_spikes)
    summary = EpochSummary(
        epoch=state.epoch,
        loss=loss,
        train_accuracy=train_accuracy,
        validation_accuracy=accuracy(response.spike_times, validation.labels),
        spikes_per_neuron=response.spikes_per_neuron,
        silent_outputs=float(np.isinf(response.spike_times).mean()),
        seconds=round(time.monotonic() - begin, 3),
    )
    return dataclasses.replace(run, state=state, history=(*run.history, summary))


def _finish(folder: Path, run: Run) -> None:
    test = load_split("test")
    network = run.state.network
    spike_times = predict(network, encode(test.points))
    print(f"model: {folder / MODEL}\nhistory: {folder / HISTORY}")
    try:
        pictures = draw_pictures(folder, network, test, spike_times, run.history)
        print(f"pictures: {', '.join(str(path) for path in pictures)}")
    except ImportError as error:
        print(f"no {error}, then eventsnn plot {folder}")
    print(f"test accuracy {100 * accuracy(spike_times, test.labels):.1f} %", flush=True)


def _new_run(arguments: argparse.Namespace, folder: Path) -> Run:
    if (folder / CHECKPOINT).exists():
        raise ValueError(f"{folder} holds a training run already: pass --resume to go on with it, or another --out")
    given = {name: getattr(arguments, name) for name in DEFAULTS}
    options = DEFAULTS | {name: value for name, value in given.items() if value is not None}
    epochs, kind = options.pop("epochs"), options["neuron"]
    recipe = make_recipe(kind, epochs=epochs, batch_size=options["batch_size"], seed=options["seed"])
    load_split("train").first(options["samples"])
    network = make_network(options["neuron"], options["hidden"], seed=options["seed"])
    return Run(start(network, recipe, options["samples"]), (), recipe, options)


def _resumed_run(arguments: argparse.Namespace, folder: Path) -> Run:
    run = load_run(folder)
    for name, saved in run.options.items():
        given = getattr(arguments, name, None)
        if given is not None and given != saved:
            flag = "--" + name.replace("_", "-")
            raise ValueError(
                f"{flag} is {given}, but the run in {folder} has {saved}: leave {flag} out, or train into another --out"
            )
    if arguments.epochs is None:
        return run
    if arguments.epochs < run.state.epoch:
        raise ValueError(f"--epochs is {arguments.epochs}, but {run.state.epoch} epochs are done: pass a larger number")
    return dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, epochs=arguments.epochs))


def _samples(data: YinYang) -> Samples:
    return Samples(encode(data.points), data.labels)


class Progress:
    """One line per epoch, and on a terminal the current batch in the line below.

    - `epochs`: how many epochs there are.
    - `done`: how many are done from an earlier session.
    """

    def __init__(self, epochs: int, done: int = 0):
        self._epochs = epochs
        self._epoch = done + 1
        self._first = done + 1
        self._first_done, self._first_time = 0, 0.0
        self._epoch_seconds = 0.0
        self._live = sys.stdout.isatty()

    def show_batch(self, done: int, total: int) -> None:
        """Call whenever some batches are done."""
        now = time.monotonic()
        if self._epoch == self._first and not self._first_done:
            self._first_done, self._first_time = done, now
        elif self._epoch == self._first:
            # What compiles comes first, so the time that an epoch takes is told by the rest.
            self._epoch_seconds = (now - self._first_time) * total / (done - self._first_done)
        if self._live:
            left = self._epoch_seconds * (self._epochs - self._epoch + 1 - done / total)
            line = f"epoch {self._epoch}/{self._epochs}  batch {done}/{total}  left {_clock(left)}"
            print(f"\r{line}\x1b[K", end="", flush=True)

    def finish_epoch(self, summary: EpochSummary) -> None:
        """Call after every epoch."""
        if summary.epoch > self._first:
            self._epoch_seconds = summary.seconds
        self._epoch = summary.epoch + 1
        left = self._epoch_seconds * (self._epochs - summary.epoch)
        width = len(str(self._epochs))
        start_of_line, rest_of_line = ("\r", "\x1b[K") if self._live else ("", "")
        print(
            f"{start_of_line}epoch {summary.epoch:{width}d}/{self._epochs}  "
            f"loss {summary.loss:.3f}  "
            f"accuracy {100 * summary.train_accuracy:.1f} % training, "
            f"{100 * summary.validation_accuracy:.1f} % validation  "
            f"{summary.spikes_per_neuron:.2f} spikes per neuron  "
            f"{100 * summary.silent_outputs:.1f} % silent outputs  "
            f"{summary.seconds:.1f} s  left {_clock(left)}{rest_of_line}",
            flush=True,
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"
