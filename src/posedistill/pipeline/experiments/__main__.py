"""Run an experiment: python -m posedistill.pipeline.experiments seeds | ablation | sweep

Finished trainings are kept, so that an interrupted run goes on where it was.
"""

import argparse
import signal
import sys
from functools import partial
from pathlib import Path

from posedistill import project
from posedistill.errors import UserError
from posedistill.params import read_settings
from posedistill.pipeline.experiments import ablation, report, results, schedule, seeds
from posedistill.pipeline.experiments.options import add_options, distinct
from posedistill.pipeline.experiments.workspaces import Workspace, prepare_workspace
from posedistill.pipeline.handover import check_fresh

METRICS = Path("reports/metrics")
REPORTS = {"seeds": "11_seeds", "ablation": "09_ablation", "sweep": "10_sweep"}


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m posedistill.pipeline.experiments", description=__doc__.splitlines()[0]
    )
    parser.add_argument("experiment", choices=("seeds", "ablation", "sweep"))
    add_options(parser)
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the trainings end, too
    try:
        run(options.experiment, distinct(options.seeds), options.processes)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def run(experiment: str, chosen: tuple[int, ...], processes: int) -> Path:
    """Train and evaluate all that the experiment needs, and write reports/metrics/<experiment>.json and the report.

    UserError if data or teacher, which come from the pipeline, are not those of the settings.
    """
    root = project.enter()
    settings = read_settings("params.yaml")
    numbers = chosen or ((0,) if experiment == "sweep" else seeds.SEEDS)
    truth = root / "prepared" / f"val-{settings['data']['val'][0]['name']}" / "gt.json"
    if not truth.is_file():
        raise UserError(f"{truth}: the data is not prepared yet; run `make repro` first")
    check_fresh("prepare" if experiment == "seeds" else "teacher")  # seeds trains teachers of its own
    checkpoints = _checkpoints(root)
    base = checkpoints / experiment
    if experiment == "seeds":
        plan = seeds.experiment(settings, numbers)
    elif experiment == "ablation":
        plan = ablation.experiment(numbers)
    else:
        plan = ablation.sweep(numbers)
    trainings = schedule.Processes(checkpoints)
    start = partial(_start, root, base, settings, trainings)
    schedule.run_all(plan.workspaces, start, processes, experiment, trainings.stop)
    evaluate = settings["evaluate"]
    gathered = results.gather(plan, base, evaluate["bootstrap"], evaluate["seed"])
    out = root / METRICS / f"{experiment}.json"
    results.write_results(out, gathered)
    print(out.relative_to(root))
    print(report.make_report(root, REPORTS[experiment]))
    return out


def _start(root: Path, base: Path, settings: dict, trainings: schedule.Processes, workspace: Workspace) -> None:
    folder = prepare_workspace(root, base, workspace, settings)
    trainings.run(folder, workspace.stages)


def _checkpoints(root: Path) -> Path:
    from posedistill.training import checkpoints

    return checkpoints.root().resolve()


if __name__ == "__main__":
    sys.exit(main())
