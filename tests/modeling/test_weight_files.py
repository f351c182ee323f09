"""Files that are taken for weights: each is refused in words of ours, or read as it was written."""

import io
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from openanimals.modeling.weight_files import WeightsError, load_file

WEIGHTS = {"model": {"weight": torch.arange(4000.0), "none": torch.zeros(0)}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "web page"),
        (b"see https://example.org/weights\n", "a text"),
        (b"{}", "a text"),
        (b"\x1f\x8b\x08\0\0", "compressed archive"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"PK\3\4\0\0\0\0", "cut short"),
        (bytes(range(256)), "no kind that PyTorch reads"),
        (
            pickle.dumps({"a": [torch.nn.Linear]}, protocol=2),
            r"it holds torch\.nn\.modules\.linear\.Linear",
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_files_are_told_by_name(content, said, suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    if suffix == ".safetensors" and content[:2] in (b"PK", b"\x80\x02"):
        said = r"end in \.pth"
    with pytest.raises(WeightsError, match=said) as error:
        load_file(path)
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value)


def test_formats_under_the_name_of_another(tmp_path):
    save_file({"weight": torch.ones(3)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"end in \.safetensors"):
        load_file(tmp_path / "a.pth")
    torch.save(WEIGHTS, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"end in \.pth"):
        load_file(tmp_path / "a.safetensors")
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as file:
        file.writestr("photo.jpg", b"1234")
    with pytest.raises(WeightsError, match="a zip file, but not one of weights"):
        load_file(tmp_path / "b.pth")


def test_each_flipped_bit_is_seen_or_changes_nothing(tmp_path):
    written = io.BytesIO()
    torch.save(WEIGHTS, written)
    path, whole = tmp_path / "a.pth", written.getvalue()
    refused = 0
    for place in range(0, len(whole), 97):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            content = load_file(path)
        except WeightsError as error:
            assert "weights_only" not in str(error)
            refused += 1
        else:
            assert torch.equal(content["model"]["weight"], WEIGHTS["model"]["weight"])
    assert refused > 160  # of 180 or so; the others are padding


def test_files_without_check_sums_are_read(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(WEIGHTS, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert torch.equal(load_file(tmp_path / "a.pth")["model"]["weight"], torch.arange(4000.0))


def test_records_that_expand_a_thousand_times_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(10**7)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as source,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(WeightsError, match=r"unpack to 0\.04 GB, more than 100 times its own size"):
        load_file(tmp_path / "b.pth")
