"""Does a neuron model keep the contract? For people who write their own."""

import inspect
from typing import Any

import jax
from jaxtyping import ArrayLike, Float, PRNGKeyArray

from ..base import NeuronModel
from . import derivatives, events, slopes, values
from .checked import Checked, guess_neurons
from .closed_form import closed_form
from .contract import contract_error


def check_neuron_model(
    model: NeuronModel,
    n_neurons: int | None = None,
    *,
    y: Float[ArrayLike, "neurons channels"] | None = None,
    args: Any = None,
    key: PRNGKeyArray | None = None,
) -> None:
    """Tell in plain words which parts of the contract of `NeuronModel` a model breaks.

    The methods are called as the engine calls them, at the initial state and at random states
    near it. Every parameter is moved, and derivatives are compared with differences, along paths
    through time and through states. A closed form is compared with the methods along paths from
    there. A pass is no proof: only a few states are looked at.

    **Arguments:**

    - `model`: an instance, such as `MyNeuron(3)`. Best with three neurons or so: with one neuron
        nothing can be said about rows that depend on each other.
    - `n_neurons`: how many neurons it was built for; by default what its arrays tell, or 3.
    - `y`: a state to look around, by default the initial one. Give one where the model is at
        home if the initial state is a special place.
    - `args`: passed to the methods.
    - `key`: for the random states, by default always the same.

    **Raises:** `ValueError` with all problems, each with what was found, what is expected, and what
    to do; `TypeError` if `model` is not an instance of a `NeuronModel`.
    """
    if inspect.isclass(model):
        raise TypeError(f"model is the class {model.__name__}, expected an instance: pass {model.__name__}(3)")
    if not isinstance(model, NeuronModel):
        raise TypeError(f"model is {model!r}, expected an instance of a subclass of NeuronModel")
    checked = Checked(model, guess_neurons(model) if n_neurons is None else n_neurons, args)
    key = jax.random.PRNGKey(0) if key is None else key
    if checked.initial_state() and checked.given_state(y) and checked.draw_states(key):
        values.forms(checked)
        checked.find_flow()
        values.finite(checked)
        values.time_per_neuron(checked)
        values.transformable(checked)
        values.rows(checked)
        events.unspiked_rows(checked)
        events.arrivals(checked)
        slopes.differentiable(checked)
        slopes.condition_slope(checked)
        derivatives.parameters(checked)
        events.resets_that_end(checked)
        closed_form(checked)
    if checked.problems:
        raise contract_error(model, checked.problems)
