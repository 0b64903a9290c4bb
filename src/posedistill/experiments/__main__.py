"""Run a set of DVC experiments and write its report: python -m posedistill.experiments ablation

An interruption stops them; the same command continues. They are ordinary DVC experiments: `dvc exp show`,
`dvc queue status`, `dvc exp remove`.
"""

import argparse
import signal
import sys
from pathlib import Path

from posedistill import project
from posedistill.experiments import PLANS, engine, stress, table, unlabelled, verdict
from posedistill.params import read_settings
from posedistill.pipeline.notebook import exit_status, make_report

REPORTS = {
    "seeds": "11_seeds",
    "ablation": "09_ablation",
    "sweep": "10_sweep",
    "unlabelled": "12_unlabelled",
    "verdict": "14_verdict",
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m posedistill.experiments", description=__doc__.splitlines()[0].split(":")[0]
    )
    parser.add_argument(
        "experiment", choices=(*PLANS, "stress", "audit", "show"), help="show: a table of all experiments"
    )
    parser.add_argument("--seeds", type=_at_least(0), nargs="+", help="training seeds (0 1 2; sweep: 0)")
    parser.add_argument(
        "--jobs", "--processes", type=_at_least(1), default=2, help="experiments side by side, one thread each (2)"
    )
    options = parser.parse_args(argv)
    seeds = tuple(options.seeds or ())
    if len(set(seeds)) < len(seeds):
        parser.error(f"--seeds: found {' '.join(map(str, seeds))}, expected each seed once")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C

    def work() -> None:
        project.enter()
        if options.experiment == "show":
            print(table.experiments_table())
        elif options.experiment == "stress":
            stress.run(options.jobs)
            print(make_report("15_stress"))
        elif options.experiment == "audit":
            print(make_report("16_audit"))
        else:
            print(run(options.experiment, seeds, options.jobs))

    return exit_status(work, options.experiment, "the same command continues from here")


def run(experiment: str, seeds: tuple[int, ...], jobs: int) -> Path:
    """Run what is missing and write the report and reports/metrics/<experiment>.json; → the report.

    UserError if the pipeline is not up to date or a run fails.
    """
    settings = read_settings("params.yaml")
    plan = PLANS[experiment](settings, seeds) if seeds else PLANS[experiment](settings)
    with engine.opened() as repo:
        engine.check_fresh(repo, plan)
        if experiment == "unlabelled":
            unlabelled.write_pictures(settings)
        elif experiment == "verdict":
            verdict.make_second_teacher(repo, settings)
        engine.run_all(repo, plan, jobs)
    return make_report(REPORTS[experiment])


def _at_least(smallest: int):
    def whole(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"found {value}, expected a whole number from {smallest}")
        return value

    whole.__name__ = "whole number"  # argparse names it in its message
    return whole


if __name__ == "__main__":
    sys.exit(main())
