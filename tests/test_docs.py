"""The text tells the truth: what it shows runs, prints what it says, and links to what exists."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import eventsnn

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted((ROOT / "eventsnn").rglob("*.py"))

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# A reader's process: JAX's own defaults, no screen, and every warning of ours an error. For the README also XLA's own;
# for all else XLA compiles as in the other tests, which takes half as long.
RUN_BLOCK = """
import sys, warnings
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot, optax, eventsnn
warnings.simplefilter("error")
path, first_line = sys.argv[1], int(sys.argv[2])
text = "\\n" * first_line + sys.stdin.read()
exec(compile(text, path, "exec"), {"__name__": "__main__"})
"""

RUN_DOCTEST = """
import doctest, importlib, sys, warnings
import eventsnn
warnings.simplefilter("error")
failed, tried = doctest.testmod(importlib.import_module(sys.argv[1]))
sys.exit(failed > 0 or tried == 0)
"""


def python(code: str, *arguments: str, given: str = "", cwd: Path, fast: bool = True) -> subprocess.CompletedProcess:
    ours = ("JAX_",) if fast else ("JAX_", "XLA_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, input=given, cwd=cwd, env=environment, capture_output=True, text=True)


def code_blocks():
    """Every Python block, with what the text block right behind it says that it prints."""
    for page in PAGES:
        text = page.read_text()
        for block in BLOCK.finditer(text):
            if block[1] == "python":
                behind = BLOCK.match(text, block.end() + len("\n\n"))
                prints = behind[2] if behind and behind[1] == "text" else None
                line = text.count("\n", 0, block.start(2))
                yield pytest.param(page, line, block[2], prints, id=f"{page.name}:{line + 1}")


@pytest.mark.slow
@pytest.mark.parametrize("page, line, code, prints", list(code_blocks()))
def test_an_example_runs_and_prints_what_the_text_says(page, line, code, prints, tmp_path):
    done = python(RUN_BLOCK, str(page), str(line), given=code, cwd=tmp_path, fast=page != PAGES[0])
    assert done.returncode == 0, done.stderr
    if prints is not None:
        assert done.stdout == prints


@pytest.mark.parametrize("path", [path for path in MODULES if ">>> " in path.read_text()], ids=lambda path: path.name)
def test_the_examples_in_docstrings_run(path, tmp_path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    done = python(RUN_DOCTEST, name, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)|<img [^>]*src=\"([^\"]+)\"", page.read_text())
    for target in ("".join(pair) for pair in targets):
        if "://" not in target:
            assert (page.parent / target).exists(), target


TABLES = {
    "lif": ["LIF", "ExpLIF"],
    "synapses": ["AlphaLIF", "DualExpLIF", "ConductanceLIF"],
    "qif": ["QIF"],
    "eif": ["EIF"],
    "adex": ["AdEx"],
    "izhikevich": ["Izhikevich"],
    "adaptive_threshold": ["ALIF", "MAT"],
    "hodgkin_huxley": ["HodgkinHuxley"],
    "egru": ["EGRU"],
    "two_compartment": ["TwoCompartment"],
}


@pytest.mark.parametrize("page, name", [(page, name) for page, names in TABLES.items() for name in names])
def test_the_table_of_a_model_has_all_its_arguments_and_their_defaults(page, name):
    text = (ROOT / "docs" / "neurons" / f"{page}.md").read_text()
    section = text.split(f"\n## {name}\n")[-1].split("\n## ")[0]
    arguments = section.split("| argument |")[1].split("\n\n")[0]
    table = dict(re.findall(r"^\| `(\w+)` \|.*\| (.+) \|$", arguments, re.MULTILINE))
    declarations = getattr(eventsnn, name)._declared
    declared = {"init_bias" if one.kind == "bias" else key: one for key, one in declarations.items()}
    assert set(table) == set(declared)
    for key, one in declared.items():
        assert key == "y0" or float(table[key]) == one.default


def test_every_model_has_a_line_in_the_overview():
    overview = (ROOT / "docs" / "neurons.md").read_text()
    named = set(re.findall(r"^\| `(\w+)[`(]", overview, re.MULTILINE))
    models = {name for name, one in vars(eventsnn).items() if isinstance(one, type) and hasattr(one, "channels")}
    assert named >= models - {"NeuronModel", "Traces"} | {"Refractory", "AtMostOneSpike", "WithBiasCurrent", "Mixed"}


def test_the_architecture_page_names_files_that_exist():
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = page.split("## Rooms")[1].split("## ")[0]
    named = set(re.findall(r"[\w/]+\.py", rooms))
    assert len(named) > 20
    assert named <= {path.name for path in MODULES}


def test_the_page_has_one_command_behind_each_marker():
    readme = (ROOT / "README.md").read_text()
    for marker in "<!-- main-command -->", "<!-- test-command -->":
        assert readme.count(marker) == 1
        commands = re.findall(marker + r"\n```bash\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
        assert len(commands) == 1
        assert commands[0].count("\n") == 1, "the command has to be one line"


def test_the_check_script_runs_the_command_that_the_page_shows():
    readme = (ROOT / "README.md").read_text()
    command = re.search(r"<!-- test-command -->\n```bash\n(.*)\n", readme)[1]
    script = (ROOT / ".ci" / "run").read_text()
    # The script reads the page with this program, so that the two cannot drift apart.
    extract = re.search(r"^test_command=\$\((awk .*)\)$", script, re.MULTILINE)[1]
    printed = subprocess.run(["bash", "-c", extract], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout == command + "\n"
