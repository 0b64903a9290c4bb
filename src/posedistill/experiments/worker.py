"""Train and evaluate models in the working folder, a workspace: python -m posedistill.experiments.worker STAGE …"""

import sys

from posedistill.errors import UserError
from posedistill.params import stage_params


def train(stage: str) -> None:
    """Train the model of one stage with the settings of the working folder."""
    from posedistill.training import stages

    params = stage_params(stage)
    if stage in ("teacher", "baseline"):
        stages.train_supervised(params, stage)
    elif stage == "stage1":
        stages.distill_stage1(params)
    else:
        stages.distill_stage2(params)


def evaluate(model: str) -> None:
    """Evaluate the model as the pipeline does."""
    from posedistill.evaluation.evaluate import evaluate_model

    evaluate_model(stage_params("evaluate"), model)


def main(stages: list[str]) -> int:
    """Each stage, followed by its evaluation."""
    try:
        for stage in stages:
            train(stage)
            evaluate(stage)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
