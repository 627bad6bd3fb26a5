"""Every notebook runs from top to bottom."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# What a notebook shows in minutes runs in less: fewer steps of training, less time simulated.
SHORTER = {
    "recurrent.ipynb": {
        "STEPS = 600": "STEPS = 100",
        "EPOCHS = 30": "EPOCHS = 1",
        "2000, 1600, 200.0, 1.5": "2000, 1600, 40.0, 1.5",
    }
}

# The kernel is this interpreter, whatever kernels are installed. In a process of its own, because the notebook's
# machinery leaves sockets open when it is done, which pytest would report as errors.
RUN_NOTEBOOK = """
import sys
import jupyter_client, nbclient, nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

class ThisInterpreter(KernelSpecManager):
    def get_kernel_spec(self, kernel_name):
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name=kernel_name, language="python")

notebook = nbformat.read(sys.argv[1], as_version=4)
manager = jupyter_client.AsyncKernelManager(kernel_spec_manager=ThisInterpreter())
nbclient.NotebookClient(notebook, km=manager, timeout=600).execute()
print(sum(len(cell.get("outputs", ())) for cell in notebook.cells))
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_notebook_runs(path, tmp_path):
    # JAX's own defaults, no screen, this checkout's package, and no configuration of the user's. Nearly all of the
    # time is compilation, so XLA compiles as in the other tests.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"PYTHONPATH": str(ROOT), "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    environment |= {"IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    text = path.read_text()
    for shown, short in SHORTER.get(path.name, {}).items():
        assert text.count(shown) == 1, f"{shown} is not in the notebook"
        text = text.replace(shown, short)
    (tmp_path / path.name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", RUN_NOTEBOOK, path.name], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, "the notebook showed nothing"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_notebook_is_kept_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_there_are_notebooks():
    assert NOTEBOOKS
