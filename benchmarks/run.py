"""``python -m benchmarks.run``: measure pymc_svi and its neighbours in one run, side by side.

All libraries are measured on a problem before the next kind of cache, and all of it again in every
round, so that a machine that gets faster or slower does so for all of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from benchmarks.launch import REGIMES, Launcher
from benchmarks.peers import PEERS, Peer
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.report import machine, markdown, rows, save, targets


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print the report; return the exit code."""
    options = _options(argv)
    records = []
    with Launcher(
        options.steps, options.threads, options.repeats, options.seconds, options.timeout
    ) as launcher:
        missing = {name: launcher.prepare(PEERS[name]) for name in options.peers}
        if options.setup_only:
            for name, reason in missing.items():
                print(f"{PEERS[name].title}: {reason or 'ready'}")
            return 0
        plan = [run for run in _plan(options) if missing[run[2].name] is None]
        for name, reason in missing.items():
            if reason is not None:
                print(f"{PEERS[name].title}: {reason}", flush=True)
        for count, (round_, problem, peer, regime) in enumerate(plan, start=1):
            result = launcher.run(peer, problem, regime, warm=regime == options.regimes[-1])
            records.append(
                {
                    "round": round_,
                    "problem": problem.name,
                    "peer": peer.name,
                    "regime": regime,
                    "result": result,
                }
            )
            print(f"[{count}/{len(plan)}] {_line(records[-1])}", flush=True)
    for problem in options.problems:
        for name, reason in missing.items():
            if reason is not None:
                unavailable = reason.removeprefix("not available: ")
                records.append(
                    {
                        "round": 1,
                        "problem": problem,
                        "peer": name,
                        "regime": options.regimes[-1],
                        "result": {"not_available": unavailable},
                    }
                )
    summary = rows(records, options.steps)
    about = {
        **machine(records),
        "settings": f"{options.steps:,} steps, {options.rounds} rounds, "
        f"threads of each library: {options.threads or 'its own choice'}",
    }
    text = markdown(summary, about)
    print("\n" + text)
    if options.save:
        print(f"Saved in {save(records, summary, text, about)}")
    return int(options.check and not all(ok for _, ok in targets(summary)))


def _plan(options: argparse.Namespace) -> Iterator[tuple[int, Problem, Peer, str]]:
    for round_ in range(1, options.rounds + 1):
        for problem in options.problems:
            for regime in options.regimes:
                for name in options.peers:
                    # What has no cache on disk is the same in each: run it where warm is timed.
                    if PEERS[name].disk_cache or regime == options.regimes[-1]:
                        yield round_, PROBLEMS[problem], PEERS[name], regime


def _line(record: dict) -> str:
    result = record["result"]
    where = "round {round}, {problem}, {peer}, {regime}: ".format(**record)
    if "cold_s" not in result:
        return where + ", ".join(f"{k.replace('_', ' ')}: {v}" for k, v in result.items())
    line = where + f"cold {result['cold_s']:.2f} s"
    if "warm" in result:
        speeds = sorted(result["warm"]["steps_per_s"])
        line += f", warm {speeds[len(speeds) // 2]:,.0f} steps/s"
    return line


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10_000, help="of a fit (default 10,000)")
    parser.add_argument("--repeats", type=int, default=5, help="timed warm runs a process")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a warm run")
    parser.add_argument(
        "--threads", type=int, default=1, help="of each library (default 1); 0: its own choice"
    )
    parser.add_argument("--timeout", type=float, default=1_200.0, help="seconds a process")
    parser.add_argument(
        "--quick", action="store_true", help="200 steps, one round: does everything run?"
    )
    parser.add_argument("--setup-only", action="store_true", help="only make the environments")
    parser.add_argument("--no-save", dest="save", action="store_false", help="only print")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    options = parser.parse_args(argv)
    options.regimes = [regime for regime in REGIMES if regime in options.regimes]
    if options.quick:
        options.steps, options.rounds, options.save = 200, 1, False
        options.repeats, options.seconds = 2, 0.2
        options.regimes = ["first", "same"] if len(options.regimes) == 3 else options.regimes
    return options


if __name__ == "__main__":
    sys.exit(main())
