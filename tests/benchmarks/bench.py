"""All benchmarks: training steps next to other programs in one sitting, and how time grows with the work.

    python tests/benchmarks/bench.py --eventax $PEERS/eventax/bin/python --jaxsnn $PEERS/jaxsnn/bin/python \\
        --snntorch $PEERS/torch/bin/python --nest $PEERS/nest/bin/python --out performance.json

A step is the loss, its gradient and an Adam update; times are medians after a warm-up, every program in a process of
its own. A peer that is not given is left out. Quote the ratios, not the times: they depend on the machine and its
load. Eventsnn splits batches over all cores by `over_devices`. Eventax cannot be split like this, and the peers share
their work out among cores by themselves.
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from works import BrunelWork, RecurrentWork, Work

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]

LIF, QIF, RECURRENT, BRUNEL = Work("LIF"), Work("QIF"), RecurrentWork(), BrunelWork()
SYNAPSES = [BrunelWork(10_000, 4 * n // 5, n // 5, t_end=30.0) for n in (25, 50, 100, 200)]
WIDE = Work("LIF", (350, 10), 784, 128, 2000, wide=True)
SCALING = {
    "hidden neurons": [(n, Work(layers=(n, 3), max_event_steps=8 * n + 100)) for n in (30, 60, 120, 240, 480)],
    "inputs": [(n, Work(inputs=n)) for n in (6, 12, 24, 48, 96)],
    "batch": [(n, Work(batch=n)) for n in (32, 64, 128, 256, 512, 1024)],
    "layers": [(n + 1, Work(layers=(120,) * n + (3,))) for n in (1, 2, 3, 4)],
}


def run_worker(
    options: argparse.Namespace,
    python: str,
    program: str,
    work: Work | RecurrentWork | BrunelWork,
    keep_memory: bool = False,
    **extra: Any,
) -> dict[str, Any]:
    """Start a worker with an interpreter of the program's environment, and read its result.

    `keep_memory` tells the C library of Linux not to give memory back to the system after every step.
    """
    job = {
        "program": program,
        "work": dataclasses.asdict(work),
        "t_end": work.t_end,
        "repeats": options.repeats,
        "samples": 0,
        "devices": options.devices,
        "record_events": options.record_events,
        "eventax_stepsize": options.eventax_stepsize,
    }
    script = "worker_snntorch.py" if program == "snntorch" else "worker.py"
    if isinstance(work, BrunelWork):
        script = "worker_brunel.py"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job | extra))
        np.savez(folder / "work.npz", **work.make())
        files = [str(folder / file) for file in ("job.json", "work.npz", "result.npz")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT) if program in ("eventsnn", "reference") else ""}
        if keep_memory:
            environment["GLIBC_TUNABLES"] = (
                "glibc.malloc.trim_threshold=4000000000:glibc.malloc.mmap_threshold=1000000000"
            )
        subprocess.run([python, str(FOLDER / script), *files], check=True, stdin=subprocess.DEVNULL, env=environment)
        with np.load(folder / "result.npz") as data:
            return dict(data)


def step_time(run: dict[str, Any]) -> float:
    """The median time of a step, in s."""
    return float(np.median(run["seconds"]))


def spike_errors(run: dict[str, Any], reference: dict[str, Any], hidden: int) -> dict[str, float]:
    """Distances of hidden spikes to the reference, in ms; spike trains with another number of spikes have none."""

    def trains(run):
        for times, neurons in zip(run["times"], run["neurons"], strict=True):
            for neuron in range(hidden):
                yield np.sort(times[(neurons == neuron) & np.isfinite(times)].astype(np.float64))

    pairs = list(zip(trains(run), trains(reference), strict=True))
    errors = np.concatenate([np.abs(mine - true) for mine, true in pairs if len(mine) == len(true)])
    other = sum(len(mine) != len(true) for mine, true in pairs) / len(pairs)
    return {"median": float(np.median(errors)), "worst": float(np.max(errors)), "other": other}


def against_eventax(options: argparse.Namespace, work: Work) -> list[dict[str, Any]]:
    """A step of both on the same work, and how far their spikes are from a run in float64 with rtol = 1e-10."""
    runs = {"eventsnn": run_worker(options, sys.executable, "eventsnn", work, samples=options.samples)}
    if options.devices > 1:
        runs["eventsnn, one device"] = run_worker(
            options, sys.executable, "eventsnn", work, samples=options.samples, devices=1
        )
    if options.eventax:
        runs["Eventax 0.1.0"] = run_worker(options, options.eventax, "eventax", work, samples=options.samples)
    reference = run_worker(options, sys.executable, "reference", work, samples=options.samples)
    rows = []
    for program, run in runs.items():
        errors = spike_errors(run, reference, work.layers[0])
        ratio = step_time(run) / step_time(runs["eventsnn"])
        rows.append(row(work.describe(), program, run, work.batch, ratio) | {"error": errors})
    return rows


def recurrent(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A recurrent network whose output is to spike at some time, and how far that spike is from the reference."""
    runs = {"eventsnn": run_worker(options, sys.executable, "eventsnn", RECURRENT)}
    if options.devices > 1:
        runs["eventsnn, one device"] = run_worker(options, sys.executable, "eventsnn", RECURRENT, devices=1)
    if options.eventax:
        runs["Eventax 0.1.0, steps of 0.1 ms"] = run_worker(options, options.eventax, "eventax", RECURRENT)
    truth = run_worker(options, sys.executable, "reference", RECURRENT)["first"]
    rows = []
    for program, run in runs.items():
        distance = np.abs(run["first"].astype(np.float64) - truth)[np.isfinite(truth) & np.isfinite(run["first"])]
        other = float(np.mean(np.isfinite(run["first"]) != np.isfinite(truth)))
        errors = {"median": float(np.median(distance)), "worst": float(np.max(distance)), "other": other}
        ratio = step_time(run) / step_time(runs["eventsnn"])
        rows.append(row(RECURRENT.describe(), program, run, RECURRENT.batch, ratio) | {"error": errors})
    return rows


def brunel(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One second of a balanced network, forward only; `rate` is that of a neuron in the second half, in 1/s."""
    runs = {"eventsnn": run_worker(options, sys.executable, "eventsnn", BRUNEL)}
    if options.nest:
        runs["NEST 3.10, spikes off the grid"] = run_worker(options, options.nest, "nest", BRUNEL)
        runs["Brian2 2.9, grid of 0.1 ms"] = run_worker(options, options.nest, "brian2", BRUNEL)
    rows = []
    for program, run in runs.items():
        late = np.sum(run["times"] > BRUNEL.t_end / 2)
        rate = float(late / BRUNEL.neurons / (BRUNEL.t_end / 2000))
        ratio = step_time(run) / step_time(runs["eventsnn"])
        rows.append(row(BRUNEL.describe(), program, run, None, ratio) | {"rate": rate})
    return rows


def synapses(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Peak memory of a large network with more and more synapses. The ratio is that of the times to the first."""
    runs = [run_worker(options, sys.executable, "eventsnn", work) for work in SYNAPSES]
    return [
        row(f"{work.describe()}, {work.excitatory + work.inhibitory} synapses each", "eventsnn", run, None,
            step_time(run) / step_time(runs[0]))
        for work, run in zip(SYNAPSES, runs, strict=True)
    ]  # fmt: skip


def against_snntorch(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A step next to time steps of 1 ms and of 0.1 ms."""
    if not options.snntorch:
        return []
    before = run_worker(options, sys.executable, "eventsnn", LIF)
    peers = {dt: run_worker(options, options.snntorch, "snntorch", LIF, dt=dt) for dt in (1.0, 0.1)}
    after = run_worker(options, sys.executable, "eventsnn", LIF)
    both = {**before, "seconds": np.concatenate([before["seconds"], after["seconds"]])}
    rows = [row(LIF.describe(), "eventsnn", both, LIF.batch, 1.0)]
    for dt, run in peers.items():
        rows.append(row(LIF.describe(), f"snnTorch, {dt:g} ms steps", run, LIF.batch, step_time(run) / step_time(both)))
    return rows


def against_jaxsnn(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Its analytic Yin-Yang example: the difference of six epochs and one, per training sample."""
    if not options.jaxsnn:
        return []

    def seconds(epochs: int) -> float:
        command = [options.jaxsnn, "-m", "jaxsnn.examples.event.yinyang_analytical", "--epochs", str(epochs)]
        environment = {**os.environ, "PYTHONPATH": ""}
        watch = "import subprocess, sys, time; t = time.perf_counter(); subprocess.run(sys.argv[1:], check=True, "
        watch += "capture_output=True); print(time.perf_counter() - t)"
        done = subprocess.run(
            [sys.executable, "-c", watch, *command],
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        return float(re.findall(r"[\d.]+", done.stdout)[-1])

    run = run_worker(options, sys.executable, "eventsnn", LIF)
    per_sample = float(np.median([(seconds(6) - seconds(1)) / 5 / 4992 for _ in range(3)]))
    work = "Yin-Yang, per training sample"
    ratio = per_sample / (step_time(run) / LIF.batch)
    peer = {"work": work, "program": "jaxsnn 0.3.0, 100 hidden", "samples_per_s": 1 / per_sample, "ratio": ratio}
    return [row(work, "eventsnn, 120 hidden", run, LIF.batch, 1.0), peer]


def against_itself(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Twice the capacity, a larger batch, and many inputs. The ratio is that of the times per sample to the first."""
    works = [Work(max_event_steps=500), LIF, Work(max_event_steps=2000), Work(batch=1024, max_event_steps=500), WIDE]
    runs: list[list[dict[str, Any]]] = [[] for _ in works]
    for _ in range(2):
        for run, work in zip(runs, works, strict=True):
            run.append(run_worker(options, sys.executable, "eventsnn", work, keep_memory=True))
    merged = [{**first, "seconds": np.concatenate([r["seconds"] for r in (first, *rest)])} for first, *rest in runs]
    base = step_time(merged[0]) / LIF.batch
    rows = []
    for run, work in zip(merged, works, strict=True):
        name = f"{work.describe()}, max_event_steps {work.max_event_steps}"
        rows.append(row(name, "eventsnn", run, work.batch, step_time(run) / work.batch / base))
    return rows


def row(work: str, program: str, run: dict[str, Any], batch: int | None, ratio: float) -> dict[str, Any]:
    """One line of the table; times in s, memory in MB."""
    out = {"work": work, "program": program, "step": step_time(run), "ratio": ratio}
    if batch is not None:
        out["samples_per_s"] = batch / out["step"]
    for name in ("compile", "peak"):
        if name in run:
            out[name] = float(run[name])
    if "forward" in run:
        out["forward"] = float(np.median(run["forward"]))
    return out


def scaling(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """How time grows when one number of the LIF work changes."""
    found = {}
    for name, works in SCALING.items():
        found[name] = []
        for number, work in works:
            run = run_worker(options, sys.executable, "eventsnn", work, keep_memory=True)
            found[name].append({name: number} | row(work.describe(), "eventsnn", run, work.batch, 1.0))
            print_rows(found[name][-1:])
    return found


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Lines of a table in Markdown."""
    for line in rows:
        error = line.get("error")
        cells = [
            line["work"],
            line["program"],
            f"{line['step'] * 1e3:.1f} ms" if "step" in line else "",
            f"{line['forward'] * 1e3:.1f} ms" if "forward" in line else "",
            f"{line['samples_per_s']:,.0f}" if "samples_per_s" in line else "",
            f"{line['ratio']:.2f}",
            f"{line['compile']:.1f} s" if "compile" in line else "",
            f"{line['peak']:.0f} MB" if "peak" in line else "",
            f"{error['median']:.1e} / {error['worst']:.1e} ms, {error['other']:.2%}" if error else "",
            f"{line['rate']:.1f} spikes/s" if "rate" in line else "",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


PARTS = {
    "lif": lambda options: against_eventax(options, LIF),
    "qif": lambda options: against_eventax(options, QIF),
    "snntorch": against_snntorch,
    "jaxsnn": against_jaxsnn,
    "itself": against_itself,
    "recurrent": recurrent,
    "brunel": brunel,
    "synapses": synapses,
}


def main() -> None:
    """Read the options, run what was asked for, print the table, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for peer in ("eventax", "jaxsnn", "snntorch", "nest"):
        parser.add_argument(f"--{peer}", metavar="PYTHON", help=f"interpreter of an environment with {peer}")
    parser.add_argument("--devices", type=int, default=os.cpu_count(), help="over how many cores eventsnn is split")
    parser.add_argument("--only", nargs="+", choices=[*PARTS, "scaling"], help="leave the rest out")
    parser.add_argument("--repeats", type=int, default=7, help="steps that are timed, after a warm-up")
    parser.add_argument("--samples", type=int, default=16, help="samples whose spike times are compared")
    parser.add_argument("--record-events", type=int, default=3000, help="events that Eventax may record")
    parser.add_argument("--eventax-stepsize", type=float, default=0.05, help="of Eventax's Euler solver, in ms")
    parser.add_argument("--out", metavar="FILE", help="where to write the numbers, as JSON")
    options = parser.parse_args()

    print("| work | program | step | spike times alone | samples/s | time as a ratio | compile | peak memory | "
          "error of spikes: median / worst, trains of another length | rate |")  # fmt: skip
    print("| --- " * 10 + "|", flush=True)
    wanted = options.only or [*PARTS, "scaling"]
    result: dict[str, Any] = {"rows": {}, "scaling": {}}
    for name in wanted:
        if name == "scaling":
            result["scaling"] = scaling(options)
        else:
            result["rows"][name] = PARTS[name](options)
            print_rows(result["rows"][name])
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
