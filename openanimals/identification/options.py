"""Options that several verbs of identification have, and what becomes of them."""

import argparse
from typing import Any


def add_rates(parser: argparse.ArgumentParser) -> None:
    """Add what a decision of the program depends on."""
    parser.add_argument(
        "--wrong-names",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="of all encounters, at most so many may get a wrong name (default: 0.01)",
    )
    parser.add_argument(
        "--known",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="of the encounters that you expect to show an animal of the catalogue (default: 0.5)",
    )


def add_matcher(parser: argparse.ArgumentParser) -> None:
    """Add what photographs are compared by."""
    parser.add_argument("--model", help="folder of a run, a checkpoint or a YAML file")
    parser.add_argument(
        "--matcher",
        default="",
        help="local (spots and stripes, needs no model), cosine (a model's features) or fusion "
        "(both); default: fusion with a model, else local",
    )
    parser.add_argument("--backend", default="auto", help="auto, torch, onnx or openvino")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument(
        "--gap", type=float, default=60, help="minutes between two encounters (default: 60)"
    )
    parser.add_argument(
        "--one-by-one", action="store_true", help="do not put an encounter's photographs together"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")


def settings(options: argparse.Namespace) -> Any:
    """Return the settings that the options say; the usual rates where a verb has none."""
    from openanimals.identification.learning import Settings

    rates = {
        name: value for name, value in vars(options).items() if name in ("wrong_names", "known")
    }
    return Settings(**rates, gap=options.gap, pooled=not options.one_by_one)


def matcher(options: argparse.Namespace) -> dict:
    """Return what :func:`.build_matchers` takes."""
    return {
        "matcher": options.matcher,
        "model": options.model,
        "backend": options.backend,
        "device": options.device,
        "overrides": options.opts,
    }
