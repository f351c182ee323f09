"""What the command line asks for: train a model, or evaluate one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from logging import getLogger
from pathlib import Path
from typing import Any

import torch

from openanimals.config import CfgNode, ConfigError, load, load_text, without_pretraining
from openanimals.data.build import Sets
from openanimals.data.loaders import build_cache
from openanimals.data.splits.io import write_split
from openanimals.data.validate import unmatched
from openanimals.engine import profiling, training_state
from openanimals.engine.callbacks import CALLBACK_REGISTRY, Evaluate, EvaluateBefore, Save
from openanimals.engine.checkpoint import CheckpointError, RunFolder
from openanimals.engine.device import describe_environment, place, room_to_train
from openanimals.engine.evaluate import (
    RESULTS_BEFORE,
    draw_results,
    show_results,
    write_results,
)
from openanimals.engine.loading import load_weights, match
from openanimals.engine.matchers import FEATURES, ShowSpots, uses_features
from openanimals.engine.matching import evaluate_sets
from openanimals.engine.preflight import (
    check_same_weights,
    joined,
    prepare,
    warn_of_batches,
    warn_of_schedule,
)
from openanimals.engine.seen import mark_seen, trained_by
from openanimals.engine.trainer import TRAINER_REGISTRY, Trainer
from openanimals.engine.writers import Writers
from openanimals.evaluation import Result
from openanimals.evaluation.build import TRAINED, protocol_notes
from openanimals.modeling import build_model
from openanimals.utils import distributed
from openanimals.utils.files import remove_leftovers, write_text
from openanimals.utils.logging import set_up_logging, table

logger = getLogger(__name__)

OWN = ("IMPORTS", "OUTPUT_DIR", "INPUT.CACHE_DIR", "MODEL.BACKBONE.NAME")  # not a checkpoint's


def train(
    config: CfgNode | str | Path | Sequence[str | Path],
    overrides: Sequence[Any] = (),
    *,
    resume: bool = False,
    profile: int = 0,
) -> dict[str, Result]:
    """Train as a configuration says, and evaluate the final model.

    Args:
        config: a checked configuration, or the YAML file of one, or several, merged in order.
        overrides: ``[KEY, VALUE, ...]``, merged after the files.
        resume: go on from the output folder's last checkpoint, if it has one.
        profile: iterations to trace, into the output folder.

    Returns:
        The result of each test set.

    Raises:
        UserError: a mistake in the configuration, data or checkpoint; nothing is written then.

    Example:
        >>> results = openanimals.train("configs/ARBase/demo.yml", ["SOLVER.MAX_EPOCH", 1])
        >>> results["Animals-SyntheticHerd"].mAP
    """
    cfg = config if isinstance(config, CfgNode) and not overrides else _load(config, overrides)
    folder = RunFolder(cfg.OUTPUT_DIR)
    if not resume:
        folder.refuse_if_used()
    device, sets = prepare(cfg, training=True)
    mark_seen(sets, [sets.train.images] if sets.train else [])
    with joined(cfg, sets, device, resume), distributed.alone_in(folder.path):
        if not resume:
            folder.refuse_if_used()  # by a run that has ended since
        latest = _latest(folder) if resume else None
        if distributed.is_main():
            remove_leftovers(folder.path)
        _start_log(folder.path)
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
        replaced = latest is not None or bool(cfg.MODEL.WEIGHTS)
        cache = build_cache(cfg, device)
        trainer_class = TRAINER_REGISTRY.get(cfg.TRAINER)
        trainer = trainer_class(cfg, sets.train, device, pretrained=not replaced, cache=cache)
        if cfg.MODEL.WEIGHTS and latest is None:
            load_weights(cfg, trainer.model, cfg.MODEL.WEIGHTS, sets.train.identities)
        if latest is not None:
            _resume(trainer, latest)
            check_same_weights(trainer.model)
        profiling.check_steps(profile, trainer.schedule.max_iter - trainer.iteration)
        if distributed.is_main():
            _introduce(cfg, trainer, sets)
        results, spots = None, {}
        if trainer.iteration < trainer.schedule.max_iter:
            results = _fit(cfg, trainer, sets, folder, profile)
        if results is None or cfg.TEST.MATCHER != FEATURES:
            results, spots = evaluate_sets(cfg, trainer.model, sets, device, folder.path, cache)
        before = folder.path / RESULTS_BEFORE
        results = _report(folder.path, results, sets, spots, before=before)
        if distributed.is_main():
            warn_of_schedule(trainer)
        return results


def evaluate_only(cfg: CfgNode) -> dict[str, Result]:
    """Evaluate MODEL.WEIGHTS (or, without, the pre-trained backbone) on DATASETS.TESTS."""
    problems = []
    has_model = uses_features(cfg)
    if has_model and not (cfg.MODEL.WEIGHTS or cfg.MODEL.BACKBONE.PRETRAIN):
        problems.append(
            "nothing to evaluate: set MODEL.WEIGHTS to a checkpoint (or MODEL.BACKBONE.PRETRAIN "
            "True, to evaluate the pre-trained backbone as it is)"
        )
    if cfg.TEST.PRECISE_BN.ENABLED:
        problems.append(
            "TEST.PRECISE_BN.ENABLED is True, but its statistics are taken from training images, "
            "and an evaluation has none: set it to False (a model trained with it has them)"
        )
    device, sets = prepare(cfg, training=False, problems=problems)
    mark_seen(sets, trained_by(cfg, sets))
    folder = RunFolder(cfg.OUTPUT_DIR)
    with joined(cfg, sets, device), _own_folder(cfg, folder) as own:
        _start_log(folder.path)
        if cfg.MODEL.WEIGHTS:
            cfg = without_pretraining(cfg)
        model = build_model(cfg, num_classes=0) if has_model else None
        if model is not None and cfg.MODEL.WEIGHTS:
            load_weights(cfg, model, cfg.MODEL.WEIGHTS)
        if model is not None:
            check_same_weights(model)
        if distributed.is_main():
            logger.info(describe_environment(cfg, device))
            _introduce_data(cfg, sets)
        cache = build_cache(cfg, device, build=False)
        placed = model and place(model, device)
        results, spots = evaluate_sets(cfg, placed, sets, device, own, cache)
        if distributed.is_main():
            write_text(own / "config.yaml", cfg.dump())
        return _report(own, results, sets, spots)


@contextmanager
def _own_folder(cfg: CfgNode, run: RunFolder) -> Iterator[Path]:
    """Yield where an evaluation alone may write; what a run reports, or will report, stays."""
    own = run.path / f"eval_{Path(cfg.MODEL.WEIGHTS).stem or 'pretrained'}"
    with ExitStack() as stack:
        place = own if distributed.from_main(run.latest) else run.path
        try:
            stack.enter_context(distributed.alone_in(place))
        except distributed.InUseError:
            if place == own:
                raise
            place = own  # the run goes on and has no checkpoint yet
            stack.enter_context(distributed.alone_in(place))
        yield place


def _load(config: CfgNode | str | Path | Sequence[str | Path], overrides: Sequence[Any]) -> CfgNode:
    if isinstance(config, CfgNode):
        return load_text(config.dump(), overrides, where="the configuration")
    return load(config, overrides)


def _start_log(folder: Path) -> None:
    try:
        set_up_logging(folder / "log.txt", quiet=not distributed.is_main())
    except OSError as error:
        raise ConfigError([f"OUTPUT_DIR cannot be written: {error}"]) from error


def _introduce(cfg: CfgNode, trainer: Trainer, sets: Sets) -> None:
    """Log what the run is made of, and write its configuration and splits beside it."""
    logger.info(describe_environment(cfg, trainer.device))
    _introduce_data(cfg, sets)
    warn_of_batches(cfg, sets.train)
    parameters = sum(p.numel() for p in trainer.model.parameters())
    logger.info("model: %.2f M parameters, output in %s", parameters / 1e6, cfg.OUTPUT_DIR)
    for line in trainer.schedule.describe(cfg.SOLVER.BASE_LR):
        logger.info("schedule: %s", line)
    warn_of_schedule(trainer)
    folder = RunFolder(cfg.OUTPUT_DIR).path
    write_text(folder / "config.yaml", cfg.dump())
    for number, (catalogue, split) in enumerate(sets.splits.values()):
        suffix = f"_{number}" if number else ""
        write_split(folder / f"split{suffix}.json", catalogue, split)
    if sets.held_out:
        write_split(folder / "split_validation.json", *sets.held_out)


def _introduce_data(cfg: CfgNode, sets: Sets) -> None:
    """Log the table of images, and count those that are of no use."""
    logger.info("data\n%s", table(sets.table()))
    for name, dropped in sets.dropped.items():
        if dropped:
            message = "%s: %d rows dropped; their box is empty, outside of the image or far larger"
            logger.warning(message, name, dropped)
    if sets.lacking:
        message = "training images cannot be read, others stand in for them: %s"
        logger.warning(message, sets.lacking)
    if copies := sets.copies():
        logger.warning(copies)
    for test_set in sets.tests:
        nobody, camera = unmatched(test_set.query, test_set.gallery)
        for count, where in ((nobody, "in the gallery"), (camera, "there by another camera")):
            if count:
                message = "%s: %d queries have no image of their individual %s and are left out"
                logger.warning(message, test_set.name, count, where)
        if seen := sum(test_set.query.table.get(TRAINED, [])):
            message = "%s: %d of %d queries show photographs that are trained on; results mark it"
            logger.warning(message, test_set.name, seen, len(test_set.query))
        images = test_set.query.table, test_set.gallery.table
        for note in protocol_notes(cfg, test_set.name, images):
            logger.info("note: %s", note)


def _latest(folder: RunFolder) -> Path | None:
    """Return the checkpoint to resume from; every process must see the same one."""
    latest = folder.latest()
    names = {path and path.name for path in distributed.gather(latest)}
    if len(names) > 1:
        raise CheckpointError(
            f"the processes see different checkpoints in {folder.path}: "
            f"{', '.join(map(str, names))}. OUTPUT_DIR must be a folder that all machines share"
        )
    return latest


def _resume(trainer: Trainer, latest: Path) -> None:
    content = training_state.read(latest)
    trainer.check_identities(content)
    match(trainer.cfg, trainer.model, content["model"], latest)
    ours = dict(trainer.cfg.keys_and_values())
    own = [part for key in OWN for part in (key, ours[key])]
    began = load_text(content["config"], own, where=str(latest), trusted=False)
    if began.SOLVER.OPT != trainer.cfg.SOLVER.OPT:
        raise CheckpointError(
            f"{latest} was trained by {began.SOLVER.OPT}, so SOLVER.OPT {trainer.cfg.SOLVER.OPT} "
            "cannot go on from it; give it as MODEL.WEIGHTS instead"
        )
    recorded = dict(began.keys_and_values())
    changed = [
        f"{key} ({recorded[key]!r} -> {value!r})"
        for key, value in ours.items()
        if key in recorded and recorded[key] != value
    ]
    trainer.resume(content)
    logger.info("resumed from %s at iteration %d", latest, trainer.iteration)
    if changed and distributed.is_main():
        logger.warning("keys that changed since then: %s", ", ".join(changed))


def _fit(
    cfg: CfgNode, trainer: Trainer, sets: Sets, folder: RunFolder, profile: int
) -> dict[str, Result] | None:
    """Train, evaluating and saving at the ends of epochs; return the final results."""
    added = [CALLBACK_REGISTRY.get(name)(cfg) for name in cfg.CALLBACKS]
    writers = Writers(cfg, folder.path, trainer.iteration, trainer.schedule)
    before, evaluation = EvaluateBefore(trainer, sets, folder), Evaluate(cfg, sets, folder)
    save = Save(cfg, folder)

    def end_epoch(trainer: Trainer) -> None:
        try:
            before(trainer)
            evaluation(trainer)
            for callback in added:
                callback(trainer)
        except Exception:  # such as a test image that cannot be read; it must not cost the weights
            save(trainer)
            raise
        save(trainer)

    trainer.after_epoch = [end_epoch]
    traced = profile if distributed.is_main() else 0
    try:
        with room_to_train(cfg), profiling.tracing(traced, folder.path) as trainer.after_step:
            trainer.run(writers)
    finally:
        writers.close()
    return evaluation.final


def _report(
    folder: Path,
    results: dict[str, Result],
    sets: Sets,
    spots: Mapping[str, ShowSpots],
    before: Path | None = None,
) -> dict[str, Result]:
    """Write and show results, and draw them."""
    if distributed.is_main():
        write_results(folder, results)
        draw_results(folder, results, sets.tests, spots)
        show_results(results, before)
    distributed.barrier()
    return results
