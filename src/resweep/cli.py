"""The command line: dispatch only. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from resweep import __version__, console
from resweep.errors import Problem, RequestError, Terminated, nearest_name

HELP = """\
resweep: honest, resumable sweeps for image classifiers

  resweep train [OVERRIDES...]          one run               resweep train optimizer=adam seed=1
  resweep train -m [OVERRIDES...]       a sweep               resweep train -m optimizer=sgd,adam seed=0,1,2
  resweep resume RUN_OR_SWEEP_DIR       finish what is missing; finished runs are never repeated
  resweep retry SWEEP_DIR [RUN...]      carry out failed and lost runs again, or the named ones
  resweep compare SWEEP_DIR...          which differences are real: tables, answer, report.html
  resweep status [SWEEP_DIR]            what is done, running, failed and why, waiting
  resweep evaluate RUN_DIR              measure a run's best checkpoint again
  resweep list [GROUP[/CHOICE]]         the choices of each config group
  resweep show augment [OVERRIDES...]   a picture of training images before and after augmentation
  resweep demo                          36 small runs on built-in digits, then compare

OVERRIDES are Hydra's: GROUP=CHOICE, KEY=VALUE, KEY=A,B,C with -m. Behind `resweep train` Hydra's own flags work too:
--cfg job, --help, --info, --config-dir DIR; --dry-run prints the plan and stops.
Everywhere: -q result only, -qq errors only, --progress auto|live|plain|off.

exit status  0 all well   1 a run failed   2 the request is wrong, nothing was started   3 --check found a difference
             130, 143 interrupted, terminated: saved, go on with resweep resume
"""
EXIT_REQUEST, EXIT_DIFFERENCE, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 3, 130, 143


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words behind ``resweep``; None for those of the process.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if words[0] == "--version":
        print(f"resweep {__version__}")
        return 0
    try:
        if words[0] not in COMMANDS:
            message = f"is not a command; there are {', '.join(COMMANDS)}"
            raise RequestError(Problem(words[0], None, message, nearest_name(words[0], COMMANDS)))
        output, rest = console.take_output_options(words[1:], os.environ)
        return COMMANDS[words[0]](rest, output)
    except RequestError as error:
        console.print_problems(error.problems, words)
        return EXIT_REQUEST
    except (KeyboardInterrupt, Terminated) as stop:
        code = EXIT_TERMINATED if isinstance(stop, Terminated) else EXIT_INTERRUPTED
        print("stopped; what was finished is kept", file=sys.stderr)
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has seen enough
        return 0


def train(words: list[str], output: console.Output) -> int:
    """Train one run, or with ``-m`` a sweep; the words are Hydra's."""
    from resweep.application import run_application

    dry_run = "--dry-run" in words
    return run_application([word for word in words if word != "--dry-run"], output, dry_run)


def demo(words: list[str], output: console.Output) -> int:
    """Run the optimizers sweep on the built-in digits; further words are overrides."""
    return train(["-m", "experiment=demo", "sweep_name=demo", *words], output)


def resume(words: list[str], output: console.Output) -> int:
    """Finish a run or a sweep."""
    parser = _going_on("resume", "RUN_OR_SWEEP_DIR")
    parser.add_argument("settings", nargs="*", metavar="executor...", help="carry it out otherwise: executor.workers=4")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--failed", action="store_true", help="only runs that failed or were lost")
    which.add_argument("--no-failed", action="store_true", help="leave runs alone that failed")
    parsed = parser.parse_intermixed_args(words)
    from resweep.record import CONFIG_FILE, SWEEP_FILE

    if (parsed.folder / SWEEP_FILE).is_file():
        from resweep.sweep.launch import UNFINISHED

        statuses = UNFINISHED
        if parsed.failed:
            statuses = ("failed", "lost")
        if parsed.no_failed:
            statuses = tuple(status for status in UNFINISHED if status != "failed")
        return _go_on(parsed, statuses, output)
    if not (parsed.folder / CONFIG_FILE).is_file():
        raise RequestError(_not_there(parsed.folder, f"is neither a run ({CONFIG_FILE}) nor a sweep ({SWEEP_FILE})"))
    if given := [*parsed.settings, *(["--failed"] * parsed.failed), *(["--no-failed"] * parsed.no_failed)]:
        raise RequestError(Problem(given[0], None, "is for sweeps, and this folder is one run"))
    from resweep.single import carry_out

    return carry_out(parsed.folder, output, accept_changes=parsed.accept_changes)


def retry(words: list[str], output: console.Output) -> int:
    """Carry out failed and lost runs of a sweep again, from where they were saved."""
    parser = _going_on("retry", "SWEEP_DIR")
    parser.add_argument("names", nargs="*", metavar="RUN", help="folder names, ids or numbers of runs")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--failed", action="store_true", help="only runs that failed")
    which.add_argument("--lost", action="store_true", help="only runs whose process vanished")
    parsed = parser.parse_intermixed_args(words)
    from resweep.record import SWEEP_FILE

    if not (parsed.folder / SWEEP_FILE).is_file():
        raise RequestError(_not_there(parsed.folder, f"is not a sweep: it has no {SWEEP_FILE}"))
    if parsed.names and (parsed.failed or parsed.lost):
        option = "--failed" if parsed.failed else "--lost"
        raise RequestError(Problem(option, None, "chooses runs by their state; leave it out, or the names"))
    parsed.settings = []
    statuses = ("failed",) if parsed.failed else ("lost",) if parsed.lost else ("failed", "lost")
    return _go_on(parsed, statuses, output, tuple(parsed.names))


def _go_on(
    parsed: argparse.Namespace, statuses: tuple[str, ...], output: console.Output, names: tuple[str, ...] = ()
) -> int:
    from resweep.sweep.launch import Wish, planned_settings, resume
    from resweep.sweep.settings import with_overrides

    settings = with_overrides(planned_settings(parsed.folder), parsed.settings) if parsed.settings else None
    return resume(parsed.folder, output, Wish(statuses, names, parsed.accept_changes, settings))


def _going_on(command: str, folder: str) -> argparse.ArgumentParser:
    parser = _parser(command)
    parser.add_argument("folder", type=Path, metavar=folder)
    parser.add_argument("--accept-changes", action="store_true", help="go on although code or configs have changed")
    return parser


def compare(words: list[str], output: console.Output) -> int:
    """Compare the settings of one sweep, or of several together."""
    parser = _parser("compare")
    parser.add_argument("folders", nargs="+", metavar="SWEEP_DIR", help="sweeps, folders of runs, or two single runs")
    parser.add_argument("--format", default="table", metavar="FORM", help="table, markdown, latex, json or csv")
    parser.add_argument("--runs", action="store_true", help="a row per run in place of one per setting")
    parser.add_argument("--sort", metavar="KEY", help="sort by a column, metrics best first; --sort=-KEY the other way")
    parser.add_argument("--top", type=_at_least_one, metavar="N", help="list the first N rows")
    parser.add_argument("--where", metavar="EXPR", help='list rows for which it holds: "optimizer==adam and lr<0.1"')
    parser.add_argument("--all", action="store_true", dest="everything", help="also list what is equal in all runs")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--output", metavar="DIR", help="write report and tables there, of all sweeps in one")
    where.add_argument("--no-files", action="store_false", dest="write", help="write no report and no tables, quicker")
    if old := [word for word in words if word in ("--json", "--csv", "--markdown")]:
        problems = (Problem(word, None, "has another name now", f"--format={word[2:]}") for word in old)
        raise RequestError(problems)
    options = vars(parser.parse_intermixed_args(words))
    from resweep.report.compare import compare as compare_sweeps

    output.result(compare_sweeps(options.pop("folders"), width=console.terminal_width(sys.stdout), **options))
    return 0


def status(words: list[str], output: console.Output) -> int:
    """Show what is done, running, failed and why, waiting."""
    parser = _parser("status")
    parser.add_argument(
        "folder", nargs="?", type=Path, metavar="SWEEP_DIR", help="a sweep; without it, all below runs/"
    )
    parsed = parser.parse_args(words)
    from resweep.status import status as status_text

    output.result(status_text(parsed.folder))
    return 0


def evaluate(words: list[str], output: console.Output) -> int:
    """Measure the best checkpoint of a run again."""
    parser = _parser("evaluate")
    parser.add_argument("folder", type=Path, metavar="RUN_DIR")
    parser.add_argument("--check", action="store_true", help="exit 3 if a metric differs from the record")
    parsed = parser.parse_args(words)
    from resweep.evaluate import evaluate as evaluate_run

    text, agrees = evaluate_run(parsed.folder)
    output.result(text)
    return EXIT_DIFFERENCE if parsed.check and not agrees else 0


def list_choices(words: list[str], output: console.Output) -> int:
    """List config groups, the choices of one, or one choice's file."""
    parser = _parser("list")
    parser.add_argument("name", nargs="?", metavar="GROUP[/CHOICE]")
    parser.add_argument("--config-dir", action="append", default=[], metavar="DIR", help="a config folder of your own")
    parsed = parser.parse_args(words)
    from resweep.catalog import describe

    output.result(describe(parsed.name, [Path(folder) for folder in parsed.config_dir]))
    return 0


def show(words: list[str], output: console.Output) -> int:
    """Draw training images before and after the augmentation of a run."""
    parser = _parser("show")
    parser.add_argument("what", choices=["augment"], help="what to draw")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDES", help="of the run: data=cifar10 augment=mixup")
    parser.add_argument("-o", "--output", type=Path, default=Path("augment.png"), metavar="FILE.png")
    parser.add_argument("--images", type=_at_least_one, default=8, metavar="N", help="columns (8)")
    parser.add_argument("--epochs", type=_at_least_one, default=5, metavar="N", help="rows below the first one (5)")
    parser.add_argument("--config-dir", action="append", default=[], metavar="DIR", help="a config folder of your own")
    parsed = parser.parse_intermixed_args(words)
    from resweep.show import show_augment

    folders = tuple(parsed.config_dir)
    token = console.OUTPUT.set(output)
    try:
        text = show_augment(
            parsed.overrides, parsed.output, images=parsed.images, epochs=parsed.epochs, config_dirs=folders
        )
    finally:
        console.OUTPUT.reset(token)
    output.result(text)
    return 0


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is needed, got {text!r}")
    return int(text)


class _Parser(argparse.ArgumentParser):
    """Says of an option that there is not which ones there are."""

    def error(self, message: str) -> NoReturn:
        _, found, words = message.partition("unrecognized arguments: ")
        options = dict.fromkeys(re.findall(r"(?<!\w)--?[a-z][a-z-]*", self.format_usage()))
        unknown = [word for word in words.split() if word.startswith("-")]
        if not found or not unknown:
            super().error(message)
        problems = []
        for word in unknown:
            name, equals, value = word.partition("=")
            near = nearest_name(name, options)
            allowed = f"is not an option; there are {', '.join(options)}"
            problems.append(Problem(word, None, allowed, None if near is None else f"{near}{equals}{value}"))
        raise RequestError(problems)


def _parser(command: str) -> argparse.ArgumentParser:
    function = COMMANDS[command]
    return _Parser(prog=f"resweep {command}", description=function.__doc__)


def _not_there(folder: Path, message: str) -> Problem:
    parent = folder.resolve().parent
    siblings = [path.name for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    near = None if folder.exists() else nearest_name(folder.name, siblings)
    return Problem(str(folder), None, message, None if near is None else console.relative(parent / near))


COMMANDS: dict[str, Callable[[list[str], console.Output], int]] = {
    "train": train,
    "resume": resume,
    "retry": retry,
    "compare": compare,
    "status": status,
    "evaluate": evaluate,
    "list": list_choices,
    "show": show,
    "demo": demo,
}

if __name__ == "__main__":
    sys.exit(main())
