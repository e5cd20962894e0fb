"""What experiments of several papers share: data, devices, grids of learning rates, and Auto."""

CIFAR = (200, 50_000, 128)  # epochs, images, batch
GPU = "a GPU"
CORES = "two cores"
EITHER = "two cores or a GPU"
SUBSET = "5,000 images of CIFAR-10"
ADAM, SGD = "adam(lr={lr})", "sgd(lr={lr})"
FEW_ADAM, FEW_SGD = (1e-4, 1e-3, 1e-2), (1e-2, 1e-1, 1.0)
WITH_AUTO = {"Auto": "auto"}
DEEP_AUTO = {**WITH_AUTO, "Auto, AGD's initial weights": "autoinitialised"}
