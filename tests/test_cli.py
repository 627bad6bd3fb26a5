"""The command line: what it prints, what it leaves, what it refuses."""

import re
import sys

import numpy as np
import pytest

from eventsnn import _cli_train, io
from eventsnn.cli import main
from eventsnn.run_folder import CHECKPOINT, HISTORY, MODEL, load_model, load_run, read_history

TINY = ["--hidden", "8", "--samples", "40", "--batch-size", "20"]


def train(folder, *options):
    return main(["train", "yin-yang", "--out", str(folder), *options])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A training run of two epochs."""
    folder = tmp_path_factory.mktemp("run") / "of" / "two"
    assert train(folder, *TINY, "--epochs", "2", "--seed", "3") == 0
    return folder


@pytest.mark.parametrize("arguments", [[], ["train"], ["predict"], ["plot"]])
def test_help_names_every_option_and_its_default(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    if arguments == ["train"]:
        for name in ("neuron", "hidden", "epochs", "batch-size", "seed", "out", "resume"):
            assert f"--{name}" in text
        assert (
            "{lif,qif,eif,izhikevich,two-compartment}" in text and f"default: {_cli_train.DEFAULTS['hidden']}" in text
        )


@pytest.mark.parametrize("option", [["--epochs", "0"], ["--hidden", "many"], ["--neuron", "hh"], ["--seed", "-1"]])
def test_a_bad_option_is_refused_before_anything_runs(option, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        train(tmp_path, *option)
    assert exit_.value.code == 2
    assert option[0] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_too_many_samples_are_refused_in_one_line(tmp_path, capsys):
    assert train(tmp_path, "--samples", "5001") == 1
    assert capsys.readouterr().err.startswith("eventsnn: error: 5001 samples were asked for")


def test_resuming_nothing_is_refused(tmp_path, capsys):
    assert train(tmp_path / "nothing", "--resume") == 1
    assert "nothing to resume" in capsys.readouterr().err


def test_a_model_that_is_none_is_refused(tmp_path, capsys):
    assert main(["predict", str(tmp_path / "none.zip")]) == 1
    (tmp_path / "text.zip").write_text("hello")
    assert main(["predict", str(tmp_path / "text.zip")]) == 1
    io.save(tmp_path / "numbers.zip", [1, 2])
    assert main(["plot", str(tmp_path / "numbers.zip")]) == 1
    errors = capsys.readouterr().err
    assert "not a file saved by eventsnn" in errors and "holds a list, expected a network" in errors


@pytest.mark.slow
def test_training_leaves_model_history_and_pictures(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {MODEL, HISTORY, CHECKPOINT, "plane.png", "latencies.png", "raster.png", "curves.png"}
    assert [entry.epoch for entry in read_history(folder / HISTORY)] == [1, 2]
    assert load_model(folder).layers == (8, 3)


@pytest.mark.slow
def test_a_training_run_is_not_overwritten_or_changed_by_accident(folder, capsys):
    before = (folder / CHECKPOINT).read_bytes()
    assert train(folder, *TINY) == 1
    assert train(folder, "--resume", "--hidden", "9") == 1
    assert train(folder, "--resume", "--epochs", "1") == 1
    errors = capsys.readouterr().err
    assert "pass --resume" in errors and "--hidden is 9" in errors and "2 epochs are done" in errors
    assert (folder / CHECKPOINT).read_bytes() == before


@pytest.mark.slow
def test_an_interrupted_and_resumed_run_ends_like_an_uninterrupted_one(folder, tmp_path, monkeypatch, capsys):
    original = _cli_train.train_epoch

    def interrupted(state, *args, **kwargs):
        if state.epoch == 1:
            raise KeyboardInterrupt
        return original(state, *args, **kwargs)

    monkeypatch.setattr(_cli_train, "train_epoch", interrupted)
    assert train(tmp_path, *TINY, "--epochs", "2", "--seed", "3") == 130
    assert "--resume" in capsys.readouterr().err
    assert load_run(tmp_path).state.epoch == 1
    monkeypatch.undo()
    assert train(tmp_path, "--resume") == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"^epoch 2/2 ", printed, re.M)) == 1 and "epoch 1/2" not in printed
    assert re.fullmatch(r"test accuracy \d+\.\d %", printed.splitlines()[-1])
    for ours, theirs in zip(load_model(tmp_path).connections, load_model(folder).connections, strict=True):
        np.testing.assert_array_equal(ours.weights, theirs.weights)


@pytest.mark.slow
def test_predict_gives_the_accuracy_of_training_and_a_table(folder, tmp_path, capsys):
    assert train(folder, "--resume") == 0
    trained = capsys.readouterr().out.splitlines()[-1]
    assert main(["predict", str(folder), "--csv", str(tmp_path / "table.csv")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == trained
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[0] == "x,y,class,t_yin,t_yang,t_dot" and len(lines) == 1001


@pytest.mark.slow
def test_predict_classifies_points_and_refuses_those_outside(folder, capsys):
    assert main(["predict", str(folder), "--point", "0.3", "0.7", "--point", "0.5", "0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("x 0.3  y 0.7  ")
    assert main(["predict", str(folder), "--point", "2", "0.5"]) == 1
    assert "--point is 2 0.5" in capsys.readouterr().err


@pytest.mark.slow
def test_plot_draws_the_pictures_of_a_saved_model(folder, tmp_path):
    assert main(["plot", str(folder / MODEL), "--out", str(tmp_path), "--sample", "7"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"plane.png", "latencies.png", "raster.png", "curves.png"}


@pytest.mark.slow
def test_training_works_without_matplotlib(folder, monkeypatch, capsys):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    assert train(folder, "--resume") == 0
    printed = capsys.readouterr().out
    assert "pip install 'eventsnn[plot]'" in printed
    assert printed.splitlines()[-1].startswith("test accuracy ")
