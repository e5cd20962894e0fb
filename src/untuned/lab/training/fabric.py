"""Where a run trains, and where it logs: Lightning Fabric, as its options say."""

import os

from lightning.fabric import Fabric
from lightning.fabric.loggers.logger import Logger

from untuned.lab.config import Config
from untuned.lab.errors import ConfigError


def fabric_of(config: Config) -> Fabric:
    """Device, precision and processes."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", config.devices))  # torchrun's number
    nodes = int(os.environ.get("WORLD_SIZE", local)) // local
    strategy = "ddp" if local * nodes > 1 else "auto"
    return Fabric(
        accelerator=config.accelerator, devices=local, num_nodes=nodes, strategy=strategy,
        precision=config.precision, loggers=_loggers(config),
    )  # fmt: skip


def _loggers(config: Config) -> list[Logger]:
    """The loggers that a run asks for. Raises `ConfigError`."""
    if config.folder is None:
        if config.resume or config.tensorboard or config.wandb:
            raise ConfigError("to resume or to log, a run needs a folder")
        return []
    found: list[Logger] = []
    if config.tensorboard:
        from lightning.fabric.loggers.tensorboard import TensorBoardLogger

        found.append(TensorBoardLogger(config.folder, name="tensorboard", version=""))
    if config.wandb:
        from lightning.pytorch.loggers import WandbLogger

        try:
            found.append(WandbLogger(save_dir=config.folder, name=config.folder.name))
        except ModuleNotFoundError as error:
            raise ConfigError("wandb is missing: pip install wandb") from error
    return found
