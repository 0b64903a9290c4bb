"""Train and evaluate models in the working folder, a workspace: python -m posedistill.pipeline.experiments.worker STAGE …"""

import sys

from posedistill.errors import UserError
from posedistill.params import stage_params
from posedistill.parent import end_with_parent


def train(stage: str) -> None:
    """Train the model of one stage with the settings of the working folder."""
    from posedistill.training.stage1 import distill_stage1
    from posedistill.training.stage2 import distill_stage2
    from posedistill.training.supervised import train_supervised

    params = stage_params(stage)
    if stage == "stage1":
        distill_stage1(params)
    elif stage == "stage2":
        distill_stage2(params)
    else:
        train_supervised(params, stage)


def evaluate(model: str) -> None:
    """Evaluate the model as the pipeline does."""
    from posedistill.pipeline.evaluate import evaluate_model

    evaluate_model(stage_params("evaluate"), model)


def main(stages: list[str]) -> int:
    """Each stage, a training followed by its evaluation."""
    from posedistill.pipeline.prepare import prepare

    end_with_parent()
    try:
        for stage in stages:
            if stage == "prepare":
                prepare(stage_params("prepare"))
                continue
            train(stage)
            evaluate(stage)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
