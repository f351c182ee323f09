"""The similarity of two photographs by place, against a network that sees one place less."""

import numpy as np
import pytest
import torch
from PIL import Image

import openanimals
from openanimals.data.image_io import resize
from openanimals.engine.regions import alike_regions, share_inside
from openanimals.modeling import build_model
from tests.engine.tiny_run import tiny_cfg


@pytest.fixture(scope="module")
def predictor(tmp_path_factory, herd_root):
    """ARBase's three branches with weights by chance, and norms that have seen something."""
    folder = tmp_path_factory.mktemp("regions")
    cfg = tiny_cfg(folder, herd_root)
    torch.manual_seed(0)
    model = build_model(cfg, num_classes=3)
    for _ in range(3):
        images = torch.randint(0, 256, (8, 3, 48, 48), dtype=torch.uint8)
        model(images, torch.arange(8) % 3)
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    (folder / "config.yml").write_text(cfg.dump())
    return openanimals.Predictor(folder / "config.yml", weights=folder / "model.pth", device="cpu")


@pytest.fixture(scope="module")
def photographs():
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (60, 40, 3), dtype=np.uint8) for _ in range(2)]


def test_a_place_adds_what_is_lacking_without_it(predictor, photographs):
    found = alike_regions(predictor, *photographs)
    pixels = [np.asarray(resize(Image.fromarray(each), (48, 48))) for each in photographs]
    batch = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    with torch.no_grad():
        first, second = predictor.model(batch).double()
        lengths = first.norm() * second.norm()
        for (row, column), adds in np.ndenumerate(found.first):

            def without(module, inputs, output, row=row, column=column):
                output = output.clone()
                output[:, :, row, column] = 0
                return output

            hooks = [t.register_forward_hook(without) for t in predictor.model.tails.values()]
            lacking = predictor.model(batch[:1]).double()[0]
            for hook in hooks:
                hook.remove()
            assert adds == pytest.approx(float((first - lacking) @ second / lengths), abs=1e-6)
    assert found.first.shape == found.second.shape == (6, 6)
    assert found.similarity == pytest.approx(float(first @ second / lengths), abs=1e-6)


def test_the_order_of_two_photographs_does_not_matter(predictor, photographs):
    one, other = (
        alike_regions(predictor, *photographs),
        alike_regions(predictor, *photographs[::-1]),
    )
    np.testing.assert_allclose(one.first, other.second, atol=1e-7)
    np.testing.assert_allclose(one.second, other.first, atol=1e-7)
    assert all(parameter.grad is None for parameter in predictor.model.parameters())


def test_the_share_on_the_animal_is_that_of_what_speaks_for_it():
    places = np.array([[3.0, -9.0], [1.0, 0.0]])
    left = np.repeat(np.repeat([[True, False], [True, False]], 5, axis=0), 7, axis=1)
    assert share_inside(places, left) == 1
    assert share_inside(places, ~left) == 0
    top = np.zeros((10, 10), bool)
    top[:5] = True
    assert share_inside(places, top) == pytest.approx(0.75)
    assert np.isnan(share_inside(-np.abs(places), top))
