"""A saved network comes back whole, or an error says what is wrong."""

import json
import os
import pickle
import zipfile

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

from eventsnn.evnn import FFEvNN
from eventsnn.io import load, save
from eventsnn.neuron_models import (
    EIF,
    LIF,
    QIF,
    AtMostOneSpike,
    HodgkinHuxley,
    Mixed,
    Refractory,
    SineCurrent,
    StepCurrent,
    WithBiasCurrent,
)


class FunkyNeuron(LIF):
    def dynamics(self, t, y, args):
        v, i = y[:, 0], y[:, 1]
        dv = (i + self.ic - jnp.sin(v)) / self.tmem.value
        return jnp.stack([dv, -i / self.tsyn.value], axis=1)


def network(model=LIF, **options):
    options = {"wlim": 1.0, "wmean": 4.0, "blim": 0.3, "max_event_steps": 40} | options
    return FFEvNN([4, 2], 3, model, 20.0, jax.random.PRNGKey(3), **options)


def rewrite_header(path, change):
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["header.json"] = change(content["header.json"].decode()).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


IN_SPIKES = np.array([[1.0, 4.0], [2.0, np.inf], [0.5, 3.0]])


@pytest.mark.parametrize("model", [pytest.param(LIF, marks=pytest.mark.slow), QIF, FunkyNeuron])
def test_a_loaded_network_spikes_at_the_same_times_to_the_bit(tmp_path, model):
    net = network(model, rtol=1e-3, atol=1e-5, solver=diffrax.Bosh3())
    save(tmp_path / "net.zip", net)
    loaded = load(tmp_path / "net.zip", custom=[FunkyNeuron])
    before, after = net.record(IN_SPIKES), loaded.record(IN_SPIKES)
    assert np.isfinite(before.times[0]).any()
    for layer in range(2):
        np.testing.assert_array_equal(before.times[layer], after.times[layer])
        np.testing.assert_array_equal(before.neurons[layer], after.neurons[layer])


def test_solver_tolerances_sizes_dtype_and_trainability_survive(tmp_path):
    net = network(solver=diffrax.Dopri5(), rtol=3e-5, atol=1e-7, trainable=("tmem",), output_no_spike_value=-1.0)
    save(tmp_path / "net.zip", net)
    loaded = load(tmp_path / "net.zip")
    assert jax.tree.structure(loaded) == jax.tree.structure(net)
    assert bool(eqx.tree_equal(loaded, net))
    assert isinstance(loaded.solver, diffrax.Dopri5)
    before, after = net.stepsize_controller, loaded.stepsize_controller
    assert (after.rtol, after.atol) == (before.rtol, before.atol) != (1e-4, 1e-6)
    assert loaded.dtype == jnp.float32 and loaded.output_no_spike_value == -1.0
    assert loaded.neurons[0].tmem.trainable and not loaded.neurons[0].tsyn.trainable


def test_a_constant_step_size_and_an_implicit_solver_survive(tmp_path):
    finder = diffrax.VeryChord(rtol=1e-6, atol=1e-8, norm=optimistix.rms_norm)
    solver = diffrax.Kvaerno3(root_finder=finder)
    net = network(solver=solver, stepsize_controller=diffrax.ConstantStepSize(), solver_stepsize=0.1)
    save(tmp_path / "net.zip", net)
    loaded = load(tmp_path / "net.zip")
    assert bool(eqx.tree_equal(loaded, net)) and loaded.solver_stepsize == 0.1


def test_an_implicit_solver_that_takes_its_tolerances_from_the_controller_survives(tmp_path):
    net = network(solver=diffrax.Kvaerno3())
    save(tmp_path / "net.zip", net)
    # Diffrax asks for this object by identity.
    assert load(tmp_path / "net.zip").solver.root_finder.rtol is net.solver.root_finder.rtol


def test_float64_survives_and_is_refused_where_jax_would_round_it(tmp_path):
    with jax.enable_x64(True):
        net = network(dtype=jnp.float64)
        save(tmp_path / "net.zip", net)
        loaded = load(tmp_path / "net.zip")
        assert loaded.dtype == jnp.float64
        assert bool(eqx.tree_equal(loaded, net))
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        load(tmp_path / "net.zip")


def test_a_tree_of_numbers_keeps_types_and_exact_values(tmp_path):
    tree = {"a": (1, 0.1, float("inf"), None), "b": [True, "text", np.arange(3, dtype=np.int32)], "c": -float("inf")}
    save(tmp_path / "tree.zip", tree)
    loaded = load(tmp_path / "tree.zip")
    assert loaded["a"] == tree["a"] and loaded["c"] == tree["c"] and isinstance(loaded["a"], tuple)
    assert loaded["b"][:2] == [True, "text"]
    np.testing.assert_array_equal(loaded["b"][2], [0, 1, 2])


def test_not_a_number_survives(tmp_path):
    save(tmp_path / "tree.zip", [float("nan")])
    assert np.isnan(load(tmp_path / "tree.zip")[0])


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_an_error(tmp_path, kept):
    path = tmp_path / "net.zip"
    save(path, network())
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ValueError, match="net.zip is damaged or is not a file saved by eventsnn"):
        load(path)


def test_a_flipped_byte_in_an_array_is_an_error(tmp_path):
    path = tmp_path / "net.zip"
    save(path, network())
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        data[archive.getinfo("0.npy").header_offset + 60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        load(path)


def test_a_file_of_something_else_is_an_error(tmp_path):
    (tmp_path / "net.txt").write_text("hello")
    with pytest.raises(ValueError, match="not a file saved by eventsnn"):
        load(tmp_path / "net.txt")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="was not saved by eventsnn"):
        load(tmp_path / "arrays.npz")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.zip")


def test_a_missing_custom_class_is_named_with_the_remedy(tmp_path):
    save(tmp_path / "net.zip", network(FunkyNeuron))
    with pytest.raises(ValueError, match=r"needs the class .*FunkyNeuron.*custom=\[FunkyNeuron\]"):
        load(tmp_path / "net.zip")


def test_a_custom_class_may_have_moved_to_another_module(tmp_path):
    path = tmp_path / "net.zip"
    save(path, network(FunkyNeuron))
    rewrite_header(path, lambda text: text.replace(f"{__name__}:FunkyNeuron", "__main__:FunkyNeuron"))
    assert isinstance(load(path, custom=[FunkyNeuron]).neurons[0], FunkyNeuron)


def test_what_is_not_a_module_is_refused_as_custom(tmp_path):
    save(tmp_path / "net.zip", network())
    with pytest.raises(TypeError, match="custom holds"):
        load(tmp_path / "net.zip", custom=[os.path])


@pytest.mark.parametrize("name", ["os:system", "subprocess:Popen", "eventsnn.io:os.system", "diffrax:Tsit5.__init__"])
def test_a_file_cannot_name_a_class_that_is_not_allowed(tmp_path, name):
    path = tmp_path / "net.zip"
    save(path, network())
    rewrite_header(path, lambda text: text.replace("eventsnn.connections:Dense", name))
    with pytest.raises(ValueError, match="needs the class"):
        load(path)


def test_a_file_cannot_name_a_function_that_is_not_allowed(tmp_path):
    path = tmp_path / "net.zip"
    save(path, network())
    rewrite_header(path, lambda text: text.replace("optimistix:rms_norm", "os:system"))
    with pytest.raises(ValueError, match="os:system"):
        load(path)


def test_a_pickled_array_is_not_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    header = {"format": "eventsnn", "version": 1, "arrays": 1, "tree": {"array": 0}}
    objects = np.empty(1, object)
    objects[0] = Bomb()
    np.save(tmp_path / "bomb.npy", objects, allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
        archive.writestr("header.json", json.dumps(header))
        archive.writestr("0.npy", (tmp_path / "bomb.npy").read_bytes())
    with pytest.raises(ValueError, match="damaged"):
        load(tmp_path / "net.zip")
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="not a file saved by eventsnn"):
        load(tmp_path / "net.pkl")
    assert not (tmp_path / "exploded").exists()


def test_a_class_whose_fields_have_changed_is_an_error(tmp_path):
    path = tmp_path / "net.zip"
    save(path, network())
    rewrite_header(path, lambda text: text.replace('"max_steps":', '"max_stepz":'))
    with pytest.raises(ValueError, match="differ .*max_steps, max_stepz"):
        load(path)


def test_what_cannot_be_saved_is_named_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "tree.zip"
    save(path, [1])
    with pytest.raises(TypeError, match=r"tree.zip\['f'\].*cannot be saved"):
        save(path, {"f": lambda x: x})
    assert load(path) == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["tree.zip"]


MIXTURE = Mixed((LIF, 2, {"tmem": 10.0}), (QIF, 1))


@pytest.mark.parametrize(
    ("model", "keywords"),
    [
        (Refractory(LIF), {"tref": 3.0}),
        (Refractory(LIF, hold=["V", "I"], block=True), {"trainable": "tref"}),
        (AtMostOneSpike(Refractory(HodgkinHuxley)), {}),
        (WithBiasCurrent(EIF), {"current": StepCurrent(2.0, start=5.0, stop=9.0) + SineCurrent(1.0, frequency=50.0)}),
        (WithBiasCurrent(MIXTURE), {"current": StepCurrent(np.array([1.0, 2.0, 3.0]), start=5.0)}),
    ],
)
def test_wrapped_and_mixed_models_come_back(model, keywords, tmp_path):
    net = FFEvNN([3], 2, model, 20.0, jax.random.PRNGKey(0), wlim=1.0, **keywords)
    save(tmp_path / "net.zip", net)
    again = load(tmp_path / "net.zip")
    assert type(again.neurons[0]).__qualname__ == model.__qualname__
    assert type(again.neurons[0]) is model or "Mixed" in model.__qualname__
    for (path, leaf), (other_path, other) in zip(*map(jax.tree_util.tree_leaves_with_path, (net, again)), strict=True):
        assert jax.tree_util.keystr(path) == jax.tree_util.keystr(other_path)
        np.testing.assert_array_equal(leaf, other)


def test_a_current_that_is_a_function_cannot_be_saved(tmp_path):
    net = FFEvNN([1], 1, WithBiasCurrent(LIF), 20.0, jax.random.PRNGKey(0), current=lambda t: t)
    with pytest.raises(TypeError, match="current.function is <function"):
        save(tmp_path / "net.zip", net)
