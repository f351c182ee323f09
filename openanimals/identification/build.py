"""From what a command line names to matchers; the one place here that knows configurations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openanimals.config import load
from openanimals.engine.matchers import FEATURES, FUSED, LOCAL, single_matcher
from openanimals.engine.predictor import Predictor
from openanimals.identification.kept_features import KeptFeatures
from openanimals.matching.matcher import MATCHER_REGISTRY, Matcher
from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean


def build_matchers(
    matcher: str,
    model: str | Path | None,
    catalogue: Path,
    *,
    device: str = "auto",
    backend: str = "auto",
    overrides: Sequence[Any] = (),
) -> tuple[dict[str, Matcher], str]:
    """Return the matchers that identify, by name, and what tells them from others.

    Args:
        matcher: ``"local"`` (spots and stripes, without training), ``"cosine"`` (a network's
            features), ``"fusion"`` (both), or a registered one; "": fusion if there is a model,
            else local.
        model: a run, a checkpoint or a YAML file, for all but local.
        catalogue: its file, beside which features are kept.
        device: of the network.
        backend: of the network, see :class:`Predictor`.
        overrides: ``[KEY, VALUE, ...]`` for the configuration, such as MATCHING keys.

    Raises:
        UserError: a name is unknown, or a model is lacking or not used.
    """
    matcher = matcher or (FUSED if model else LOCAL)
    names = [FEATURES, LOCAL] if matcher == FUSED else [matcher]
    known = (FUSED, FEATURES, LOCAL, *MATCHER_REGISTRY)
    if matcher not in known:
        hint = did_you_mean(matcher, known)
        raise UserError(f"no matcher {matcher!r}{hint}; known: {', '.join(known)}")
    if FEATURES in names and not model:
        raise UserError(
            f"the matcher {matcher} looks at a network's features, and no model is named: add "
            "--model with the folder of a run, or use --matcher local, which needs none"
        )
    if not model and (backend != "auto" or device != "auto"):
        raise UserError("--backend and --device are of a model, and none is named by --model")
    if model and FEATURES not in names:
        raise UserError(f"the matcher {matcher} has no use for a model: leave out --model {model}")
    cfg, matchers, marks = load(None, [] if model else overrides), dict[str, Matcher](), []
    if model:
        predictor = Predictor(model, device=device, backend=backend, overrides=overrides)
        cfg = predictor.cfg
        file = catalogue.with_name(f"{catalogue.name}.features")
        metric = cfg.TEST.METRIC
        matchers[FEATURES] = KeptFeatures(predictor, str(model), file, metric)
        marks.append(predictor.fingerprint)
    for name in names:
        if name != FEATURES:
            matchers[name] = single_matcher(cfg, name)
            marks.append(name)
    return matchers, "+".join(marks)
