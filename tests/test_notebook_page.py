"""``docs/notebook.ipynb`` is executed from the first to the last cell, and shows what it showed when it was saved.

``python -m tests.test_notebook_page --write`` saves it anew.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

PAGE = Path(__file__).parents[1] / "docs" / "notebook.ipynb"
MACHINE = re.compile(r"/(?:home|root|tmp|work|Users|usr)/")


def executed(folder: Path) -> nbformat.NotebookNode:
    """Execute the page in an empty folder."""
    page = nbformat.read(PAGE, as_version=4)
    own = {"JUPYTER_PLATFORM_DIRS": "1", "IPYTHONDIR": str(folder / ".ipython"), "OMP_NUM_THREADS": "1"}
    own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        client = NotebookClient(page, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
        client.execute()
    return page


def code_cells(page: nbformat.NotebookNode) -> list[Any]:
    return [cell for cell in page.cells if cell.cell_type == "code"]


def shapes(page: nbformat.NotebookNode) -> list[list[tuple[str, list[str]]]]:
    """For each cell the kinds of what it shows."""
    return [
        [(output.output_type, sorted(output.get("data", {}))) for output in cell.outputs] for cell in code_cells(page)
    ]


def texts(page: nbformat.NotebookNode) -> str:
    outputs = [output for cell in code_cells(page) for output in cell.outputs]
    return "\n".join(str(output.get("text", "")) + str(dict(output.get("data", {}))) for output in outputs)


def test_the_saved_page_was_executed_from_top_to_bottom() -> None:
    page = nbformat.read(PAGE, as_version=4)
    nbformat.validate(page)
    assert [cell.execution_count for cell in code_cells(page)] == list(range(1, len(code_cells(page)) + 1))
    assert not MACHINE.search(texts(page)), "a path of the machine that saved it"
    assert "Traceback" not in texts(page)
    assert PAGE.stat().st_size < 1_000_000


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client")
def test_the_page_runs_and_shows_what_it_showed(tmp_path: Path) -> None:
    saved = nbformat.read(PAGE, as_version=4)
    page = executed(tmp_path)
    shown = texts(page)
    assert "Traceback" not in shown, shown
    assert shapes(page) == shapes(saved)
    assert "9 of 9 runs completed" in shown and "optimizer.learning_rate" in shown and "data:image/svg+xml" in shown
    assert {path.name for path in (tmp_path / "runs").iterdir()} >= {"first", "train"}


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    with tempfile.TemporaryDirectory() as place:
        made = executed(Path(place))
    for code in code_cells(made):
        code.metadata.pop("execution", None)
    made.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(made, PAGE)
