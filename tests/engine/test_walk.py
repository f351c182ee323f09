"""One photograph's way from its file to its rank stays in few of our files."""

import sys
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch

import openanimals
from openanimals.config import load
from openanimals.data.build import load_sets
from openanimals.data.loaders import build_cache
from openanimals.engine.evaluate import evaluate
from openanimals.modeling import build_model
from tests.conftest import REPOSITORY

PACKAGE = str(Path(openanimals.__file__).parent)


def test_a_photograph_passes_few_files(tmp_path, herd_root):
    herd = "Animals-SyntheticHerd:identities=12,images=6,pixels=48"
    keys = ["DATASETS.ROOT", str(herd_root), "DATASETS.NAMES", herd, "MODEL.DEVICE", "cpu"]
    keys += ["INPUT.CACHE_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", 0]
    cfg = load(REPOSITORY / "configs/ARBase/demo.yml", keys)
    test_set = load_sets(cfg).tests[0]
    gallery = test_set.gallery.select([0])  # one query, and the one image that it looks for
    query = test_set.query.select([test_set.query.identities.index(gallery.identities[0])])
    tests = [replace(test_set, query=query, gallery=gallery)]
    model, device = build_model(cfg, 0).eval(), torch.device("cpu")
    cache = build_cache(cfg, device)  # cold
    calls: list[tuple[str, str]] = []

    def note(frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            calls.append((frame.f_code.co_filename, frame.f_code.co_name))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        evaluate(cfg, model, tests, device, cache=cache)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    read = next(n for n, (_, name) in enumerate(calls) if name == "read_image")
    ranked = max(n for n, (file, _) in enumerate(calls) if file.endswith("ranking.py"))
    files = [file for file, _ in calls[read : ranked + 1]]
    assert len(set(files)) <= 20
    assert sum(one != other for one, other in pairwise(files)) <= 100
