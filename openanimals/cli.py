"""The command line: ``openanimals <verb>``; the scripts in tools/ are doors to its verbs."""

import argparse
import os
import sys
from collections.abc import Sequence

from openanimals.utils.logging import set_up_logging


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; a mistake of the user's ends in one message and exit status 2.

    Set the environment variable OPENANIMALS_TRACEBACK to see where it was raised.

    Args:
        arguments: what follows the program's name; None takes them from the system.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = build_parser().parse_args(arguments)
    set_up_logging(quiet=os.environ.get("RANK", "0") != "0")
    try:
        options.run(options, arguments)
    except (ValueError, ArithmeticError, OSError) as error:
        if os.environ.get("OPENANIMALS_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        resume = " with --resume" if options.run is _train and not options.eval_only else ""
        print(f"interrupted; to go on: the same command{resume}", file=sys.stderr)
        return 130  # what shells expect of a program that Ctrl-C ended
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs; each sets ``run``, called with the options."""
    parser = argparse.ArgumentParser("openanimals", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_train(verbs)
    _add_check(verbs)
    _add_prepare(verbs)
    return parser


def _add_train(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("train", help="train a model, or evaluate one (--eval-only)")
    parser.add_argument("--config-file", metavar="YAML", help="may be left out with --eval-only")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes on this machine")
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0)
    parser.add_argument("--dist-url", default="", help="tcp://host:port of machine 0")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.config import load
    from openanimals.engine import run

    weights = dict(zip(options.opts[::2], options.opts[1::2], strict=False)).get("MODEL.WEIGHTS")
    if options.eval_only and weights and not options.config_file:
        cfg = run.config_from_checkpoint(weights, options.opts)
    elif options.config_file or options.opts:
        cfg = load(options.config_file, options.opts)
    else:
        raise ValueError("nothing named to train on: --config-file configs/ARBase/demo.yml, say")

    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if options.num_gpus * options.num_machines > 1 and not launched:
        from openanimals.engine.launch import launch

        launch(
            arguments,
            options.num_gpus,
            options.num_machines,
            options.machine_rank,
            options.dist_url,
        )
        return
    if options.eval_only:
        run.evaluate_only(cfg)
    else:
        run.train(cfg, resume=options.resume)


def _add_check(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("check", help="look for what is wrong with a data set")
    parser.add_argument("name", metavar="NAME", help="Animals-<Class>, folder:DIR, csv:FILE, ...")
    parser.add_argument(
        "--contact-sheet", metavar="FILE", default="", help="draw some images of individuals"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.config import load
    from openanimals.engine.inspection import inspect

    cfg = load(None, ["DATASETS.NAMES", (options.name,), *options.opts])
    print(inspect(cfg, options.contact_sheet))


def _add_prepare(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("prepare", help="download, unpack and verify a species")
    parser.add_argument("name", metavar="NAME", help="for instance Animals-HyenaID2022")
    parser.add_argument("--root", help="folder of the data sets; default: as DATASETS.ROOT")
    parser.set_defaults(run=_prepare)


def _prepare(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.config import load
    from openanimals.data.download import prepare
    from openanimals.data.sets import data_root

    prepare(options.name, options.root or data_root(load()))


if __name__ == "__main__":
    sys.exit(main())
