"""Every script explains itself, and ends politely."""

import ast
import os
import shutil
import subprocess
import sys

import pytest
from as_a_user import ROOT, run

SCRIPTS = sorted([*(ROOT / "scripts").glob("*.py"), *(ROOT / "examples").glob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_docstring_has_examples_of_itself(script):
    """The docstring is the help's text; see the next test."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    head, _, examples = text.partition("Example")
    assert head.strip(), "no sentence that says what it is for"
    assert f"{script.parent.name}/{script.name}" in examples


ALL_HELP = """
import contextlib, io, runpy, sys
old = ["training.trainer", "evaluation.evaluator", "visualization.attention_viz"]
for script in [*sys.argv[1:], *old]:
    sys.argv, out = [script, "--help"], io.StringIO()
    start = runpy.run_module if script in old else runpy.run_path
    try:
        with contextlib.redirect_stdout(out):
            start(script, run_name="__main__")
    except SystemExit as end:
        assert end.code in (0, None), (script, end.code)
    else:
        raise AssertionError(f"{script}: --help did not end it")
    assert out.getvalue().startswith("usage:"), (script, out.getvalue())
    assert script in old or "Example" in out.getvalue(), (script, out.getvalue())
"""


@pytest.mark.slow
def test_help_shows_the_examples():
    """In one process, so that torch is imported once; the original plan's three commands as well."""
    run([sys.executable, "-c", ALL_HELP, *map(str, SCRIPTS)])


@pytest.mark.slow
def test_what_an_extra_brings_is_named_where_it_is_missing():
    """As after `make ask`, which installs little: one line and no traceback, from every script, and from the
    original plan's three commands."""
    program = ROOT / "tests" / "docs" / "without_extras.py"
    old = ["training/trainer.py", "evaluation/evaluator.py", "visualization/attention_viz.py"]
    refused = run([sys.executable, str(program), *map(str, SCRIPTS), *old])
    assert int(refused) > 10


@pytest.mark.skipif(os.name == "nt", reason="head is a Unix command")
def test_reader_that_leaves_is_no_error():
    script = str(ROOT / "scripts" / "ask.py")
    command = [sys.executable, script, "--scene", "24", "--text", "Is there a car?", "--json"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    asking = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    asking.stdout.close()  # before anything is written
    complaint = asking.stderr.read()
    asking.stderr.close()
    assert asking.wait(timeout=200) == 0
    assert "BrokenPipe" not in complaint
    assert "Traceback" not in complaint


@pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="needs bash")
def test_tab_completes_options_of_scripts(tmp_path):
    (tmp_path / "completion").write_text(
        run([sys.executable, str(ROOT / "scripts" / "completion.py"), "ask", "train_tokenizer"]),
        encoding="utf-8",
    )
    ask = (
        "source completion; COMP_WORDS=(python scripts/{}.py --{}); COMP_CWORD=2; "
        "_traffic_vlm python; echo ${{COMPREPLY[@]}}"
    )
    assert run(["bash", "-c", ask.format("ask", "t")], tmp_path).split() == ["--text"]
    assert run(["bash", "-c", ask.format("train_tokenizer", "v")], tmp_path).split() == ["--vocab-size"]
    assert run(["bash", "-c", ask.format("unknown", "v")], tmp_path).split() == []
