"""What is too large to hold: streamed, from folders in the format of the large data sets."""

import pytest
import shards
import torch

from untuned.lab.config import Config
from untuned.lab.errors import MissingDataError
from untuned.lab.training.fabric import fabric_of
from untuned.lab.workloads import data
from untuned.lab.workloads.papers import image_transforms
from untuned.lab.workloads.papers.tokenizer import END, PAD, START, train_tokenizer
from untuned.lab.workloads.papers.translation import IGNORED, collate_pairs
from untuned.lab.workloads.registry import find

STREAMS = ("resnet50-imagenet", "translation-wmt16", "translation-multi30k", "gpt2-openwebtext")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("shards")
    shards.imagenet(made)
    shards.translations(made, "wmt16", nested=True)
    shards.translations(made, "multi30k", nested=False)
    shards.openwebtext(made)
    return made


@pytest.fixture
def _large(folder, monkeypatch, _at_once):
    monkeypatch.setenv("UNTUNED_DATA", str(folder))


@pytest.mark.usefixtures("_large")
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_learned_from(name, go):
    first, again = (go(name, "adamw(lr=1e-2)", steps=6) for _ in range(2))
    assert first.curve == again.curve
    assert first.curve[-1]["train_loss"] < first.curve[1]["train_loss"]


def seen(task, rank=0, processes=1, steps=4):
    """The first labels that a process sees."""
    config = Config("resnet50-imagenet", accelerator="cpu")
    learner = task.learner(fabric_of(config), config)
    return [learner._batch(step).targets for step in range(steps)], learner


@pytest.mark.usefixtures("_large")
def test_every_picture_comes_once_an_epoch_in_another_order():
    task = find("resnet50-imagenet").at("small")
    labels, _ = seen(task, steps=4)  # batches of 32 of 80 pictures: two an epoch
    every = sorted(data.rows("imagenet", "train")["label"])
    for epoch in (labels[:2], labels[2:]):
        left = list(every)
        for label in torch.cat(epoch).tolist():
            left.remove(label)  # raises, if it came twice
    assert not torch.equal(labels[0], labels[2])


@pytest.mark.usefixtures("_large")
def test_a_stream_goes_on_with_what_it_would_have_seen():
    task = find("resnet50-imagenet").at("small")
    _, learner = seen(task, steps=3)  # one into the second epoch
    state = learner.state()
    assert (state["epoch"], state["place"]) == (1, 1)
    later = [learner._batch(step).targets for step in (3, 4)]
    _, other = seen(task, steps=0)
    other.load(state)
    assert all(map(torch.equal, later, [other._batch(step).targets for step in (3, 4)]))


@pytest.mark.integration
def test_two_processes_share_a_stream(folder, ranks):
    pictures, sentences = "resnet50-imagenet", "translation-wmt16"
    one, other = ranks("streamed:main", 2, str(folder), [pictures, sentences])
    for status, last, losses in (*one.values(), *other.values()):
        assert (status, last) == ("done", 3)
        assert losses[-1] != losses[0]
    assert one[sentences] == other[sentences]  # the same weights, from the gradients of both
    assert one[pictures] != other[pictures]  # norms' statistics are of a process's own pictures


def test_a_missing_set_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setenv("UNTUNED_DATA", str(tmp_path))
    with pytest.raises(MissingDataError, match=r"imagenet/train\*\.parquet"):
        data.rows("imagenet", "train", streaming=True)


def test_targets_are_what_follows_and_padding_is_ignored():
    tokenizer = train_tokenizer(["ein Haus", "a house"] * 50, 300)
    rows = [{"de": "ein Haus", "en": "a house"}, {"de": "Haus", "en": "a"}]
    inputs, targets = collate_pairs(rows, tokenizer, 8)
    source, before = inputs.unbind(1)
    english = tokenizer.encode("a house").ids
    assert targets[0].tolist() == [*english, END] + [IGNORED] * (7 - len(english))
    assert before[0].tolist() == [START, *english] + [PAD] * (7 - len(english))
    assert source[1].tolist()[: len(tokenizer.encode("Haus").ids) + 1][-1] == END


def test_pictures_are_cut_at_random_and_at_the_centre():
    from PIL import Image

    picture = Image.new("RGB", (100, 60), "black")
    picture.paste((255, 255, 255), (40, 20, 60, 40))
    middle = image_transforms.standardised(image_transforms._centre_crop(picture, 32))
    assert middle.shape == (3, 32, 32)
    white = (1 - image_transforms.MEAN) / image_transforms.DEVIATION
    assert torch.allclose(middle[:, 16, 16], white[:, 0, 0])
    assert torch.allclose(
        middle[:, 0, 0], (-image_transforms.MEAN / image_transforms.DEVIATION)[:, 0, 0]
    )
    torch.manual_seed(0)
    cuts = [
        image_transforms.standardised(image_transforms._random_crop(picture, 32)) for _ in range(20)
    ]
    torch.manual_seed(0)
    again = [
        image_transforms.standardised(image_transforms._random_crop(picture, 32)) for _ in range(20)
    ]
    assert all(map(torch.equal, cuts, again))
    assert len({cut.sum().item() for cut in cuts}) > 10
