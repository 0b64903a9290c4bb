"""Return to the last commit: settings, reports and dvc.lock from git, and the matching models.

    python scripts/back.py [FOLDER]     the project's folder (default: this one); `make back`

`dvc checkout` alone works only on the machine of the commit: on another processor dvc.lock names files that were never
made here. `dvc repro` restores each stage from DVC's run cache or its finished training in seconds. Changed code and
notebooks stay.
"""

import subprocess
import sys
from pathlib import Path

from mend import ROOT, mend

RESTORED = ("params.yaml", "dvc.yaml", "dvc.lock", "data.dvc", "reports")
RESULTS = ("dvc.lock", "reports")
CODE = ("src", "notebooks")


def git(folder: Path, *arguments: str) -> list[str]:
    """Lines that git prints."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def changed(folder: Path, *paths: str) -> list[str]:
    """Files that differ from the last commit."""
    return git(folder, "diff", "--name-only", "HEAD", "--", *paths)


def listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def back(folder: Path) -> int:
    """Restore, run what is out of date, and report the outcome; → exit code."""
    for line in mend(folder):
        print(line)
    try:
        git(folder, "rev-parse", "--verify", "HEAD")
    except (FileNotFoundError, subprocess.CalledProcessError):
        print(f"{folder}: there is no git commit to go back to", file=sys.stderr)
        return 2
    if restored := changed(folder, *RESTORED):
        tracked = [name for name in RESTORED if any(git(folder, "ls-tree", "--name-only", "HEAD", name))]
        git(folder, "restore", "--source=HEAD", "--staged", "--worktree", "--", *tracked)
        print(f"as in the last commit: {listed(restored)}")
    if code := changed(folder, *CODE):
        print(f"changed code stays, and the stages that use it run anew: {listed(code)}")
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=folder, check=False)
    if done.returncode:
        return done.returncode
    if other := changed(folder, *RESULTS):
        print(
            "Models, reports and dvc.lock agree. They are results of this machine: "
            f"{len(other)} {'file differs' if len(other) == 1 else 'files differ'} from the commit ({listed(other)}); "
            "`make verify` says by how much."
        )
    else:
        print("Models, reports and dvc.lock are those of the last commit, byte for byte.")
    return 0


if __name__ == "__main__":
    sys.exit(back(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT))
