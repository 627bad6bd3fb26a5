"""One training step on Yin-Yang-like input, side by side with Eventax 0.1.0.

    python tests/benchmarks/bench_yin_yang.py --eventax $PEERS/eventax/bin/python

The work: a 5-120-3 network of QIF neurons, 256 samples of five spikes in 30 ms; a step is the loss, its gradient and
an Adam update. Both programs get the same weights, biases and samples. The spike times of the hidden layer are held
against a run in float64 with rtol = 1e-10. Quote the ratio, not the times: they depend on the machine and its load.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]


def make_work(hidden: int, batch: int) -> dict[str, np.ndarray]:
    """Weights uniform in 0 … 40, biases in ±0.5; samples with x, y, 1 - x, 1 - y in 0 … 30 ms and a spike at 0."""
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 1, (batch, 2))
    return {
        "weights0": rng.uniform(0, 40, (5, hidden)).astype(np.float32),
        "weights1": rng.uniform(0, 40, (hidden, 3)).astype(np.float32),
        "bias0": rng.uniform(-0.5, 0.5, hidden).astype(np.float32),
        "bias1": rng.uniform(-0.5, 0.5, 3).astype(np.float32),
        # Rounded once, so that the reference in float64 receives the same times.
        "in_spikes": (30 * np.concatenate([xy, 1 - xy, np.zeros((batch, 1))], 1)[..., None]).astype(np.float32),
        "labels": rng.integers(0, 3, batch),
    }


def run_worker(python: str, program: str, folder: Path) -> dict[str, np.ndarray]:
    """Start the worker with an interpreter of the program's environment, and read its result."""
    result = folder / f"{program}.npz"
    command = [python, str(FOLDER / "worker.py"), program, str(folder / "setting.json"), str(folder / "work.npz")]
    environment = {**os.environ, "PYTHONPATH": "" if program == "eventax" else str(ROOT)}
    subprocess.run([*command, str(result)], check=True, stdin=subprocess.DEVNULL, env=environment)
    with np.load(result) as data:
        return dict(data)


def trains(run: dict[str, np.ndarray], hidden: int) -> list[np.ndarray]:
    """The sorted spike times of every hidden neuron of every sample."""
    found = []
    for times, neurons in zip(run["times"], run["neurons"], strict=True):
        for neuron in range(hidden):
            mine = times[(neurons == neuron) & np.isfinite(times)]
            found.append(np.sort(mine.astype(np.float64)))
    return found


def spike_errors(run: dict[str, np.ndarray], reference: dict[str, np.ndarray], hidden: int):
    """Distances to the reference, and the share of spike trains with another number of spikes, which have none."""
    pairs = list(zip(trains(run, hidden), trains(reference, hidden), strict=True))
    errors = [np.abs(mine - true) for mine, true in pairs if len(mine) == len(true)]
    other = sum(len(mine) != len(true) for mine, true in pairs)
    return np.concatenate(errors) if errors else np.array([]), other / len(pairs)


def print_table(runs: dict[str, dict], reference: dict[str, np.ndarray], options: argparse.Namespace) -> None:
    """One line per program, and the ratio."""
    head = f"{'program':<10}{'compile':>10}{'step':>12}{'samples/s':>12}{'loss':>9}"
    print(head + f"{'error: median':>16}{'worst':>11}{'other count':>13}")
    for program, run in runs.items():
        step = float(np.median(run["seconds"]))
        errors, other = spike_errors(run, reference, options.hidden)
        median, worst = (np.median(errors), errors.max()) if errors.size else (np.nan, np.nan)
        line = f"{program:<10}{float(run['compile']):>8.1f} s{step * 1e3:>9.1f} ms{options.batch / step:>12.1f}"
        print(line + f"{float(run['loss']):>9.4f}{median:>13.2e} ms{worst:>8.1e} ms{other:>12.2%}")
    if "eventax" in runs:
        ratio = np.median(runs["eventax"]["seconds"]) / np.median(runs["eventsnn"]["seconds"])
        print(f"a step of Eventax takes {ratio:.1f} times as long")


def main() -> None:
    """Read the options, run both programs one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eventax", metavar="PYTHON", help="interpreter of an environment with eventax==0.1.0")
    parser.add_argument("--hidden", type=int, default=120)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5, help="steps that are timed, after one that is not")
    parser.add_argument("--samples", type=int, default=16, help="samples whose spike times are compared")
    parser.add_argument("--max-event-steps", type=int, default=1000, help="of both programs")
    parser.add_argument("--record-events", type=int, default=3000, help="events that Eventax may record")
    parser.add_argument("--eventax-stepsize", type=float, default=0.05, help="of Eventax's Euler solver, in ms")
    options = parser.parse_args()
    options.samples = min(options.samples, options.batch)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "setting.json").write_text(json.dumps(vars(options)))
        np.savez(folder / "work.npz", **make_work(options.hidden, options.batch))
        runs = {"eventsnn": run_worker(sys.executable, "eventsnn", folder)}
        if options.eventax:
            runs["eventax"] = run_worker(options.eventax, "eventax", folder)
        reference = run_worker(sys.executable, "reference", folder)
    print(f"5-{options.hidden}-3 QIF, batch {options.batch}, 30 ms, on {runs['eventsnn']['device']}")
    print_table(runs, reference, options)


if __name__ == "__main__":
    main()
