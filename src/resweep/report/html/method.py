"""How the figures came about: rules, environment, and what the words mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import Any

from resweep.report.html.parts import facts
from resweep.report.load import RunRecord, Sweep
from resweep.report.stats import MAX_SEEDS, MIN_SEEDS
from resweep.report.table import Ranking
from resweep.report.words import value_text

FOLDS_NOTE = (
    "The runs of a setting are the folds of a cross-validation: every image is tested once. The training parts of two "
    "folds overlap, so intervals and tests of differences are wider than for independent runs, by the corrected "
    "resampled t-test of Nadeau & Bengio 2003."
)


def method(ranked: Ranking) -> str:
    """Return the rules of selection and statistics, and the software, hardware and data of the runs."""
    sweep = ranked.sweep
    data = {"ranked by": f"{ranked.monitor} ({'larger' if ranked.mode == 'max' else 'smaller'} is better)"}
    data |= {"compared on": f"{ranked.compared} ({'larger' if ranked.larger_is_better else 'smaller'} is better)"}
    data |= environment(sweep.runs)
    digests = sorted({run.data_digest for run in sweep.runs if run.data_digest is not None})
    data |= {"data digest": ", ".join(digests)} if digests else {}
    data |= {"parameters": _span([run.parameters for run in sweep.runs], lambda value: f"{value:,}")}
    memory = [run.peak_memory_bytes for run in sweep.runs]
    data |= {"peak memory": _span(memory, lambda value: f"{value / 1e6:,.0f} MB")}
    versions = sweep.request.get("versions")
    if isinstance(versions, dict):
        data["planned with"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    paragraphs = "".join(f"<p>{escape(rule)}</p>" for rule in _rules(ranked))
    return f"{paragraphs}<h3>Environment</h3>{facts({key: text for key, text in data.items() if text})}"


def glossary(ranked: Ranking) -> str:
    """Return the words of the page with their meanings."""
    unit = ranked.unit
    return facts(
        {
            "setting": f"one combination of the swept values; its runs differ in the {unit} only",
            "validation, test": "validation images choose the checkpoint, the setting and when to stop; test images "
            "are measured once per run and choose nothing",
            "mean ± sd": f"arithmetic mean and standard deviation (n - 1) over the completed {unit}s",
            "95 % interval": "a range made by a rule that covers the true mean in 95 % of repetitions; t assumes "
            "roughly normal results, bootstrap draws again from those at hand (BCa)",
            f"paired by {unit}": f"the two settings are subtracted {unit} by {unit} first, so that what a {unit} does "
            "to both cancels out",
            "p": "probability of a mean difference at least this large if the two settings were equally good "
            "(paired t test, two-sided)",
            "p (Holm)": "p corrected for the number of comparisons: if no two settings differed, any verdict at all "
            "would appear in at most 5 % of sweeps",
            "p (Wilcoxon)": "the same question asked of ranks, without the assumption of normal results; it needs six "
            "differences other than zero",
            "won": f"share of the {unit}s in which the first setting is the better one; a tie counts half",
            "effect (d_z)": "mean difference in standard deviations of the paired differences, corrected for small n; "
            "it is not comparable with the usual 0.2, 0.5 and 0.8 (small, medium, large), which are for the difference "
            "of two independent groups in standard deviations within them",
            "better, worse": "p (Holm) is below 0.05",
            "not distinguishable": "the runs at hand show no difference; that is not a proof that there is none",
            f"fresh {unit}s": f"how many new {unit}s, compared without the old ones, show a difference of the observed "
            f"size with 80 % probability; no number above {MAX_SEEDS:,}",
            "failed, diverged, lost": "stopped with an error; loss no longer a number; vanished without a record "
            "of its end",
        }
    )


def environment(runs: Iterable[RunRecord]) -> dict[str, str]:
    """Return each recorded fact with all the values it had in the runs."""
    seen: dict[str, dict[str, None]] = {}
    for run in runs:
        for key, value in run.environment.items():
            seen.setdefault(key, {})[_environment_text(key, value)] = None
    return {key: " | ".join(text for text in values if text) for key, values in seen.items()}


def hardware(sweep: Sweep) -> list[str]:
    """Return accelerator and processor where they are short enough for a headline."""
    known = environment(sweep.runs)
    return [known[key] for key in ("accelerator", "processor") if known.get(key) and len(known[key]) < 80]


def _rules(ranked: Ranking) -> list[str]:
    base, unit = ranked.sweep.base, ranked.unit
    keys = [f"{key}={value_text(base[key])}" for key in ("data.val_size", "data.split_seed") if key in base]
    split = f" ({', '.join(keys)})" if keys else ""
    rules = [
        "Three splits: the net learns from the training part; the checkpoint of each run, its stopping and the ranking "
        f"of settings use the validation part only{split}; the test part is measured once per run, at its end, with "
        "its best checkpoint.",
        f"Means and intervals are over completed runs that differ in the {'fold and the ' if unit == 'fold' else ''}"
        "seed only. Failed, diverged and unfinished runs are counted, never averaged in, and a setting with failed, "
        "diverged or lost runs ranks below those without. Of several runs of the same config the newest finished one "
        "counts.",
        f"All verdicts come from one family of comparisons: every pair of settings on {ranked.compared} that can be "
        f"tested, {ranked.pairs.count:,} in all, paired by {unit}, two-sided paired t test, p values corrected by Holm "
        "1979. "
        "Because every pair counts, a verdict holds however the pair was picked afterwards. One "
        f"{unit} says nothing about differences; below {MIN_SEEDS} there is no verdict. Where all differences of a "
        "pair are equal, the t test has no spread to go by and a two-sided sign test takes its place.",
    ]
    return [*rules, FOLDS_NOTE] if unit == "fold" else rules


def _environment_text(key: str, value: Any) -> str:
    if key == "git" and isinstance(value, dict):
        return f"{value.get('commit')}{' with uncommitted changes' if value.get('dirty') else ''}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return "" if value is None else value_text(value)


def _span(values: Iterable[float | None], text: Callable[[float], str]) -> str:
    """Smallest to largest of what was recorded, one value if all are alike."""
    known = sorted({value for value in values if value is not None})
    if not known:
        return ""
    return text(known[0]) if text(known[0]) == text(known[-1]) else f"{text(known[0])} to {text(known[-1])}"
