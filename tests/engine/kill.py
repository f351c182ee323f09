"""A module for IMPORTS that kills its process at the moment that KILL_AT names.

KILL_RANK may name the one process, among several, that dies; what torchrun starts in its place does
not. KILL_AT is empty, or one of these with n counting from 1:

=================  ===================================================================
``step n``         before the n-th step of the optimiser
``save n``         in the n-th torch.save, when half of the file is written
``before FILE n``  when a new FILE is whole, before the n-th time it is renamed to FILE
``after FILE n``   after that
``features n``     after the n-th extraction of features: of queries, of a gallery, ...
``read n``         before the n-th photograph is read that AutoAugment leaves alone
=================  ===================================================================
"""

import itertools
import os
import signal
from functools import partial
from pathlib import Path

import torch
from torch import nn

from openanimals.data.dataset import ReIDDataset
from openanimals.engine import evaluate as testing
from openanimals.modeling import BACKBONE_REGISTRY
from openanimals.utils import distributed
from tests.tiny import tiny


@BACKBONE_REGISTRY.register("tiny_dropout")
def tiny_dropout(cfg):
    backbone = tiny(cfg)
    return backbone._replace(tail=nn.Sequential(backbone.tail, nn.Dropout(0.1)))


def die(call=None):
    os.kill(os.getpid(), signal.SIGKILL)


def finish_and_die(call):
    call()
    die()


def half_and_die(call):
    call()
    path = call.args[1]
    os.truncate(path, path.stat().st_size // 2)
    die()


def instead(number, owner, name, act, matches=lambda *arguments: True):
    """Let ``act(call)`` stand in for the matching call of that number of ``owner.name``."""
    original, calls = getattr(owner, name), itertools.count(1)

    def watched(*arguments, **options):
        call = partial(original, *arguments, **options)
        return (act if matches(*arguments) and next(calls) == number else partial.__call__)(call)

    setattr(owner, name, watched)


def arm(moment, *file, number):
    def is_the_file(_, target):
        return Path(target).name == file[0]

    if moment == "step":
        instead(number, torch.optim.Adam, "step", die)
    elif moment == "save":
        instead(number, torch, "save", half_and_die)
    elif moment == "features":
        instead(number, testing, "extract_features", finish_and_die)
    elif moment == "read":
        instead(number, ReIDDataset, "read", die)
    else:
        act = {"before": die, "after": finish_and_die}[moment]
        instead(number, os, "replace", act, is_the_file)


rank = os.environ.get("RANK", "0")
mortal = os.environ.get("KILL_RANK", rank) == rank and not distributed.restarted()
if os.environ.get("KILL_AT") and mortal:
    *when, count = os.environ["KILL_AT"].split()
    arm(*when, number=int(count))
