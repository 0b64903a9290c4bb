"""A stage over fake stores: all of `train_supervised` but the data. As a program, trains in the folder it is given and
prints the SHA-256 of the model; or ends itself on the way, for test_interruption.py: FOLDER [STEP SIGNAL DELAY]."""

import os
import sys
import threading
from pathlib import Path

from training_fakes import batches_of, plan

from posedistill.files import sha256_file
from posedistill.params import Params, from_settings
from posedistill.training import Paths, Trained, runs
from posedistill.training.supervised import train_supervised

EPOCHS, STEPS, BATCH = 3, 4, 4
SETTINGS = {
    "input": {"height": 32, "width": 32},
    "augment": {
        "box_padding": 1.25,
        "flip": 0.5,
        "half_body": 0.3,
        "shift": 0.16,
        "shift_p": 0.3,
        "scale": [0.75, 1.25],
        "rotation": 60,
        "rotation_p": 0.6,
        "hsv": True,
        "blur_p": 0.1,
        "median_blur_p": 0.1,
        "dropout_p": 1.0,
        "dropout_size": [0.2, 0.4],
        "weak_epochs": 1,
        "weak": {"dropout_p": 0.5},
    },
    "student": {"size": "n", "backbone": None, "seed": 0, "epochs": EPOCHS, "lr": 1e-3, "clip_norm": 5.0},
    "train": {
        "batch": BATCH,
        "reference_batch": None,
        "weight_decay": 0.05,
        "warmup_steps": 10,
        "warmup_factor": 1e-5,
        "flat": 0.5,
        "final_lr": 0.05,
        "ema": {"momentum": 2e-4, "gamma": 2000},
        "validate_every": 1,
        "keep": "last",
    },
    "loss": {"reference_batch": 64},
    "runtime": {
        "device": "cpu",
        "devices": 1,
        "precision": "auto",
        "channels_last": "auto",
        "compile": "auto",
        "workers": 0,
        "threads": 1,
        "micro_batch": None,
    },
}


def settings(**changes: dict) -> Params:
    """SETTINGS with some values replaced: settings(student={"lr": 2e-3})."""
    return from_settings({name: SETTINGS[name] | changes.get(name, {}) for name in SETTINGS}, "baseline")


class FakeStore:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return STEPS * BATCH + 1  # one person is left over


def put_in_place(asked: list | None = None) -> None:
    """Replace stores, loader and validation by fakes; `asked` gets the augmentation of each epoch."""

    class Loader:
        def __init__(self, store, input, augment, *, batch, rank, world_size, **_):
            self.augment, self.batches = augment, batches_of(plan(EPOCHS, STEPS, batch), rank, world_size)

        def start(self, epoch, start_step=0):
            pass

        def epoch(self, epoch, start_step=0):
            if asked is not None:
                asked.append((epoch, self.augment(epoch).dropout_p))
            return self.batches(epoch, start_step)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    runs.TrainStore = runs.ValStore = FakeStore
    runs.TrainLoader = Loader
    runs.validation = lambda model, store, input_size, device, whole: {"val_ap": 0.25}


def prepare_folder(root: Path) -> None:
    """A project with something in prepared/ and its environment."""
    for name in ("train", "val-rendered"):
        (root / "prepared" / name).mkdir(parents=True, exist_ok=True)
        (root / "prepared" / name / "part").write_text(name)
    os.environ["POSEDISTILL_CHECKPOINTS"] = str(root / ".checkpoints")
    os.chdir(root)


def train(P: Params | None = None, paths: Paths | None = None) -> Trained:
    return train_supervised(P or settings(), "baseline", paths)


def end_at(step: int, number: int, delay: float) -> None:
    """Send this process signal `number`, `delay` seconds after `step` (from 1) begins."""

    class Ending(runs.TrainLoader):
        def epoch(self, epoch, start_step=0):
            for at, batch in enumerate(super().epoch(epoch, start_step), epoch * STEPS + start_step + 1):
                if at == step and delay:
                    threading.Timer(delay, os.kill, (os.getpid(), number)).start()
                elif at == step:
                    os.kill(os.getpid(), number)
                yield batch

    runs.TrainLoader = Ending


if __name__ == "__main__":
    prepare_folder(Path(sys.argv[1]))
    put_in_place()
    if len(sys.argv) > 2:
        end_at(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    print(sha256_file(train().model_path))
