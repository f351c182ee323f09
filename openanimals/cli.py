"""The command line: ``openanimals <verb>``; the scripts in tools/ are doors to its verbs."""

import argparse
import os
import re
import sys
from collections.abc import Sequence

from openanimals.identification.commands import add_verbs
from openanimals.utils.errors import UserError
from openanimals.utils.logging import entry, set_up_logging, visible

NEEDED = ("yacs", "yaml", "torch", "torchvision", "numpy", "pandas", "PIL", "tqdm")
"""Packages without which no verb works: the wrong Python runs it."""
ACTIVATE = (
    "activate the environment of OpenAnimals (source .venv/bin/activate) or, if there is none, "
    "make it (make install)"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; what the user can mend ends in one message and exit status 2.

    Any other exception is passed on. Set the environment variable OPENANIMALS_TRACEBACK to see
    where the user's mistake was found.

    Args:
        arguments: what follows the program's name; None takes them from the system.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(arguments)
    set_up_logging(quiet=os.environ.get("RANK", "0") != "0")
    try:
        return options.run(options, arguments) or 0
    except UserError as error:
        if os.environ.get("OPENANIMALS_TRACEBACK"):
            raise
        print(entry(f"error: {error}"), file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        print(f"error: {sys.executable} has no {error.name}; {ACTIVATE}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # such as head, which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        resume = " with --resume" if options.run is _train and not options.eval_only else ""
        print(f"interrupted; to go on: the same command{resume}", file=sys.stderr)
        return 130  # what shells expect of a program that Ctrl-C ended
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what a command line asks for; options count also after KEY VALUE pairs."""
    options, pairs = build_parser().parse_args(arguments), []
    while "again" in options and (late := [o for o in options.opts if re.match("--.", o)]):
        first = options.opts.index(late[0])
        pairs += options.opts[:first]
        for action in options.again._actions:  # they were given the first time
            action.required = False
        options = options.again.parse_args(options.opts[first:], options)
    if pairs:
        options.opts = [*pairs, *options.opts]
    return options


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs; each sets ``run``, called with the options.

    Those with options beside KEY VALUE pairs set ``again``, which reads options from among these.
    """
    parser = argparse.ArgumentParser("openanimals", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    train = verbs.add_parser("train", help="train a model, or evaluate one (--eval-only)")
    _add_config_file(train, "may be left out with --eval-only")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    train.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    train.add_argument(
        "--for-identification",
        metavar="CSV",
        help="train on all known individuals of a catalogue, after a training without some, which "
        "tells how good it is; no --config-file needed",
    )
    train.add_argument(
        "--profile",
        type=int,
        default=0,
        metavar="N",
        help="trace N iterations into OUTPUT_DIR/trace.json.gz, for chrome://tracing or Perfetto",
    )
    train.add_argument("--num-gpus", type=int, default=1, help="processes on this machine")
    train.add_argument("--num-machines", type=int, default=1)
    train.add_argument("--machine-rank", type=int, default=0)
    train.add_argument("--dist-url", default="", help="tcp://host:port of machine 0")
    train.add_argument(
        "--max-restarts", type=int, default=0, help="times to go on after a process has failed"
    )
    train.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    train.set_defaults(run=_train, again=train)

    configs = verbs.add_parser("configs", help="list the config files that come with the package")
    configs.set_defaults(run=_configs)

    check = verbs.add_parser(
        "check", help="look for what is wrong with data sets; exit status 1 if there is"
    )
    _add_config_file(check, "all its data sets are checked")
    drawn = "draw some images of individuals"
    check.add_argument("--contact-sheet", metavar="FILE", default="", help=drawn)
    named = "Animals-<Class>, folder:DIR, csv:FILE, ...; overrides"
    check.add_argument("opts", nargs=argparse.REMAINDER, metavar="[NAME] KEY VALUE", help=named)
    check.set_defaults(run=_check, again=check)

    prepare = verbs.add_parser("prepare", help="download, unpack and verify a species")
    prepare.add_argument("name", metavar="NAME", help="for instance Animals-HyenaID2022")
    prepare.add_argument("--root", help="folder of the data sets; default: as DATASETS.ROOT")
    prepare.set_defaults(run=_prepare)

    convert = verbs.add_parser("convert", help="turn a checkpoint of FastReID into ours, or back")
    convert.add_argument("source", metavar="IN", help="a checkpoint; its names tell which way")
    convert.add_argument("target", metavar="OUT", help="the file to write; must not be there yet")
    _add_config_file(convert, "what the model was trained with")
    convert.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides")
    convert.set_defaults(run=_convert)

    rescore = verbs.add_parser("rescore", help="judge a finished run again, by other TEST keys")
    rescore.add_argument("folder", metavar="FOLDER", help="the run's output folder")
    rescore.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    rescore.set_defaults(run=_rescore)

    compare = verbs.add_parser("compare", help="test whether two models differ, query by query")
    compare.add_argument("first", metavar="A", help="output folder of a run, or a rankings file")
    compare.add_argument("second", metavar="B", help="the other model's")
    compare.set_defaults(run=_compare_runs)
    add_verbs(verbs)
    return parser


def _add_config_file(parser: argparse.ArgumentParser, remark: str) -> None:
    text = f"several are merged in order; {remark}"
    parser.add_argument("--config-file", metavar="YAML", action="append", default=[], help=text)


def _configs(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.config import shipped

    files = shipped()
    width = max(map(len, files))
    print("\n".join(f"{name:{width}}  {said}".rstrip() for name, said in files.items()))


def _train(options: argparse.Namespace, arguments: list[str]) -> None:
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if launched:
        from openanimals.engine.launch import end_with_launcher

        end_with_launcher()
    from openanimals.config import load
    from openanimals.engine import train as run
    from openanimals.engine.loading import config_from_checkpoint
    from openanimals.utils import distributed

    if options.eval_only and options.profile:
        raise UserError("--profile traces iterations of a training, and --eval-only has none")
    opts = options.opts
    if options.for_identification:
        _train_for_identification(options)
        return
    weights = dict(zip(opts[::2], opts[1::2], strict=False)).get("MODEL.WEIGHTS")
    if options.eval_only and "DATASETS.NAMES" in opts[::2]:  # to evaluate on, what else
        opts = ["DATASETS.TESTS", (), *opts]
    if options.eval_only and weights and not options.config_file:
        cfg = config_from_checkpoint(weights, opts)
    elif options.config_file or opts:
        cfg = load(options.config_file, opts)
    else:
        raise UserError("nothing named to train on: --config-file configs/ARBase/demo.yml, say")

    if options.num_gpus * options.num_machines > 1 and not launched:
        from openanimals.engine.launch import launch

        launch(
            arguments,
            options.num_gpus,
            options.num_machines,
            options.machine_rank,
            options.dist_url,
            options.max_restarts,
        )
        return

    def work() -> None:
        if options.eval_only:
            run.evaluate_only(cfg)
        else:
            resume = options.resume or distributed.restarted()
            run.train(cfg, resume=resume, profile=options.profile)

    if launched:  # tell torchrun if it fails, and why
        from torch.distributed.elastic.multiprocessing.errors import record

        work = record(work)
    work()


def _train_for_identification(options: argparse.Namespace) -> None:
    from openanimals.identification.training import train_for_identification

    if options.eval_only or options.profile or options.num_gpus * options.num_machines > 1:
        raise UserError(
            "--for-identification trains in one process, without --eval-only or --profile"
        )
    found = train_for_identification(
        options.for_identification, options.config_file, options.opts, resume=options.resume
    )
    print(visible(found, keep="\n"))


def _check(options: argparse.Namespace, arguments: list[str]) -> int:
    from openanimals.config import load
    from openanimals.engine.check import check

    opts = options.opts
    if len(opts) % 2:  # a name stands before the pairs
        opts = ["DATASETS.NAMES", (opts[0],), "DATASETS.TESTS", (), *opts[1:]]
    if not opts and not options.config_file:
        raise UserError("nothing named to check: folder:my_photos, say, or --config-file my.yml")
    report, faults = check(load(options.config_file, opts), options.contact_sheet)
    print(visible(report, keep="\n"))
    return 1 if faults else 0


def _prepare(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.engine.check import prepare_data

    prepare_data(options.name, options.root)


def _convert(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.engine.convert import convert

    print(convert(options.source, options.target, options.config_file, options.opts))


def _rescore(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.engine.rescore import rescore

    rescore(options.folder, options.opts)


def _compare_runs(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.engine.rescore import comparison

    print(comparison(options.first, options.second))


if __name__ == "__main__":
    sys.exit(main())
