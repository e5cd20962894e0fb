"""What the less usual workloads compute, against plain transcriptions."""

import math

import pytest
import torch

from untuned.lab.config import Config
from untuned.lab.errors import ConfigError
from untuned.lab.workloads import contrastive, cooccurrence, coordinates, physics, restoration
from untuned.lab.workloads.registry import find


def test_a_laplacian_is_that_of_calculus():
    points = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    x, y, z = points.unbind(1)
    found = physics.laplacian((x**3 * y + z.sin())[:, None], points)
    assert torch.allclose(found[:, 0], 6 * x * y - z.sin())


def test_the_solution_of_the_equation_has_no_loss(monkeypatch):
    from untuned.lab.training.run import TrainingRun

    run = TrainingRun(Config("pinn-poisson", "adamw", accelerator="cpu"), lambda *_: None)
    learner = run.learner
    batch = run.task.train.take(torch.arange(11_900, 12_100))  # inside, and on the boundary
    assert learner._loss(*batch).item() > 1
    monkeypatch.setattr(learner, "_net", lambda points: (math.pi * points).sin().prod(1)[:, None])
    assert learner._loss(*batch).item() < 1e-8
    shifted = lambda points: (math.pi * points).sin().prod(1)[:, None] + 1  # noqa: E731
    monkeypatch.setattr(learner, "_net", shifted)
    assert learner._loss(*batch).item() == pytest.approx(physics.BOUNDARY**2 / 2, rel=1e-4)


def test_points_of_the_boundary_are_on_all_four_edges():
    points = find("pinn-poisson").at("small").train.inputs
    edge = points[points.abs().amax(1) == 1]
    assert len(edge) == 4000
    for side in range(2):
        for sign in (-1, 1):
            assert (edge[:, side] == sign).sum() == 1000


@pytest.mark.parametrize("options", [{"compile": True}, {"precision": "bf16-mixed"}])
def test_second_derivatives_are_for_plain_runs_alone(options, go):
    with pytest.raises(ConfigError, match="one process, in 32 bits"):
        go("pinn-poisson", **options)


def test_noise_is_added_as_the_diffusion_prescribes():
    images = torch.rand(40, 1, 4, 4)
    batch = restoration.Noised(images).take(torch.arange(40))
    times = (batch.inputs[:, 1] * restoration.NOISINGS).round().long()
    betas = [1e-4 + (0.02 - 1e-4) * s / 999 for s in range(1000)]
    for image, noisy, noise, time in zip(
        images, batch.inputs[:, 0], batch.targets, times, strict=True
    ):
        assert len(time.unique()) == 1
        alpha = math.prod(1 - beta for beta in betas[: int(time[0, 0]) + 1])
        want = math.sqrt(alpha) * image[0] + math.sqrt(1 - alpha) * noise[0]
        assert torch.allclose(noisy, want, atol=1e-4)
    assert len(times.unique()) > 30


def test_info_nce_is_its_definition():
    vectors = torch.nn.functional.normalize(torch.randn(6, 2, 5, dtype=torch.float64), dim=2)
    losses = []
    for start in (0, 3):  # two groups
        first, second = vectors[start : start + 3].unbind(1)
        for own, others in ((first, second), (second, first)):
            for i in range(3):
                near = [math.exp(float(own[i] @ other) / 0.2) for other in others]
                losses.append(-math.log(near[i] / sum(near)))
    found = contrastive._info_nce(vectors, torch.arange(6), group=3)
    assert float(found) == pytest.approx(sum(losses) / 12)


def test_two_views_are_of_one_image_and_differ():
    views = contrastive.TwoViews(torch.rand(8, 1, 28, 28)).take(torch.arange(8)).inputs
    assert views.shape == (8, 2, 1, 28, 28)
    assert (views[:, 0] - views[:, 1]).abs().amax((1, 2, 3)).min() > 0.1


def test_pairs_are_the_words_within_two_of_each_other(monkeypatch):
    monkeypatch.setattr(cooccurrence, "text", lambda file: "A a rare b; b. C c")
    monkeypatch.setattr(cooccurrence, "VALIDATED_PAIRS", 3)
    train, valid = cooccurrence.cooccurrence.__wrapped__("", least=2)
    words = ["a", "a", "b", "b", "c", "c"]
    near = {(a, b) for i, a in enumerate(words) for j, b in enumerate(words) if 0 < abs(i - j) <= 2}
    assert len(train) + len(valid) == len(near)  # each once
    names = ["a", "b", "c"]
    pairs = [*train.inputs.tolist(), *valid.inputs.tolist()]
    assert {(names[i], names[j]) for i, j in pairs} == near
    inputs, targets = train.take(torch.arange(2))
    assert torch.equal(inputs[:, :2], train.inputs[:2])
    assert inputs.shape == (2, 7)
    assert targets.tolist() == [0, 0]


@pytest.mark.usefixtures("data")
def test_images_are_tiled_row_by_row():
    from untuned.lab.workloads.data import images

    tiles = images("cifar10", "train", 9).images
    mosaic = coordinates._mosaic(3)
    assert torch.equal(mosaic[:, 32:64, 64:], tiles[5])


def test_features_are_of_the_coordinates():
    b = 10 * torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    found = coordinates._features(4, 3)
    angles = 2 * math.pi * (torch.tensor([1.5, 2.5]) / 4) @ b  # row 1, column 2
    assert torch.allclose(found[4 + 2], torch.cat([angles.sin(), angles.cos()]), atol=1e-5)
