"""The verbs of the command line that go from photographs to names."""

import argparse
from pathlib import Path
from typing import Any

from openanimals.utils.errors import UserError
from openanimals.utils.logging import visible


def add_verbs(verbs: argparse._SubParsersAction) -> None:
    """Add the verbs; each sets ``run``, called with the options."""
    for add in (
        *(_add_import, _add_identify, _add_discover, _add_review, _add_catalogue),
        *(_add_captures, _add_evaluate, _add_explain, _add_export),
    ):
        add(verbs)


def _without_run(options: argparse.Namespace) -> dict:
    return {name: value for name, value in vars(options).items() if name != "run"}


def _tell(text: str) -> None:
    print(visible(text, keep="\n"))


def _add_import(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("import", help="make a catalogue of folders or tables of photographs")
    parser.add_argument("source", metavar="SOURCE", help="a folder, a CSV or xlsx, a Camtrap DP")
    parser.add_argument("--to", required=True, metavar="CSV", help="the catalogue to write")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="which column of a table is which, such as identity=Name; others are guessed",
    )
    parser.add_argument("--detections", metavar="JSON", help="what MegaDetector has found")
    parser.add_argument("--confidence", type=float, default=0.2, help="of a detection, at least")
    parser.add_argument("--stations", metavar="CSV", help="table of the stations")
    _add_day_order(parser)
    parser.add_argument("--flat", action="store_true", help="folders are not individuals")
    parser.add_argument("--boxes", choices=("pixels", "relative", "corners"), help="form of boxes")
    parser.add_argument("--zone", help="times that say their zone become those of this one")
    parser.set_defaults(run=_import)


def _add_day_order(parser: argparse.ArgumentParser) -> None:
    order = parser.add_mutually_exclusive_group()
    for name, value in (("--day-first", True), ("--month-first", False)):
        order.add_argument(name, dest="day_first", action="store_const", const=value)


def _import(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.identification.importing import import_catalogue

    for text in options.column:
        if "=" not in text:
            raise UserError(
                f"--column {text}: expected two names with = between, like identity=Name"
            )
    how = _without_run(options)
    to, columns = how.pop("to"), dict(text.split("=", 1) for text in how.pop("column"))
    found = import_catalogue(**how, columns=columns or None)
    found.write(to)
    _tell("\n".join([*found.report, f"written: {to}"]))


def _add_identify(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("identify", help="say who new photographs show, how sure, or new")
    parser.add_argument("--catalogue", required=True, metavar="CSV", help="of known individuals")
    parser.add_argument(
        "--new",
        metavar="CSV|FOLDER",
        help="photographs to identify; default: those of the catalogue without a name",
    )
    parser.add_argument("--to", default="matches", metavar="FOLDER", help="default: matches")
    for name, text in (
        ("camera", "only animals that were met by these cameras, and photographs by them"),
        ("species", "only these species"),
        ("viewpoint", "only photographs of this viewpoint: left or right"),
    ):
        parser.add_argument(f"--{name}", action="append", default=[], help=text)
    parser.add_argument("--no-page", action="store_true", help="write no page with pictures")
    _add_rates(parser)
    _add_matcher(parser)
    parser.set_defaults(run=_identify, again=parser)


def _identify(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.identification.run import identify_files

    only = {name: getattr(options, name) for name in ("camera", "species", "viewpoint")}
    _tell(
        identify_files(
            Path(options.catalogue),
            options.new,
            Path(options.to),
            _settings(options),
            only={name: values for name, values in only.items() if values},
            page=not options.no_page,
            **_matcher(options),
        )
    )


def _add_review(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("review", help="look at what is in doubt, on a page in the browser")
    parser.add_argument("--catalogue", required=True, metavar="CSV", help="a catalogue")
    parser.add_argument("--matches", default="matches", metavar="FOLDER", help="default: matches")
    parser.add_argument("--by", required=True, metavar="YOU", help="who decides")
    parser.add_argument("--port", type=int, help="of the page's address; default: any that is free")
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", help="only print the address"
    )
    parser.set_defaults(run=_review)


def _review(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.identification.review.serve import review

    review(**_without_run(options))


def _add_discover(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("discover", help="group photographs of unknown animals by animal")
    parser.add_argument("--catalogue", required=True, metavar="CSV", help="with unknown animals")
    parser.add_argument("--new", metavar="CSV|FOLDER", help="further photographs without a name")
    parser.add_argument(
        "--learn-from",
        metavar="CSV",
        help="another catalogue of the species, with names, if this one has few",
    )
    parser.add_argument("--to", default="matches", metavar="FOLDER", help="default: matches")
    parser.add_argument(
        "--how-many",
        action="store_true",
        help="compare nothing; tell from groups and decisions how many individuals there are",
    )
    _add_matcher(parser)
    parser.set_defaults(run=_discover, again=parser)


def _discover(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.identification.discovery.run import discover_files, how_many

    catalogue, to = Path(options.catalogue), Path(options.to)
    if options.how_many:
        _tell(how_many(catalogue, to))
        return
    more = {"learn_from": options.learn_from, **_matcher(options)}
    _tell(discover_files(catalogue, options.new, to, _settings(options), **more))


def _add_evaluate(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "evaluate-identification", help="try an identification where all individuals are known"
    )
    parser.add_argument("--catalogue", required=True, metavar="CSV", help="a catalogue")
    parser.add_argument("--new", metavar="CSV", help="photographs to identify, with their names")
    parser.add_argument(
        "--individuals",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="sizes of catalogues that are drawn from the individuals; the others are strangers",
    )
    parser.add_argument("--seeds", type=int, default=1, help="catalogues drawn of each size")
    parser.add_argument("--to", metavar="JSON", help="write all figures into this file")
    _add_rates(parser)
    _add_matcher(parser)
    parser.set_defaults(run=_evaluate, again=parser)


def _evaluate(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.identification.evaluation import evaluate_files
    from openanimals.utils.files import write_json

    more = {"individuals": options.individuals, "seeds": options.seeds, **_matcher(options)}
    found, text = evaluate_files(Path(options.catalogue), options.new, _settings(options), **more)
    if options.to:
        write_json(options.to, found)
    _tell(text)


def _add_rates(parser: argparse.ArgumentParser) -> None:
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


def _add_matcher(parser: argparse.ArgumentParser) -> None:
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


def _settings(options: argparse.Namespace) -> Any:
    from openanimals.identification.learning import Settings

    rates = {name: vars(options)[name] for name in ("wrong_names", "known") if name in options}
    return Settings(**rates, gap=options.gap, pooled=not options.one_by_one)


def _matcher(options: argparse.Namespace) -> dict:
    """Return what :func:`.build_matchers` takes."""
    own = {name: vars(options)[name] for name in ("matcher", "model", "backend", "device")}
    return {**own, "overrides": options.opts}


def _add_catalogue(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("catalogue", help="who is who: corrections, conflicts, exports")
    parser.add_argument("catalogue", metavar="CSV", help="a catalogue")
    parser.add_argument(
        "--by", default="", metavar="YOU", help="who decides, or fills in a package"
    )
    parser.add_argument("--add", metavar="FOLDER|CSV", help="put new photographs into the file")
    parser.add_argument(
        "--accept", action="store_true", help="with --apply: what was proposed and not corrected"
    )
    parser.add_argument("--apply", metavar="FILE", help="a matches.csv or .xlsx that was reviewed")
    parser.add_argument(
        "--new-name", action="append", default=[], metavar="NAME", help="right, though near another"
    )
    parser.add_argument("--merge", nargs=2, metavar="NAME", help="two names of one individual")
    parser.add_argument("--rename", nargs=2, metavar="NAME", help="a name, and the new one")
    parser.add_argument(
        "--split", nargs="+", metavar="NAME PHOTOGRAPH", help="these photographs do not show NAME"
    )
    parser.add_argument("--undo", type=int, metavar="N", help="take decision N back")
    parser.add_argument("--history", metavar="NAME", help="show the decisions about an individual")
    parser.add_argument(
        "--export",
        choices=("csv", "wildbook", "camtrap-dp", "coco"),
        help="write the catalogue as it is after all decisions",
    )
    parser.add_argument("--to", metavar="PATH", help="file or folder of the export")
    parser.add_argument("--submitter", default="", help="your user name at Wildbook")
    parser.add_argument("--location", help="Wildbook's locationID, if not the camera")
    parser.add_argument("--species", help='genus and epithet for Wildbook, such as "Panthera onca"')
    parser.add_argument("--package", help="datapackage.json of Camtrap DP to fill names into")
    parser.add_argument("--copies", action="store_true", help="copy photographs for Wildbook, too")
    parser.add_argument("--decimals", type=int, help="round coordinates to so many decimals")
    parser.set_defaults(run=_catalogue)


def _catalogue(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.identification.desk import tend

    _tell(tend(**_without_run(options)))


def _add_captures(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("captures", help="write a capture history")
    parser.add_argument("catalogue", metavar="CSV", help="a catalogue")
    parser.add_argument("--stations", metavar="CSV", help="when each camera worked, and where")
    parser.add_argument("--days", type=int, default=1, help="of an occasion (default: 1)")
    parser.add_argument("--start", metavar="DAY", help="of the first occasion")
    parser.add_argument("--end", metavar="DAY", help="the last day")
    parser.add_argument(
        "--viewpoints",
        choices=("linked", "left", "right", "both"),
        default="linked",
        help="all photographs of a name, those from the left or right only, or of animals known "
        "from both (default: linked)",
    )
    parser.add_argument(
        "--clock",
        action="append",
        default=[],
        metavar="STATION=OFFSET",
        help="to be added to the time of a camera whose clock was wrong, such as A=+1h",
    )
    _add_day_order(parser)
    parser.add_argument(
        "--format",
        action="append",
        default=[],
        choices=("table", "mark", "rmark", "secr", "oscr"),
        help="may be given more than once (default: table)",
    )
    parser.add_argument("--to", default="captures", metavar="FOLDER", help="default: captures")
    parser.add_argument("--decimals", type=int, help="round coordinates")
    parser.set_defaults(run=_captures)


def _captures(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.identification.desk import write_history

    _tell(write_history(**_without_run(options)))


def _add_explain(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("explain", help="draw what two photographs have in common")
    parser.add_argument("photographs", nargs=2, metavar="PHOTOGRAPH", help="files")
    parser.add_argument(
        "--catalogue", metavar="CSV", help="of which these are; boxes and masks then count"
    )
    parser.add_argument("--model", help="folder of a run, a checkpoint or a YAML file")
    parser.add_argument("--to", default="explain", metavar="FOLDER", help="default: explain")
    parser.set_defaults(run=_explain)


def _explain(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.identification.explain import explain

    _tell(explain(**_without_run(options)))


def _add_export(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("export", help="write a model as ONNX and safetensors")
    parser.add_argument("model", metavar="RUN", help="folder of a run, a checkpoint or a YAML file")
    parser.add_argument("--to", metavar="FOLDER", help="default: export, in the run's folder")
    parser.add_argument("--licence", default="", help="of the weights, such as cc-by-4.0")
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace, arguments: list[str]) -> None:
    from openanimals.engine.predictor import Predictor

    source = Path(options.model)
    folder = options.to or (source if source.is_dir() else source.parent) / "export"
    print(*Predictor(options.model, device="cpu").export(folder, options.licence), sep="\n")
