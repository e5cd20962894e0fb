"""Learning from data that are too many to hold: they come as a stream, shard by shard.

`datasets` shuffles the stream within a buffer and gives each process its share. A resumed run reads
its epoch again up to where it was, which gives it the examples that it would have seen: rows should
not be costly until they become a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lightning.fabric import Fabric
from torch import Tensor

from untuned.lab.config import Config
from untuned.lab.errors import ConfigError
from untuned.lab.supervised import Supervised, SupervisedLearner
from untuned.lab.task import Batch

BUFFER = 10_000  # examples that are shuffled among each other
Collate = Callable[[list[Any]], Batch]


@dataclass(frozen=True)
class Stream:
    """Rows as they come, and how a list of them becomes a batch."""

    open: Callable[[], Any]  # an `IterableDataset`
    collate: Collate


@dataclass(frozen=True)
class Rows:
    """Rows that are held, on disk, and become batches only when they are asked for."""

    held: Any  # a `Dataset`, or a list
    collate: Collate

    def __len__(self) -> int:
        return len(self.held)

    def take(self, chosen: Tensor) -> Batch:
        """Those at some indices (n,)."""
        return self.collate([self.held[index] for index in chosen.tolist()])


@dataclass(frozen=True)
class Streamed(Supervised):
    """A task whose training data are a stream."""

    train: Stream  # type: ignore[assignment]  # in the place of examples

    def learner(self, fabric: Fabric, config: Config) -> StreamedLearner:
        """The network with new weights, by the configuration's seed."""
        return StreamedLearner(self, fabric, config)


def batched(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` rows; what is left over is left out."""
    left = iter(rows)
    while len(batch := list(islice(left, size))) == size:
        yield batch


class StreamedLearner(SupervisedLearner):
    """A network that learns from a stream."""

    task: Streamed

    def __init__(self, task: Streamed, fabric: Fabric, config: Config) -> None:
        super().__init__(task, fabric, config)
        from datasets.distributed import split_dataset_by_node  # slow to import

        shuffled = task.train.open().shuffle(seed=config.seed, buffer_size=BUFFER)
        self._rows = split_dataset_by_node(shuffled, fabric.global_rank, fabric.world_size)
        self._share = task.batch // fabric.world_size
        self._epoch = self._place = 0  # batches read in this epoch
        self._batches = self._forever()

    def _forever(self) -> Iterator[list[Any]]:
        """Lists of rows, epoch after epoch; what an epoch leaves over is left out."""
        while True:
            self._rows.set_epoch(self._epoch)
            batches = 0
            for rows in batched(self._rows, self._share):
                batches += 1
                if batches > self._place:
                    self._place = batches
                    yield rows
            if not batches:
                raise ConfigError(f"the stream has no {self._share} examples for a process")
            self._epoch, self._place = self._epoch + 1, 0

    def _batch(self, step: int) -> Batch:
        """The next of the stream, on the device."""
        batch: Batch = self.fabric.to_device(self.task.train.collate(next(self._batches)))
        return batch

    def state(self) -> dict[str, Any]:
        """The weights, and where the stream is."""
        return super().state() | {"epoch": self._epoch, "place": self._place}

    def load(self, state: dict[str, Any]) -> None:
        """Take them."""
        super().load(state)
        self._epoch, self._place = state["epoch"], state["place"]
        self._batches = self._forever()
