"""What every method of a model has to give, found without computing anything.

The methods are evaluated for shapes and dtypes alone, as the engine calls them: compiled, with numbers that nobody
knows yet. That takes milliseconds, so every network does it when it is built.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...flows.base import AbstractFlow
from ..base import NeuronModel, valid_closed_form
from ..mixed import AbstractMixed
from ..parameter import frozen, per_neuron
from ..wrapper import AbstractWrapper
from .explain import advice_about, advice_about_form, describe

Form: TypeAlias = jax.ShapeDtypeStruct


class Problem(NamedTuple):
    """A part of the contract that a model breaks, and the exception that shows it, if there is one."""

    method: str
    got: str
    expected: str
    advice: str
    cause: Exception | None = None

    def __str__(self) -> str:
        return f"{self.method}: {self.got}; expected {self.expected}: {self.advice}"


def contract_error(model: NeuronModel, problems: list[Problem]) -> ValueError:
    """One error for all problems, caused by the first exception among them."""
    places = "1 place" if len(problems) == 1 else f"{len(problems)} places"
    listed = "".join(f"\n- {problem}" for problem in problems)
    error = ValueError(f"{type(model).__name__} breaks the contract of a neuron model in {places}:{listed}")
    error.__cause__ = next((problem.cause for problem in problems if problem.cause is not None), None)
    return error


def reject_broken_model(model: NeuronModel, n_neurons: int, dtype: Any) -> None:
    """A `ValueError` if a method of `model` fails, or gives an array of another shape or dtype than the contract says.

    Values are not looked at; `check_neuron_model` does that.
    """
    state = state_of(model, n_neurons, dtype)
    problems = [state] if isinstance(state, Problem) else form_problems(model, state)
    if problems:
        raise contract_error(model, problems)


def state_of(model: NeuronModel, n_neurons: int, dtype: Any | None) -> "Problem | Form":
    """The shape and dtype of the initial state, or what is wrong with them. Without a dtype any floats will do."""
    kind = "of floats" if dtype is None else f"and dtype {jnp.dtype(dtype)}"
    words = f"an array of shape ({n_neurons}, channels) {kind}"
    forms: list[Form] = []

    def fits(form: Form) -> bool:
        forms.append(jax.ShapeDtypeStruct(form.shape, form.dtype if dtype is None else dtype))
        right = _is_float(form.dtype) if dtype is None else _dtype_fits(form, dtype)
        return right and form.ndim == 2 and form.shape[0] == n_neurons and form.shape[1] > 0

    method = Method("init_state", lambda model: model.init_state(n_neurons), (), words, fits)
    return next(iter(_problems(model, n_neurons, [method])), None) or forms[0]


def form_problems(model: NeuronModel, state: Form, args: Any = None, *, thorough: bool = False) -> list[Problem]:
    """What is wrong with the shapes and dtypes of what all other methods give, one problem for each.

    `thorough` looks at closed forms of this package as well, and at how they search for a crossing.
    """
    return _problems(model, state.shape[0], list(_methods(model, state, args, thorough)))


def _problems(model: NeuronModel, n_neurons: int, methods: "list[Method]") -> list[Problem]:
    """The first problem of each method, all from one trace: most of the time goes to what is done to the numbers."""
    arrays, rest = eqx.partition(model, eqx.is_array)
    found: dict[str, Problem] = {}

    def look(arrays: Any, inputs: list[tuple[Any, ...]]) -> None:
        given = frozen(eqx.combine(arrays, rest))
        whole = per_neuron(given, n_neurons)
        for method, own in zip(methods, inputs, strict=True):
            problem = None if method.name in found else method.problem(given if method.scalars else whole, own)
            if problem is not None:
                found[method.name] = problem

    jax.eval_shape(look, arrays, [method.inputs for method in methods])
    return list(found.values())


class Method(NamedTuple):
    """How the engine calls a method, and what it expects.

    - `call`: what is called, with a model and the `inputs`.
    - `expected`: what it has to give in words, `fits` whether a shape and dtype are so, and `shape` the only one that
        is, if there is only one.
    - `says`: how the sentence about what it gives begins.
    - `may_be_none`: whether `None` is an answer.
    - `scalars`: whether the engine calls it before every number has one value per neuron.
    """

    name: str
    call: Callable[..., Any]
    inputs: tuple[Form, ...]
    expected: str
    fits: Callable[[Form], bool]
    shape: tuple[int, ...] | None = None
    says: str = "it gives"
    may_be_none: bool = False
    scalars: bool = False

    def problem(self, model: NeuronModel, inputs: tuple[Any, ...]) -> Problem | None:
        """What is wrong with what it gives."""
        try:
            form = _form_of(self.call(model, *inputs))
        except Exception as error:
            return failure(self.name, error, self.expected)
        if isinstance(form, Form):
            got, sound = f"an array of shape {form.shape} and dtype {form.dtype}", self.fits(form)
        else:
            got, sound = form or "None", form is None and self.may_be_none
        if sound:
            return None
        advice = advice_about_form(self.name, form, self.shape, self.expected)
        return Problem(self.name, f"{self.says} {got}", self.expected, advice)


def _form_of(value: Any) -> "Form | str | None":
    """The shape and dtype of an array, a description if it is none, or `None` for `None`."""
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        return None if value is None else describe(value)
    dtype = jax.dtypes.canonicalize_dtype(value.dtype)
    return jax.ShapeDtypeStruct(value.shape, dtype, weak_type=getattr(value, "weak_type", False))


def failure(method: str, error: Exception, expected: str, otherwise: str = "see NeuronModel for how it is called"):
    """The problem of a method that raises an error; `otherwise` is what to do if nobody knows this one."""
    # What JAX calls a tracer is an array to whoever writes a model.
    message = re.sub(r"'\w*Tracer'", "'Array'", (str(error).strip() or "no message").splitlines()[0])
    return Problem(
        method, f"{type(error).__name__}: {message}", expected, advice_about(error, method) or otherwise, error
    )


def _methods(model: NeuronModel, state: Form, args: Any, thorough: bool) -> Iterator[Method]:
    """All methods but `init_state`, for neurons with this state."""
    n, dtype = state.shape[0], state.dtype
    every, mask = _exactly((n,), dtype), _exactly((n,), jnp.bool)
    like_state = _exactly(state.shape, dtype)
    times = jax.ShapeDtypeStruct((n,), dtype)
    weights = jax.ShapeDtypeStruct((n, len(model.ports)) if model.ports else (n,), dtype)
    spiked = jax.ShapeDtypeStruct((n,), jnp.bool)
    for t in times, jax.ShapeDtypeStruct((), dtype):
        yield Method("dynamics", lambda model, t, y: model.dynamics(t, y, args), (t, state), *like_state)
        yield Method("spike_condition", lambda model, t, y: model.spike_condition(t, y, args), (t, state), *every)
    yield Method("input_spikes", lambda model, y, w: model.input_spikes(y, w), (state, weights), *like_state)
    yield Method("reset_spiked", lambda model, y, spiked: model.reset_spiked(y, spiked), (state, spiked), *like_state)
    rows = f"an array of shape ({n}, channels)", lambda form: form.ndim == 2 and form.shape[0] == n
    yield Method("observe", lambda model, y: model.observe(y), (state,), *rows)
    yield Method("emits", lambda model, y: model.emits(y), (state,), *mask, may_be_none=True)
    yield Method("pass_breakpoint", lambda model, y: model.pass_breakpoint(y), (state,), *like_state)
    yield from _without_state(n, dtype)
    if thorough or any(_has_closed_form_of_its_own(part) for part in parts_of(model)):
        yield from _closed_form(state, thorough)


def parts_of(model: NeuronModel) -> Iterator[NeuronModel]:
    """A model and those inside it."""
    yield model
    inside = model.parts if isinstance(model, AbstractMixed) else ()
    for part in (model.neuron,) if isinstance(model, AbstractWrapper) else inside:
        yield from parts_of(part)


def _has_closed_form_of_its_own(model: NeuronModel) -> bool:
    """Whether its closed form was written outside of this package, whose own take longer to trace than all else."""
    return type(model).closed_form.__module__.split(".")[0] != __name__.split(".")[0]


def _closed_form(state: Form, thorough: bool) -> Iterator[Method]:
    expected = "an AbstractFlow, such as LinearFlow, or None"
    yield Method("closed_form", _no_flow, (), expected, lambda form: False, may_be_none=True)
    times = jax.ShapeDtypeStruct(state.shape[:1], state.dtype)
    calls: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "after": (lambda flow, y, dt: flow.after(y, dt), _exactly(state.shape, state.dtype)),
        "may_cross": (lambda flow, y, dt: flow.may_cross(y, y, dt), _exactly(times.shape, jnp.bool)),
    }
    if thorough:
        exact = _exactly(times.shape, state.dtype)
        calls["first_crossing"] = (lambda flow, y, dt: flow.first_crossing(y, dt, dt), exact)
    for name, (call, form) in calls.items():

        def of_flow(model: NeuronModel, y: Any, dt: Any, call: Callable[..., Any] = call) -> Any:
            flow = valid_closed_form(model)
            return None if flow is None else call(flow, y, dt)

        yield Method("closed_form", of_flow, (state, times), *form, says=f"{name} gives", may_be_none=True)


def _without_state(n: int, dtype: Any) -> Iterator[Method]:
    """Methods that the engine calls with numbers as they were given, and with one value per neuron."""

    def values_fit(form: Form) -> bool:
        return form.shape in ((), (n,)) and _dtype_fits(form, dtype)

    def times_fit(form: Form) -> bool:
        return form.ndim in (1, 2) and form.shape[:-1] in ((), (n,)) and _is_float(form.dtype)

    values = f"a scalar or shape ({n},), of dtype {dtype}", values_fit
    times = f"an array of shape (times,) or ({n}, times), of floats", times_fit
    for scalars in True, False:
        yield Method("spike_values", lambda m: m.spike_values(), (), *values, may_be_none=True, scalars=scalars)
        yield Method("breakpoints", lambda m: m.breakpoints(), (), *times, may_be_none=True, scalars=scalars)


def _no_flow(model: NeuronModel) -> Any:
    """What `closed_form` gives if it is no flow."""
    flow = valid_closed_form(model)
    return None if isinstance(flow, AbstractFlow) else flow


def _exactly(shape: tuple[int, ...], dtype: Any) -> tuple[str, Callable[[Form], bool], tuple[int, ...]]:
    words = f"an array of shape {shape} and dtype {jnp.dtype(dtype)}"
    return words, lambda form: form.shape == shape and _dtype_fits(form, dtype), shape


def _is_float(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating)


def _dtype_fits(form: Form, dtype: Any) -> bool:
    """Numbers that are written without a dtype take that of whatever they meet."""
    return form.dtype == dtype or (form.weak_type and _is_float(form.dtype) and _is_float(dtype))
