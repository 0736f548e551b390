"""The wheel: built, installed into an empty environment and used from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from helpers import TESTS

pytestmark = pytest.mark.slow
ROOT = TESTS.parent
TINY = ["trainer.max_epochs=1", "model.width=4", "data.batch_size=64", "seed=0", "optimizer=sgd,adam",
        "model.dropout=0", "optimizer.weight_decay=0"]  # fmt: skip


def run(*words: str | Path, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=200, check=True, **settings)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (made,) = folder.glob("resweep-*.whl")
    return made


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_wheel_has_all_that_is_needed_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("conf", "experiments"):
        files = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert {f"resweep/{name}" for name in files} <= names
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert modules <= names and any(name.startswith("hydra_plugins/") for name in modules)
    assert {f"resweep/report/html/{name}" for name in ("template.html", "page.css", "page.js")} <= names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"resweep", "hydra_plugins"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".ckpt", ".log"))]


def test_the_demo_runs_from_an_empty_folder_and_writes_nowhere_else(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "-q", wheel)
    # Only a line of a .pth file: those of the other site-packages (an editable resweep) are not read again.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    own = ("PYTHON", "RESWEEP", "XDG", "VIRTUAL", "MPL")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    settings = {"cwd": work, "env": kept | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}}
    where = "import resweep, hydra_plugins.resweep_sweeper as h; from resweep.config import shipped; "
    where += "print(resweep.__file__, h.__file__, shipped('conf'), shipped('experiments'), sep='\\n')"
    places = run(python, "-c", where, **settings).stdout.split()
    assert len(places) == 4
    assert all(Path(place).is_relative_to(site) and Path(place).exists() for place in places)
    installed = tree(tmp_path / "env")
    done = run(tmp_path / "env" / "bin" / "resweep", "demo", *TINY, **settings)
    assert "2 runs: 2 completed" in done.stdout
    assert {name.split("/")[0] for name in tree(work)} == {"runs"}
    assert tree(tmp_path / "env") == installed
    # matplotlib keeps a list of the fonts of the machine there.
    assert {name for name in tree(home) if "/matplotlib" not in name} <= {".cache", ".config"}
    assert (work / "runs" / "demo" / "report.html").is_file()
