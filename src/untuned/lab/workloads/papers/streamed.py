"""Learning from data sets too large to hold, streamed shard by shard.

`datasets` shuffles the stream within a buffer and shards it over ranks. A resumed run reads its
epoch again up to its place: `IterableDataset.state_dict` would resume at once, but drops the
examples in the shuffle buffer, and the run would see others. Rows should therefore be cheap to
read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lightning.fabric import Fabric
from torch import Tensor

from untuned.lab.config import Config
from untuned.lab.errors import ConfigError
from untuned.lab.workloads.supervised import Supervised, SupervisedLearner
from untuned.lab.workloads.task import Batch

BUFFER = 10_000  # examples in the shuffle buffer
Collate = Callable[[list[Any]], Batch]


@dataclass(frozen=True)
class Stream:
    """A training set that is read in order."""

    open: Callable[[], Any]  # makes an `IterableDataset`
    collate: Collate  # from rows to a batch


@dataclass(frozen=True)
class StoredRows:
    """A set of rows that are collated when a batch is taken."""

    held: Any  # a `Dataset` or a list
    collate: Collate  # from rows to a batch

    def __len__(self) -> int:
        return len(self.held)

    def take(self, chosen: Tensor) -> Batch:
        return self.collate([self.held[index] for index in chosen.tolist()])


@dataclass(frozen=True)
class Streamed(Supervised):
    """A supervised task whose training set is a stream."""

    train: Stream  # type: ignore[assignment]  # in place of examples

    def learner(self, fabric: Fabric, config: Config) -> SupervisedLearner:
        return _StreamedLearner(self, fabric, config)


class _StreamedLearner(SupervisedLearner):
    """A network that learns from a stream."""

    task: Streamed

    def __init__(self, task: Streamed, fabric: Fabric, config: Config) -> None:
        super().__init__(task, fabric, config)
        from datasets.distributed import split_dataset_by_node  # slow to import

        shuffled = task.train.open().shuffle(seed=config.seed, buffer_size=BUFFER)
        self._rows = split_dataset_by_node(shuffled, fabric.global_rank, fabric.world_size)
        self._share = task.batch // fabric.world_size
        self._epoch = self._place = 0  # batches read in this epoch
        self._batches = self._endless()

    def _endless(self) -> Iterator[list[Any]]:
        """Rows of a batch each, epoch after epoch, without the last partial batch of an epoch."""
        while True:
            self._rows.set_epoch(self._epoch)
            left, batches = iter(self._rows), 0
            while len(rows := list(islice(left, self._share))) == self._share:
                batches += 1
                if batches > self._place:
                    self._place = batches
                    yield rows
            if not batches:
                raise ConfigError(f"the stream has no {self._share} examples for a process")
            self._epoch, self._place = self._epoch + 1, 0

    def _batch(self, step: int) -> Batch:
        """The next batch of the stream, on the device."""
        batch: Batch = self.fabric.to_device(self.task.train.collate(next(self._batches)))
        return batch

    def state(self) -> dict[str, Any]:
        return super().state() | {"epoch": self._epoch, "place": self._place}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self._epoch, self._place = state["epoch"], state["place"]
        self._batches = self._endless()
