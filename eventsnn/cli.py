"""The command `eventsnn`: train a network on Yin-Yang, use it, look at it."""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from ._cli_pictures import draw_pictures, predicted_classes
from ._cli_train import DEFAULTS, train
from .engine.report import SimulationError
from .evnn import FFEvNN
from .run_folder import HISTORY, MODEL, find_model, load_model, read_history
from .training.respond import accuracy, predict
from .training.yin_yang import CLASS_NAMES, IN_SIZE, encode, load_split
from .training.yin_yang_network import NEURONS

_DESCRIPTION = """\
Event-driven spiking neural networks.

  eventsnn train yin-yang --out runs/first     train a network, with pictures of what it learned
  eventsnn train yin-yang --out runs/first --resume     go on after an interruption
  eventsnn predict runs/first                  classify the test set
  eventsnn predict runs/first --point 0.3 0.7  classify a point
  eventsnn plot runs/first                     draw the pictures again
"""

_TRAIN = f"""\
Trains a network of 5 inputs, one hidden layer and 3 outputs to say which class of the Yin-Yang
data set a point belongs to, by which output spikes first. Data, weights, loss and optimiser
follow the published recipe (Kriener et al. 2022; Wunderlich and Pehle 2021).

The folder --out then holds {MODEL} (the network), {HISTORY} (one row per epoch), plane.png
(classified test set with errors), latencies.png (first spikes over the plane), raster.png (all
spikes of one sample) and curves.png (loss and accuracy). It is saved after every epoch: an
interrupted run goes on with --resume and ends as if it had never been interrupted.

Each epoch prints the loss, accuracies on training and validation data, how often a hidden neuron
spikes per sample, how many outputs do not spike, how long the epoch took (the first one compiles)
and how much time is left in minutes and seconds.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 0, 1 after an error, 130 after an interruption."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        advice = f"; finished epochs are saved, go on with: eventsnn train yin-yang --out {arguments.out} --resume"
        print(f"\ninterrupted{advice if arguments.run is train else ''}", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, SimulationError, jax.errors.JaxRuntimeError) as error:
        print(f"eventsnn: error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="eventsnn", description=_DESCRIPTION, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="{train,predict,plot}")

    training = commands.add_parser("train", help="train a network", description=_TRAIN, formatter_class=raw)
    training.set_defaults(run=train)
    training.add_argument("task", choices=["yin-yang"], help="the data set")
    training.add_argument("--neuron", choices=NEURONS, help=_help("the neuron model", "neuron"))
    _whole_option(training, "hidden", "the number of hidden neurons")
    _whole_option(training, "epochs", "how often to go through the data; with --resume, how often in total")
    _whole_option(training, "batch-size", "samples per step of the optimiser")
    _whole_option(training, "seed", "for initial weights and the order of samples", lowest=0)
    _whole_option(training, "samples", "how many of the training samples to use")
    training.add_argument("--out", default="runs/yin-yang", help="the folder for the results (default: %(default)s)")
    training.add_argument("--resume", action="store_true", help="go on with the run in --out")

    text = "Prints what a trained network says of points, or its accuracy on the test set."
    prediction = commands.add_parser("predict", help="classify points", description=text)
    prediction.set_defaults(run=_predict)
    _model_argument(prediction)
    prediction.add_argument(
        "--point", nargs=2, type=float, action="append", metavar=("X", "Y"), help="a point in 0 … 1; may be repeated"
    )
    prediction.add_argument("--csv", metavar="FILE", help="write class and spike times of every point to a table")

    text = "Draws the pictures of a trained network again."
    plotting = commands.add_parser("plot", help="draw pictures", description=text)
    plotting.set_defaults(run=_plot)
    _model_argument(plotting)
    plotting.add_argument("--out", help="the folder for the pictures (default: where the model is)")
    _whole_option(plotting, "sample", "the test sample in the raster, counted from 0", lowest=0, default=0)
    return parser


def _help(text: str, name: str) -> str:
    return f"{text} (default: {DEFAULTS[name]})"


def _whole_option(parser, name: str, text: str, lowest: int = 1, default: int | None = None) -> None:
    key = name.replace("-", "_")
    text = _help(text, key) if key in DEFAULTS else f"{text} (default: {default})"
    parser.add_argument(f"--{name}", type=_WholeNumber(lowest), default=default, metavar="N", help=text)


def _model_argument(parser) -> None:
    parser.add_argument("model", help=f"the folder of a training run, or a {MODEL}")


class _WholeNumber:
    def __init__(self, lowest: int):
        self._lowest = lowest

    def __call__(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < self._lowest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {self._lowest} on")
        return number


def _predict(arguments: argparse.Namespace) -> None:
    network = _yin_yang_model(arguments.model)
    test = load_split("test")
    points = test.points if arguments.point is None else np.array(arguments.point)
    outside = points[~((points >= 0) & (points <= 1)).all(axis=1)]
    if len(outside):
        raise ValueError(f"--point is {outside[0][0]:g} {outside[0][1]:g}, expected coordinates from 0 to 1")
    spike_times = predict(network, encode(points))
    rows = [
        [*point, CLASS_NAMES[number] if number >= 0 else "no spike", *times]
        for point, number, times in zip(points, predicted_classes(spike_times), spike_times, strict=True)
    ]
    if arguments.csv:
        with open(arguments.csv, "w", newline="") as file:
            csv.writer(file).writerows([["x", "y", "class", *(f"t_{name}" for name in CLASS_NAMES)], *rows])
        print(f"table: {arguments.csv}")
    if arguments.point is None:
        print(f"test accuracy {100 * accuracy(spike_times, test.labels):.1f} %")
        return
    for x, y, name, *times in rows:
        spikes = ", ".join(f"{output} {time:.3f}" for output, time in zip(CLASS_NAMES, times, strict=True))
        print(f"x {x:g}  y {y:g}  {name}  (first spikes in ms: {spikes})")


def _plot(arguments: argparse.Namespace) -> None:
    network = _yin_yang_model(arguments.model)
    test = load_split("test")
    if arguments.sample >= len(test):
        raise ValueError(f"--sample is {arguments.sample}, expected a number from 0 to {len(test) - 1}")
    model = find_model(arguments.model)
    folder = Path(arguments.out) if arguments.out else model.parent
    folder.mkdir(parents=True, exist_ok=True)
    path = model.parent / HISTORY
    history = read_history(path) if path.exists() else ()
    spike_times = predict(network, encode(test.points))
    for picture in draw_pictures(folder, network, test, spike_times, history, arguments.sample):
        print(picture)


def _yin_yang_model(path: str) -> FFEvNN:
    network = load_model(path)
    if network.in_size != IN_SIZE or network.layers[-1] != len(CLASS_NAMES):
        raise ValueError(
            f"{path} holds a network of {network.in_size} inputs and {network.layers[-1]} outputs, expected "
            f"{IN_SIZE} and {len(CLASS_NAMES)}: pass one that eventsnn train yin-yang has made"
        )
    return network
