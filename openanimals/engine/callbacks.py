"""What is done at the end of an epoch: evaluate, keep the best, save."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from logging import getLogger

from openanimals.config import CfgNode
from openanimals.data.build import Sets
from openanimals.engine import checkpoint
from openanimals.engine.checkpoint import RunFolder
from openanimals.engine.device import place
from openanimals.engine.evaluate import RESULTS_BEFORE, evaluate, write_results
from openanimals.engine.precise_bn import update_statistics
from openanimals.engine.trainer import Trainer
from openanimals.evaluation import Result
from openanimals.utils import distributed
from openanimals.utils.registry import Registry

logger = getLogger(__name__)

CALLBACK_REGISTRY: Registry[Callable[[CfgNode], Callable[[Trainer], None]]] = Registry("callback")
"""Functions ``f(cfg) -> callback`` by the names in the key ``CALLBACKS``.

A callback is called with the trainer at the end of each epoch, after the evaluation, before the
checkpoint is written.
"""


class EvaluateBefore:
    """Evaluates the network as it was before training, if TEST.BEFORE_TRAINING says so.

    After the first epoch, from a copy that is taken here, before the first step: so training begins
    at once, and a run that is killed before its first save begins anew and does this anew.
    """

    def __init__(self, trainer: Trainer, sets: Sets, folder: RunFolder) -> None:
        self.sets, self.folder = sets, folder
        self.model = None
        if not trainer.cfg.TEST.BEFORE_TRAINING:
            return
        if trainer.iteration == 0:
            self.model = deepcopy(trainer.model).cpu()  # the first epoch needs the device's memory
        elif distributed.is_main() and not (folder.path / RESULTS_BEFORE).exists():
            logger.warning(
                "TEST.BEFORE_TRAINING: the network before training was not evaluated when it could "
                "be, after the first epoch; the results go without it"
            )

    def __call__(self, trainer: Trainer) -> None:
        """Evaluate, the first time."""
        if self.model is None:
            return
        model, self.model = place(self.model, trainer.device), None
        results = evaluate(trainer.cfg, model, self.sets.tests, trainer.device, cache=trainer.cache)
        if distributed.is_main():
            write_results(self.folder.path, results, RESULTS_BEFORE)
        for name, result in results.items():
            logger.info(
                "%s before training: Rank-1 %.2f, mAP %.2f", name, result.rank(1), result.mAP
            )


class Evaluate:
    """Evaluates every EVAL_PERIOD epochs and after the last, and keeps the best weights.

    The best are chosen by mAP on the validation identities if some are held out
    (DATASETS.VAL_FRACTION), else on the test sets; model_best.pth says which. Only results by
    TEST.PROTOCOL are looked at.

    Attributes:
        final: results on the test sets after the last epoch, None before.
    """

    def __init__(self, cfg: CfgNode, sets: Sets, folder: RunFolder) -> None:
        self.cfg, self.sets, self.folder = cfg, sets, folder
        self.final: dict[str, Result] | None = None

    def __call__(self, trainer: Trainer) -> None:
        """Evaluate if it is time to."""
        last = trainer.epoch == trainer.schedule.max_epoch
        period = self.cfg.TEST.EVAL_PERIOD
        if not last and (period <= 0 or trainer.epoch % period):
            return
        if self.cfg.TEST.PRECISE_BN.ENABLED:
            update_statistics(trainer)
        validation, results = self.sets.validation, {}
        judge = partial(evaluate, self.cfg, trainer.model, device=trainer.device)
        if validation:
            results = judge([validation], extras=False, cache=trainer.cache)
        tested = {}
        if last or not validation:
            folder = self.folder.path if last else None
            found = judge(self.sets.tests, extras=last, folder=folder, cache=trainer.cache)
            tested = {test_set.name: found[test_set.name] for test_set in self.sets.tests}
            results = results or tested
            if last:
                self.final = found
        self._log(trainer, {**results, **tested})
        mean = sum(result.mAP for result in results.values()) / len(results)
        if mean > trainer.best_map:
            trainer.best_map = mean
            if distributed.is_main():
                content = {
                    "model": trainer.model.state_dict(),
                    "config": trainer.cfg.dump(),
                    "identities": trainer.train_set.identities,
                    "iteration": trainer.iteration,
                    "mAP": mean,
                    "selected_on": "validation" if validation else "test",
                }
                self.folder.save(checkpoint.BEST, content, resumable=False)

    def _log(self, trainer: Trainer, results: dict[str, Result]) -> None:
        scalars = {}
        for name, result in results.items():
            scalars |= {f"{name}/Rank-1": result.rank(1), f"{name}/mAP": result.mAP}
            scalars[f"{name}/mINP"] = result.mINP
            logger.info(
                "epoch %d  %s: Rank-1 %.2f, mAP %.2f",
                trainer.epoch - 1,
                name,
                result.rank(1),
                result.mAP,
            )
        trainer.writers.write(trainer.iteration - 1, scalars)


class Save:
    """Writes a rolling last checkpoint, one to keep every CHECKPOINT_PERIOD epochs, the final."""

    def __init__(self, cfg: CfgNode, folder: RunFolder) -> None:
        self.period, self.folder = cfg.SOLVER.CHECKPOINT_PERIOD, folder

    def __call__(self, trainer: Trainer) -> None:
        """Save under the name that is due."""
        if not distributed.is_main():
            return
        if trainer.epoch == trainer.schedule.max_epoch:
            name = checkpoint.FINAL
        elif trainer.epoch % self.period == 0:
            name = f"model_{trainer.epoch - 1:04d}.pth"
        else:
            name = checkpoint.LAST
        self.folder.save(name, trainer.state())
        if name == checkpoint.FINAL:
            (self.folder.path / checkpoint.LAST).unlink(missing_ok=True)
