"""Yin-Yang with 30 hidden neurons: weights alone, and weights and delays, five seeds each.

    python tests/benchmarks/delays.py --out delays.json

Every run prints its validation accuracy on the way, and the test accuracy after the last epoch.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from eventsnn.training.fit import Recipe, Samples, start, train_epoch
from eventsnn.training.respond import accuracy, predict
from eventsnn.training.yin_yang import encode, load_split
from eventsnn.training.yin_yang_network import make_network

HIDDEN, DELAYS = 30, 20.0


def samples_of(name: str) -> Samples:
    data = load_split(name)
    return Samples(encode(data.points), data.labels)


def train(delays: float, seed: int, epochs: int) -> dict[str, list[float] | float]:
    """One run. Accuracies are between 0 and 1."""
    recipe = Recipe(epochs=epochs, learning_rate=0.02, schedule="cosine", second_moment=0.99, seed=seed)
    data, validation, test = (samples_of(name) for name in ("train", "validation", "test"))
    state, found, begin = (
        start(make_network(hidden=HIDDEN, delays=delays, seed=seed), recipe, len(data)),
        [],
        time.time(),
    )
    while state.epoch < epochs:
        state, loss, _ = train_epoch(state, data, recipe)
        if state.epoch % 10 == 0 or state.epoch == epochs:
            found.append(accuracy(predict(state.network, validation.in_spikes), validation.labels))
            print(f"  epoch {state.epoch}: loss {loss:.3f}, validation {100 * found[-1]:.1f} %", flush=True)
    final = accuracy(predict(state.network, test.in_spikes), test.labels)
    print(f"delays up to {delays:g} ms at first, seed {seed}: test {100 * final:.1f} %, {time.time() - begin:.0f} s")
    return {"test": final, "validation": found}


def main() -> None:
    """Read the options, train, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", metavar="FILE", help="where to write the numbers, as JSON")
    options = parser.parse_args()
    result = {}
    for name, delays in (("weights and delays", DELAYS), ("weights alone", 0.0)):
        result[name] = [train(delays, seed, options.epochs) for seed in options.seeds]
        accuracies = 100 * np.array([run["test"] for run in result[name]])
        print(f"{name}: {accuracies.mean():.2f} ± {accuracies.std(ddof=1):.2f} %", flush=True)
        if options.out:
            Path(options.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
