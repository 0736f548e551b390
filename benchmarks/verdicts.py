"""Do the verdicts keep their promise? Simulated sweeps with planted differences, judged by `ranking`.

python benchmarks/verdicts.py [--sweeps 1000]

A setting's result is a common part of each seed plus noise of its own, on validation and on test. A planted difference
is counted in standard deviations of the per-seed differences between two settings. Printed are the share of sweeps in
which something false is claimed, nominally at most 5 % however many settings there are, and the share in which a
planted difference is seen, beside the power in closed form. Below it: what becomes of a sweep of two settings that
showed no difference, when the proposed number of fresh seeds is run and compared alone, or added to the old seeds.
"""

from __future__ import annotations

import argparse
import random
import statistics
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from resweep.report.inference import detection_power
from resweep.report.load import RunRecord, Sweep
from resweep.report.stats import ALPHA, BETTER, WORSE, Difference, paired_difference
from resweep.report.table import Ranking, ranking

NOISE = 0.01
SEED_NOISE = 0.03
SD = NOISE * 2**0.5
"""Standard deviation of the difference between two settings."""


@dataclass(frozen=True)
class Rates:
    """Shares of the simulated sweeps.

    Args:
        false: with a false claim about any pair: a difference where none is, or on the wrong side.
        false_about_best: with a false claim about the setting that ranked first, chosen on validation.
        uncorrected: with a false claim about any pair, were every pair tested at 5 % for itself.
        found: planted differences that were claimed on the right side; None where none is planted.
    """

    false: float
    false_about_best: float
    uncorrected: float
    found: float | None


@dataclass(frozen=True)
class FollowUp:
    """Shares of claimed differences, on either side, when undecided sweeps of two settings are followed up.

    Args:
        proposed: sweeps of all in which fresh seeds were proposed.
        fresh: of these, with a claim in the new sweep alone.
        added: of these, with a claim when the new seeds are added to the old ones and all are tested again.
        either: sweeps of all with a claim in the first test or in the one of all seeds.
        seeds: median of the proposed numbers.
    """

    proposed: float
    fresh: float
    added: float
    either: float
    seeds: float


def follow_up(planted: float, seeds: int, sweeps: int = 1000, start: int = 0) -> FollowUp:
    """Simulate sweeps of two settings, run the proposed fresh seeds where one is undecided, and count the claims.

    Args:
        planted: true difference, in standard deviations of a difference.
        seeds: runs of each setting in the first sweep.
        sweeps: how many are simulated.
        start: seed of the simulation.
    """
    draw = random.Random(start)
    first = fresh = added = 0
    numbers = []
    for _ in range(sweeps):
        old = ranking(simulate([planted, 0.0], seeds, draw))
        difference = old.difference(*old.rows)
        first += difference.verdict in (BETTER, WORSE)
        if difference.more_seeds is None:
            continue
        numbers.append(difference.more_seeds)
        new = ranking(simulate([planted, 0.0], difference.more_seeds, draw))
        fresh += new.difference(*new.rows).verdict in (BETTER, WORSE)
        added += paired_difference(*_together(old, new)).verdict in (BETTER, WORSE)
    shares = (len(numbers) / sweeps, fresh / len(numbers), added / len(numbers), (first + added) / sweeps)
    return FollowUp(*shares, statistics.median(numbers))


def _together(old: Ranking, new: Ranking) -> list[dict[tuple[int, int], float]]:
    """Results of both settings over the seeds of two sweeps."""
    found = [{}, {}]
    for number, table in enumerate((old, new)):
        for row in table.rows:
            values = table.pairs.values[row.index]
            found[row.values["optimizer.lr"]] |= {(number, repeat): value for repeat, value in values.items()}
    return found


def simulate(shifts: list[float], seeds: int, draw: random.Random) -> Sweep:
    """Make a sweep with a setting per shift, shifts in standard deviations of a difference."""
    common = [draw.gauss(0.9, SEED_NOISE) for _ in range(seeds)]
    runs = []
    for setting, shift in enumerate(shifts):
        for seed in range(seeds):
            mean = common[seed] + shift * SD
            metrics = {"val/accuracy": draw.gauss(mean, NOISE), "test/accuracy": draw.gauss(mean, NOISE)}
            run_id = f"{setting:03d}{seed:02d}"
            swept = {"optimizer.lr": setting, "seed": seed}
            runs.append(
                RunRecord(run_id, seed=seed, swept=swept, status="completed", metrics=metrics, dir=Path(run_id))
            )
    draw.shuffle(runs)
    return Sweep(Path("simulated"), "simulated", {}, runs, [])


def rates(shifts: list[float], seeds: int, sweeps: int = 1000, start: int = 0) -> Rates:
    """Rank many simulated sweeps and count what is claimed.

    Args:
        shifts: planted level of each setting, in standard deviations of a difference.
        seeds: runs of each setting.
        sweeps: how many are simulated.
        start: seed of the simulation.
    """
    draw = random.Random(start)
    false = about_best = uncorrected = found = planted = 0
    for _ in range(sweeps):
        table = ranking(simulate(shifts, seeds, draw))
        judged = [(a, b, table.difference(a, b)) for a, b in combinations(table.rows, 2)]
        ahead = [shifts[a.values["optimizer.lr"]] - shifts[b.values["optimizer.lr"]] for a, b, _ in judged]
        wrong = [_false(difference, shift) for (_, _, difference), shift in zip(judged, ahead, strict=True)]
        false += any(wrong)
        about_best += any(w for w, (a, b, _) in zip(wrong, judged, strict=True) if a.best or b.best)
        uncorrected += any(d.p < ALPHA for (_, _, d), shift in zip(judged, ahead, strict=True) if shift == 0)
        found += sum(_found(difference, shift) for (_, _, difference), shift in zip(judged, ahead, strict=True))
        planted += sum(shift != 0 for shift in ahead)
        _check_rows(table)
    return Rates(false / sweeps, about_best / sweeps, uncorrected / sweeps, found / planted if planted else None)


def _false(difference: Difference, shift: float) -> bool:
    """Whether more is claimed than was planted."""
    claimed = {BETTER: 1, WORSE: -1}.get(difference.verdict, 0)
    return claimed != 0 and claimed * shift <= 0


def _found(difference: Difference, shift: float) -> bool:
    return difference.verdict == (BETTER if shift > 0 else WORSE) and shift != 0


def _check_rows(table: Ranking) -> None:
    """The verdict that a row shows is the one of the family."""
    for row in table.rows[1:]:
        if row.difference != table.difference(row, table.best):
            raise AssertionError(f"row {row.index} shows another verdict than its family")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=1000, help="simulated sweeps for each line")
    options = parser.parse_args()
    print(
        f"{'settings':>8}  {'seeds':>5}  {'planted':>7}  {'false':>6}  {'best':>6}  {'uncorrected':>11}  found (bounds)"
    )
    for settings, seeds in ((2, 3), (2, 5), (2, 10), (6, 5), (6, 10), (12, 5)):
        for planted in (0.0, 1.0, 3.0):
            shifts = [planted] + [0.0] * (settings - 1)
            result = rates(shifts, seeds, options.sweeps)
            line = f"{settings:8d}  {seeds:5d}  {planted:4.0f} sd  {result.false:6.1%}  {result.false_about_best:6.1%}"
            line += f"  {result.uncorrected:11.1%}"
            if result.found is not None:
                count = settings * (settings - 1) // 2
                low, high = (detection_power(planted, seeds, level) for level in (ALPHA / count, ALPHA))
                line += (
                    f"  {result.found:.1%} ({low:.1%} to {high:.1%})"
                    if count > 1
                    else f"  {result.found:.1%} ({low:.1%})"
                )
            print(line, flush=True)
    print(f"\n{'seeds':>5}  {'planted':>7}  {'proposed':>8}  {'median':>6}  {'alone':>11}  {'added':>6}  either test")
    for seeds in (3, 5, 10):
        for planted in (0.0, 0.5, 1.0):
            done = follow_up(planted, seeds, options.sweeps)
            line = f"{seeds:5d}  {planted:4.1f} sd  {done.proposed:8.1%}  {done.seeds:6.0f}  {done.fresh:11.1%}"
            print(f"{line}  {done.added:6.1%}  {done.either:.1%}", flush=True)


if __name__ == "__main__":
    main()
