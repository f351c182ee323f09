"""What was published: Rank-1 and mAP in percent of ARBase and OpenAnimals (arXiv 2410.00204)."""

SOURCE = "arXiv 2410.00204 (ICCV 2025)"

Numbers = dict[str, dict[str, tuple[float, float]]]
"""For each row and species Rank-1 and mAP."""

MAIN: Numbers = {
    "BoT": {
        "hyena": (58.64, 34.96),
        "leopard": (54.92, 27.65),
        "seaturtle": (84.01, 41.92),
        "whaleshark": (52.54, 20.86),
    },
    "AGW": {
        "hyena": (56.36, 32.72),
        "leopard": (54.10, 28.67),
        "seaturtle": (85.17, 46.18),
        "whaleshark": (50.76, 21.11),
    },
    "SBS": {
        "hyena": (51.82, 30.56),
        "leopard": (51.23, 26.54),
        "seaturtle": (84.01, 44.63),
        "whaleshark": (47.46, 18.84),
    },
    "MGN": {
        "hyena": (55.91, 31.08),
        "leopard": (53.69, 28.21),
        "seaturtle": (86.05, 46.67),
        "whaleshark": (50.25, 21.47),
    },
    "ARBase": {
        "hyena": (73.18, 44.87),
        "leopard": (64.34, 37.08),
        "seaturtle": (86.92, 55.99),
        "whaleshark": (62.44, 29.45),
    },
}

# One published row, two versions: the authors' own file lacks the cosine schedule as well.
_WITHOUT_MULTI_BRANCH = {"hyena": (71.36, 42.87), "whaleshark": (61.42, 27.78)}

ABLATION: Numbers = {
    "BoT": {"hyena": (58.64, 34.96), "whaleshark": (52.54, 20.86)},
    "BoT-384x384": {"hyena": (60.45, 36.43), "whaleshark": (58.12, 24.39)},
    "without-ibn": {"hyena": (69.09, 43.58), "whaleshark": (61.93, 29.28)},
    "without-multi-branch": _WITHOUT_MULTI_BRANCH,
    "without-multi-branch-as-released": _WITHOUT_MULTI_BRANCH,
    "without-bnneck": {"hyena": (64.55, 39.23), "whaleshark": (44.42, 22.29)},
    "without-label-smoothing": {"hyena": (68.18, 44.72), "whaleshark": (61.42, 27.88)},
    "without-cosine": {"hyena": (71.82, 43.40), "whaleshark": (62.44, 28.69)},
    "ARBase": {"hyena": (73.18, 44.87), "whaleshark": (62.44, 29.45)},
}

NUMBERS: dict[str, Numbers] = {"main": MAIN, "ablation": ABLATION, "techniques": {}}

VERDICTS = {
    "random-erasing": "no",
    "label-smoothing": "yes",
    "last-stride-1": "yes",
    "bnneck": "yes",
    "non-local": "mixed",
    "gem": "mixed",
    "weighted-triplet": "mixed",
    "freeze-training": "no",
    "autoaugment": "no",
    "cosine-annealing": "yes",
    "multi-branch": "yes",
}
"""Whether a technique helps on animals; no numbers were published."""
