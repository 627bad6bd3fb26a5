"""Makes `nest_neurons.json`: spike times of single neurons in NEST 3.10, with our names for their parameters.

    $PEERS/nest/bin/python tests/data/make_nest_neurons.py

Membranes are given a leak conductance of 1 nS (AdEx: its own), so that the capacitance is the time constant and
currents are in units of the voltage, as ours are. Spikes arrive through `spike_generator`.

What the spike times are worth (`accuracy`, in ms) differs by how NEST finds them:
- `*_ps` models place spikes and resets between grid points, to rounding; inputs are off the grid as well.
- `aeif_psc_exp` resets within the grid step, at the end of a step of its own integrator, and reports the end of the
  grid step: at most one grid step late, which does not add up, unless a refractory time is counted from there on.
- `iaf_cond_exp` resets at the end of the grid step: at most one grid step late for each spike so far.
- `mat2_psc_exp` raises its threshold at the end of the grid step; the voltage knows nothing of it. The raised threshold
  is late by at most one step and decays slower than the voltage rises, so what adds up is a few steps.
- `izhikevich` is integrated by the forward Euler method on the grid, and its errors grow with time. Its accuracy is
  taken from NEST alone: twice the largest change of a spike time when the grid is made twice as coarse.
"""

import json
from pathlib import Path

import nest

GRID = 1e-4
PRECISE = 1e-3  # the smallest refractory time of the precise models is one step of the grid
DELAY = 1.0
OFF_GRID = [(3.1234567, 2.5), (7.7, 3.0), (7.7, -0.5), (15.0123, -2.0), (21.987654, 4.0), (30.5, 3.0), (31.25, 2.0)]
ON_GRID = [(5.0, 1.0), (12.5, 2.0), (20.0, -1.5), (33.3, 1.5), (40.0, 2.0)]
BRETTE_GERSTNER = {
    "capacitance": 281.0,
    "gleak": 30.0,
    "vrest": -70.6,
    "vt": -50.4,
    "delta_t": 2.0,
    "vreset": -70.6,
    "thresh": 0.0,
    "tw": 144.0,
    "a": 4.0,
    "b": 80.5,
    "tsyn": 5.0,
}


def spike_times(nest_model, nest_parameters, arrivals, t_end, grid):
    """Run one neuron; arrivals at one instant come in the order in which they are given."""
    nest.ResetKernel()
    nest.set(tics_per_ms=round(10 / grid), resolution=grid)
    nest.verbosity = nest.VerbosityLevel.ERROR
    precise = nest_model.endswith("_ps")
    neuron = nest.Create(nest_model, 1, nest_parameters)
    for time, weight in arrivals:
        train = {"spike_times": [round(time - DELAY, 9)], "precise_times": precise}
        generator = nest.Create("spike_generator", 1, train)
        nest.Connect(generator, neuron, syn_spec={"weight": weight, "delay": DELAY})
    recorder = nest.Create("spike_recorder")
    nest.Connect(neuron, recorder)
    nest.Simulate(t_end)
    return sorted(float(time) for time in recorder.get("events")["times"])


def linear(ic, **ours):
    """A leaky membrane with threshold 1 in NEST's names and in ours."""
    ours = {"tmem": 20.0, "tsyn": 5.0, "thresh": 1.0, "vreset": 0.0, "ic": ic} | ours
    theirs = {"C_m": ours["tmem"], "tau_m": ours["tmem"], "V_th": ours["thresh"], "V_reset": ours["vreset"], "I_e": ic}
    synapses = {"tau_syn_ex": ours["tsyn"], "tau_syn_in": ours["tsyn"]} if "tsyn" in ours else {}
    return theirs | {"E_L": 0.0, "V_m": 0.0} | synapses, ours


def exponential(ours):
    """EIF or AdEx in NEST's names."""
    theirs = {
        "C_m": ours.get("capacitance", ours.get("tmem")),
        "g_L": ours.get("gleak", 1.0),
        "E_L": ours["vrest"],
        "V_m": ours["vrest"],
        "V_th": ours["vt"],
        "Delta_T": ours["delta_t"],
        "V_reset": ours["vreset"],
        "V_peak": ours["thresh"],
        "tau_w": ours.get("tw", 100.0),
        "a": ours.get("a", 0.0),
        "b": ours.get("b", 0.0),
        "tau_syn_ex": ours["tsyn"],
        "tau_syn_in": ours["tsyn"],
        "I_e": ours["ic"],
        "gsl_error_tol": 1e-12,
    }
    return theirs, ours


def conductance(ours):
    """ConductanceLIF in NEST's names, where inhibition is a negative weight as well."""
    theirs = {
        "C_m": ours["tmem"],
        "g_L": 1.0,
        "E_L": ours["vrest"],
        "V_m": ours["vrest"],
        "V_th": ours["thresh"],
        "V_reset": ours["vreset"],
        "E_ex": ours["eexc"],
        "E_in": ours["einh"],
        "tau_syn_ex": ours["texc"],
        "tau_syn_in": ours["tinh"],
        "I_e": ours["ic"],
    }
    return theirs, ours


def adaptive_threshold(ours):
    """MAT in NEST's names."""
    names = {"alpha_1": "alpha1", "alpha_2": "alpha2", "tau_1": "t1", "tau_2": "t2", "omega": "omega", "I_e": "ic"}
    times = {"C_m": "tmem", "tau_m": "tmem", "tau_syn_ex": "tsyn", "tau_syn_in": "tsyn"}
    return {theirs: ours[mine] for theirs, mine in (names | times).items()} | {"E_L": 0.0, "V_m": 0.0}, ours


def quadratic(ours):
    """Izhikevich in NEST's names."""
    same = {name: ours[name] for name in "abcd"}
    return same | {"I_e": ours["ic"], "V_m": -65.0, "U_m": ours["b"] * -65.0, "V_th": 30.0}, ours


def case(model, nest_model, names, t_end, arrivals=(), tref=0.0, grid=GRID, steps=None):
    """One neuron, run; `steps` is the accuracy in steps of the grid, or None where it is measured on a coarser one."""
    theirs, ours = names
    nest_parameters = theirs if nest_model == "izhikevich" else theirs | {"t_ref": tref}
    times = spike_times(nest_model, nest_parameters, arrivals, t_end, grid)
    if steps is None:
        coarse = spike_times(nest_model, nest_parameters, arrivals, t_end, 2 * grid)
        accuracy = 2 * max(abs(one - other) for one, other in zip(times, coarse, strict=True))
    else:
        accuracy = steps(len(times)) * grid
    print(f"{model:15s} {nest_model:17s} tref {tref:g}, {len(times)} spikes, accuracy {accuracy:.1e}")
    return {
        "model": model,
        "nest_model": nest_model,
        "nest_parameters": nest_parameters,
        "grid": grid,
        "parameters": ours,
        "tref": tref,
        "arrivals": arrivals,
        "t_end": t_end,
        "accuracy": accuracy,
        "times": times,
    }


def precise_cases():
    for model, nest_model in (("LIF", "iaf_psc_exp_ps"), ("AlphaLIF", "iaf_psc_alpha_ps")):
        for tref in (PRECISE, 2.0):
            options = {"tref": tref, "grid": PRECISE, "steps": lambda spikes: 1e-7}
            yield case(model, nest_model, linear(1.5), 100.0, **options)
            yield case(model, nest_model, linear(0.6), 60.0, OFF_GRID, **options)
    # A Dirac delta on a refractory membrane is lost in NEST, as it is where the membrane is held.
    delta = linear(0.9, tmem=20.0)
    for names in delta:
        for name in ("tsyn", "tau_syn_ex", "tau_syn_in"):
            names.pop(name, None)
    deltas = [(time, weight / 8) for time, weight in OFF_GRID if weight != -0.5] + [(22.5, 0.5), (33.25, 0.9)]
    for tref in (PRECISE, 2.0):
        yield case("DeltaLIF", "iaf_psc_delta_ps", delta, 60.0, deltas, tref, PRECISE, lambda spikes: 1e-7)


def grid_cases():
    eif = {"vrest": -65.0, "vt": -59.9, "delta_t": 3.48, "tmem": 10.0, "vreset": -68.0, "thresh": 0.0, "tsyn": 5.0}
    once = {"steps": lambda spikes: 1.5}
    every = {"steps": lambda spikes: spikes + 1}
    scaled = [(time, 15 * weight) for time, weight in ON_GRID]
    yield case("EIF", "aeif_psc_exp", exponential(eif | {"ic": 12.0}), 80.0, **once)
    yield case("EIF", "aeif_psc_exp", exponential(eif | {"ic": 2.0}), 60.0, scaled, **once)
    yield case("EIF", "aeif_psc_exp", exponential(eif | {"ic": 12.0}), 80.0, scaled, 2.0, **every)
    large = [(time, 700 * weight) for time, weight in ON_GRID]
    yield case("AdEx", "aeif_psc_exp", exponential(BRETTE_GERSTNER | {"ic": 1000.0}), 300.0, **once)
    yield case("AdEx", "aeif_psc_exp", exponential(BRETTE_GERSTNER | {"ic": 500.0}), 100.0, large, **once)
    vogels = {"vrest": -60.0, "thresh": -50.0, "vreset": -60.0, "eexc": 0.0, "einh": -80.0}
    vogels |= {"tmem": 20.0, "texc": 5.0, "tinh": 10.0}
    yield case("ConductanceLIF", "iaf_cond_exp", conductance(vogels | {"ic": 15.0}), 100.0, **every)
    yield case("ConductanceLIF", "iaf_cond_exp", conductance(vogels | {"ic": 5.0}), 60.0, ON_GRID, **every)
    yield case("ConductanceLIF", "iaf_cond_exp", conductance(vogels | {"ic": 5.0}), 60.0, ON_GRID, 2.0, **every)
    # NEST's exact propagator does not exist for equal time constants, so the synapse is not at our default of 5.
    mat = {"tmem": 5.0, "tsyn": 4.0, "omega": 19.0, "alpha1": 37.0, "alpha2": 2.0, "t1": 10.0, "t2": 200.0}
    few = {"steps": lambda spikes: 3, "tref": GRID}
    yield case("MAT", "mat2_psc_exp", adaptive_threshold(mat | {"ic": 30.0}), 100.0, **few)
    strong = [(time, 40 * weight) for time, weight in ON_GRID]
    yield case("MAT", "mat2_psc_exp", adaptive_threshold(mat | {"ic": 12.0}), 60.0, strong, **few)
    for a, b, c, d in ((0.02, 0.2, -65.0, 8.0), (0.1, 0.2, -65.0, 2.0), (0.02, 0.2, -50.0, 2.0)):
        constants = {"a": a, "b": b, "c": c, "d": d, "ic": 10.0}
        yield case("Izhikevich", "izhikevich", quadratic(constants), 100.0)


def main() -> None:
    """Run all cases and write them down."""
    cases = [*precise_cases(), *grid_cases()]
    text = json.dumps({"origin": "NEST 3.10.0 by make_nest_neurons.py", "cases": cases}, indent=1)
    Path(__file__).with_name("nest_neurons.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
