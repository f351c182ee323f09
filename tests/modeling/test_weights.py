"""Downloads from a server of our own, files of weights good and bad, what does not match."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torch import nn

from openanimals.modeling.backbones.resnet import resnet
from openanimals.modeling.weights import (
    HEAD_CLASSIFIERS,
    ArchitectureError,
    WeightsError,
    fetch,
    find_state_dict,
    match_state_dict,
    read_state_dict,
)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder behind HTTP, its address, and an empty cache."""
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


def offer(folder, state) -> str:
    """Put a state dict on the server under a name that ends in its hash."""
    torch.save(state, folder / "weights")
    digest = hashlib.sha256((folder / "weights").read_bytes()).hexdigest()
    name = f"net-{digest[:8]}.pth"
    (folder / "weights").rename(folder / name)
    return name


def test_download_is_checked_and_kept(server, tmp_path):
    folder, address = server
    name = offer(folder, {"weight": torch.ones(2)})
    path = fetch(f"{address}/{name}")
    assert path == tmp_path / "cache" / "hub" / "checkpoints" / name
    assert torch.equal(read_state_dict(path)["weight"], torch.ones(2))
    (folder / name).unlink()
    assert fetch(f"{address}/{name}") == path  # not asked for again


def test_broken_copy_is_downloaded_again(server):
    folder, address = server
    name = offer(folder, {"weight": torch.ones(2)})
    path = fetch(f"{address}/{name}")
    path.write_bytes(path.read_bytes()[:100])
    assert read_state_dict(fetch(f"{address}/{name}"))


@pytest.mark.parametrize("trouble", ["not there", "another file", "offline"])
def test_failed_download_says_what_to_do(server, tmp_path, trouble):
    folder, address = server
    if trouble == "another file":
        (folder / "net-0123abcd.pth").write_bytes(b"something else")
    if trouble == "offline":
        address = "http://127.0.0.1:9"
    with pytest.raises(WeightsError) as error:
        fetch(f"{address}/net-0123abcd.pth")
    for expected in (
        f"{address}/net-0123abcd.pth",
        "Put the file net-0123abcd.pth into",
        str(tmp_path / "cache" / "hub" / "checkpoints"),
        "MODEL.BACKBONE.PRETRAIN_PATH",
        "MODEL.BACKBONE.PRETRAIN False",
    ):
        assert expected in str(error.value)
    assert not list((tmp_path / "cache").rglob("net-*"))


def test_pretrained_resnet_ibn(tmp_path):
    """A file as IBN-Net's: a classifier, a prefix of parallel training, no batch counters."""
    source = resnet("18x", ibn=True)
    state = {**source.stem.state_dict(), **source.tail.state_dict()}
    state = {f"module.{k}": v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    state["module.fc.weight"] = torch.zeros(1000, 512)
    torch.save({"state_dict": state}, tmp_path / "weights.pth")
    loaded = resnet("18x", ibn=True, weights=tmp_path / "weights.pth")
    for part, other in zip(loaded[:2], source[:2], strict=True):
        for key, value in part.state_dict().items():
            assert torch.equal(value, other.state_dict()[key]), key
    with pytest.raises(ArchitectureError, match=r"weights.pth.*missing: layer1.0.bn1.weight.*not"):
        resnet("18x", weights=tmp_path / "weights.pth")


def test_what_a_network_lacks_of_a_file_is_not_dropped_in_silence(tmp_path):
    path = tmp_path / "weights.pth"
    plain, rich = resnet("18x"), resnet("18x", se=True, non_local=True)
    torch.save({**plain.stem.state_dict(), **plain.tail.state_dict()}, path)
    resnet("18x", se=True, non_local=True, weights=path)  # what it adds starts from random
    state = {**rich.stem.state_dict(), **rich.tail.state_dict()}
    torch.save(state, path)
    with pytest.raises(ArchitectureError, match=r"not expected: .*se\.fc\.0\.weight"):
        resnet("18x", weights=path)
    loaded = resnet("18x", se=True, non_local=True, weights=path)
    key = "layer1.1.se.fc.2.weight"
    assert torch.equal(loaded.stem.state_dict()[key], state[key])
    state.pop(key)
    torch.save(state, path)
    with pytest.raises(ArchitectureError, match=rf"1 missing: {key}"):
        resnet("18x", se=True, non_local=True, weights=path)


def test_what_differs_is_listed():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = network.state_dict()
    state["0.weight"] = torch.zeros(3, 4)
    state["2.weight"] = state.pop("1.weight")
    with pytest.raises(ArchitectureError) as error:
        match_state_dict(network, state, source="run/model_final.pth")
    assert str(error.value) == (
        "run/model_final.pth holds the weights of another architecture; 1 missing: 1.weight; "
        "1 not expected: 2.weight; 1 of another shape: 0.weight [3, 4] instead of [3, 2]"
    )


@torch.no_grad()
def test_another_number_of_classes_can_be_evaluated(tiny_model):
    trained = tiny_model().eval()
    evaluated, empty = tiny_model(num_classes=9), tiny_model(num_classes=0)
    nn.init.ones_(trained.stem[0].weight)
    images = torch.rand(1, 3, 48, 32)
    for model in (evaluated, empty):
        with pytest.raises(ArchitectureError, match=r"heads\.b1\.classifier\.weight"):
            match_state_dict(model, trained.state_dict())
        state = match_state_dict(model, trained.state_dict(), ignore=HEAD_CLASSIFIERS)
        model.load_state_dict(state, strict=False)
        assert torch.equal(model.eval()(images), trained(images))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_weights(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    with pytest.raises(WeightsError, match="there is no file of weights"):
        read_state_dict(path)
    path.write_text("<html>Not found</html>")
    with pytest.raises(WeightsError, match=f"weights{suffix} cannot be read as weights"):
        read_state_dict(path)


def test_a_pickle_of_something_else_is_refused(tmp_path):
    for content in ({"epoch": 3}, {0: torch.zeros(1)}):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(WeightsError, match="holds no weights"):
            read_state_dict(tmp_path / "a.pth")
    torch.save(nn.Linear(1, 1), tmp_path / "b.pth")  # would run code on loading
    with pytest.raises(WeightsError, match="cannot be read"):
        read_state_dict(tmp_path / "b.pth")


UNFIT = {
    "NaN": lambda weight: torch.full_like(weight, torch.nan),
    "one infinite": lambda weight: weight.index_fill(0, torch.tensor(0), torch.inf),
    "too large for float32": lambda weight: torch.full_like(weight, 1e300, dtype=torch.float64),
    "int64": lambda weight: weight.long(),
    "uint8": lambda weight: weight.to(torch.uint8),
    "bool": lambda weight: weight > 0,
    "complex64": lambda weight: weight.to(torch.complex64),
    "on no device": lambda weight: weight.to("meta"),
    "sparse": lambda weight: weight.to_sparse(),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_weights_that_nothing_can_be_computed_with_are_refused(kind):
    network = nn.Linear(2, 3)
    state = {**network.state_dict(), "weight": UNFIT[kind](network.weight.detach())}
    with pytest.raises(WeightsError, match="a.pth holds 1 weights that cannot be used.*weight,"):
        match_state_dict(network, state, source="a.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_and_infinite_masks_are_loaded(dtype):
    network = nn.BatchNorm1d(3)
    network.register_buffer("mask", torch.full((2,), -torch.inf))
    state = network.state_dict()
    state["weight"] = torch.tensor([1, 2, -3], dtype=dtype)
    network.load_state_dict(match_state_dict(network, state))
    assert network.weight.tolist() == [1, 2, -3]


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod.", "model.module."]
)
def test_what_wrappers_put_before_the_names_is_taken_off(prefix):
    state = {"stem.weight": torch.ones(1), "model.bias": torch.zeros(1)}
    wrapped = {f"{prefix}{key}": value for key, value in state.items()}
    assert find_state_dict({"state_dict": wrapped}).keys() == state.keys()


def test_compiled_blocks_have_their_plain_names():
    network = nn.Sequential(torch.compile(nn.Linear(1, 1)), nn.Linear(1, 1))
    assert find_state_dict(network.state_dict()).keys() == {
        *("0.weight", "0.bias", "1.weight", "1.bias")
    }
