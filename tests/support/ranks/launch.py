"""Ranks to run tests on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

TESTS = Path(__file__).parents[2]


class Ranks:
    """Runs jobs of `support.ranks` on so many ranks, all forked from one process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.launches = folder, 0
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        self.server = subprocess.Popen(
            [sys.executable, "-m", "support.ranks.server"],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, job: str, world: int, *arguments) -> list:
        """What the job, such as `saved:main`, returns on each rank."""
        self.launches += 1
        folder = self.folder / str(self.launches)
        folder.mkdir()
        asked = [f"support.ranks.{job}", world, str(folder), arguments]
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        codes = json.loads(self.server.stdout.readline())
        told = {
            f"rank {rank} ended with {code}": (folder / f"{rank}.err").read_text()[-4000:]
            for rank, code in enumerate(codes)
            if code
        }
        assert not told, "\n\n".join(map("\n".join, told.items()))
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]

    def close(self) -> None:
        """End the server."""
        self.server.stdin.close()
        self.server.wait(timeout=10)
        self.server.stdout.close()
