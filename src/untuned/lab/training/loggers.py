"""TensorBoard and Weights & Biases, through Lightning Fabric."""

from __future__ import annotations

from lightning.fabric.loggers.logger import Logger

from untuned.lab.config import Config
from untuned.lab.errors import ConfigError


def loggers(config: Config) -> list[Logger]:
    """The loggers that a run asks for. Raises `ConfigError`."""
    found: list[Logger] = []
    if config.folder is None:
        if config.resume or config.tensorboard or config.wandb:
            raise ConfigError("to resume or to log, a run needs a folder")
        return found
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
