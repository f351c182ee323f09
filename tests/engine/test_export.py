"""A model as files, and run by other programs: the same features, or it is said."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

import openanimals
from openanimals.engine import backends
from openanimals.engine.export import read_contract
from openanimals.engine.train import train
from openanimals.utils.errors import UserError
from tests.conftest import REPOSITORY
from tests.data.wildlife_fixtures import coat
from tests.engine.tiny_run import HERD, tiny_cfg

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def run(tmp_path_factory, herd_root):
    folder = tmp_path_factory.mktemp("run")
    keys = {"MODEL__HEADS__BRANCHES": [[1], [1, 2]], "TEST__FLIP__ENABLED": True}
    train(tiny_cfg(folder, herd_root, SOLVER__MAX_EPOCH=1, **keys))
    return folder


@pytest.fixture(scope="module")
def predictor(run):
    return openanimals.Predictor(run, device="cpu")


@pytest.fixture(scope="module")
def exported(predictor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    predictor.export(folder, licence="cc-by-4.0")
    return folder


def cosine_distances(ours, theirs):
    products = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(ours, theirs, strict=True)]
    return 1 - np.array(products)


@pytest.mark.parametrize("package", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("count", "height", "width"), [(1, 48, 48), (5, 64, 56)])
def test_the_file_gives_the_features_of_torch(package, count, height, width, exported, predictor):
    pytest.importorskip(package)
    path = exported / "model.onnx"
    onnx.checker.check_model(path, full_check=True)
    read = backends.openvino if package == "openvino" else backends.onnx_runtime
    images = backends.probe((height, width), count)
    with torch.inference_mode():
        expected = predictor.model(images).numpy()
    found = read(path)(images.numpy())
    assert found.dtype == np.float32
    np.testing.assert_allclose(cosine_distances(found, expected), 0, atol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_the_contract_says_what_goes_in_and_what_comes_out(exported, predictor):
    contract = read_contract(exported / "model.onnx")
    said = {key: contract[key] for key in ("size", "any_size", "flip", "background", "licence")}
    assert said == {
        "size": [48, 48],
        "any_size": True,
        "flip": True,
        "background": "keep",
        "licence": "cc-by-4.0",
    }
    assert contract["fingerprint"] == predictor.fingerprint
    assert (
        contract["dimension"] == predictor.embed([np.zeros((9, 9, 3), np.uint8)]).features.shape[1]
    )
    assert contract["data"] == [HERD]
    with pytest.raises(UserError, match=r"README\.md is not an ONNX file of openanimals export"):
        read_contract(exported / "README.md")


def test_a_file_computes_in_float32_whatever_the_run_does(run, predictor, tmp_path):
    keys = ["TEST.DTYPE", "bfloat16"]
    openanimals.Predictor(run, device="cpu", overrides=keys).export(tmp_path)
    assert read_contract(tmp_path / "model.onnx")["fingerprint"] == predictor.fingerprint


def test_weights_and_configuration_make_the_same_model(exported, predictor, monkeypatch):
    again = openanimals.Predictor(
        exported / "config.yml", weights=exported / "model.safetensors", device="cpu"
    )
    assert again.fingerprint == predictor.fingerprint
    images = [np.asarray(coat(number, 0, 48)) for number in range(3)]
    expected = predictor.embed(images).features
    np.testing.assert_array_equal(again.embed(images).features, expected)


def test_the_card_is_in_the_hugging_face_form(exported, run):
    card = (exported / "README.md").read_text()
    _, header, text = card.split("---\n", 2)
    told = yaml.safe_load(header)
    assert told["license"] == "cc-by-4.0" and told["library_name"] == "openanimals"
    for name, result in json.loads((run / "results.json").read_text()).items():
        assert (
            f"| {name} | {result['Rank-1']:.1f} | {result['Rank-5']:.1f} | {result['mAP']:.1f} |"
            in text
        )
    assert str(run) not in card + (exported / "config.yml").read_text()


@pytest.mark.parametrize(
    ("backend", "package", "taken"),
    [("onnx", "onnxruntime", "onnx"), ("openvino", "openvino", "openvino")]
    + [("auto", "openvino", "openvino")],
)
def test_a_backend_gives_the_features_of_torch(backend, package, taken, run, predictor, caplog):
    pytest.importorskip(package)
    with caplog.at_level(logging.INFO, "openanimals"):
        other = openanimals.Predictor(run, device="cpu", backend=backend)
    assert other.backend == taken
    assert (f"backend: {taken} (features within" in caplog.text) == (backend == "auto")
    images = [np.asarray(coat(number, 0, 48)) for number in range(5)]
    expected, found = predictor.embed(images), other.embed(images)
    np.testing.assert_allclose(cosine_distances(found.features, expected.features), 0, atol=1e-5)
    found.check_same_model(expected)


def test_a_backend_computes_in_bfloat16_if_asked_to(run, predictor):
    pytest.importorskip("openvino")
    how = {"device": "cpu", "overrides": ["TEST.DTYPE", "bfloat16"]}
    if "BF16" not in backends.openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(UserError, match="no bfloat16 on this processor"):
            openanimals.Predictor(run, backend="openvino", **how)
        return
    other = openanimals.Predictor(run, backend="auto", **how)
    assert other.backend == "openvino"
    images = [np.asarray(coat(number, 0, 48)) for number in range(5)]
    expected, found = predictor.embed(images), other.embed(images)
    rounding = np.abs(found.features / expected.features - 1).max()
    assert rounding > 1e-4  # a bfloat16 has 8 bits, a float32 24
    np.testing.assert_allclose(cosine_distances(found.features, expected.features), 0, atol=5e-3)
    with pytest.raises(UserError, match="cannot be compared"):
        found.check_same_model(expected)
    found.check_same_model(openanimals.Predictor(run, **how).embed(images))  # torch's


SIGNAL_AFTER_TWO = """
import gc, os, signal, sys
from openanimals.engine.backends import openvino
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
first, second = (openvino(sys.argv[1]) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals of this kind")
def test_signals_after_networks_of_openvino_are_gone(exported):
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", SIGNAL_AFTER_TWO, str(exported / "model.onnx")]
    found = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert (found.returncode, found.stdout) == (0, "handled\n"), found.stderr


def test_a_type_that_a_backend_does_not_have_is_refused(run):
    pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match="ONNX Runtime computes in float32"):
        openanimals.Predictor(
            run, device="cpu", overrides=["TEST.DTYPE", "bfloat16"], backend="onnx"
        )


def test_features_that_disagree_are_not_taken_for_those_of_torch(
    run, predictor, caplog, monkeypatch
):
    pytest.importorskip("openvino")
    package, right = backends.RUNNERS["openvino"]

    def wrong(path, *how):
        run_right = right(path, *how)
        return lambda images: run_right(255 - images)

    monkeypatch.setitem(backends.RUNNERS, "openvino", (package, wrong))
    with caplog.at_level(logging.INFO, "openanimals"):
        other = openanimals.Predictor(run, device="cpu", backend="auto")
    assert other.backend == "torch" and "backend: torch (OpenVINO's features are" in caplog.text
    images = [np.asarray(coat(number, 0, 48)) for number in range(3)]
    np.testing.assert_array_equal(other.embed(images).features, predictor.embed(images).features)
    named = openanimals.Predictor(run, device="cpu", backend="openvino")
    with pytest.raises(UserError, match="cannot be compared"):
        named.embed(images).check_same_model(predictor.embed(images))


@pytest.mark.parametrize(
    ("backend", "package", "message"),
    [
        ("onnx", "onnxruntime", "onnxruntime .*pip install onnxruntime"),
        ("openvino", "openvino", "openvino .*pip install openvino"),
        ("openvine", "", r"backend is 'openvine' \(did you mean 'openvino'\?\)"),
    ],
)
def test_what_is_not_there_is_named(backend, package, message, run, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=message):
        openanimals.Predictor(run, device="cpu", backend=backend)


def test_auto_without_openvino_is_torch_and_says_so(run, monkeypatch, caplog):
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO, "openanimals"):
        assert openanimals.Predictor(run, device="cpu", backend="auto").backend == "torch"
    assert "not installed: pip install openvino onnx onnxscript" in caplog.text
