"""OpenAnimals: animal re-identification, installable with pip."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+?)"', (HERE / "openanimals/__init__.py").read_text(encoding="utf-8")
)

TIMM = ["timm>=1.0"]
TEST = [
    "pytest>=8.2",  # importorskip(exc_type=...)
    "pytest-xdist",
    "hypothesis>=6.100",
    "ruff>=0.9",
    "mypy>=1.14",
    "pandas-stubs",
    "types-PyYAML",
    "types-tqdm",
]

setup(
    name="openanimals",
    version=VERSION[1],
    description="Tells individual animals apart in photographs (animal re-identification)",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["openanimals", "openanimals.*"]), "openanimals.configs"],
    package_dir={"openanimals.configs": "configs"},
    package_data={"openanimals": ["py.typed"], "openanimals.configs": ["**/*.yml"]},
    install_requires=[
        "torch>=2.6",
        "torchvision",
        "yacs",
        "pyyaml",
        "numpy",
        "pandas",
        "pyarrow",  # Parquet, in which the images that saved features are of are listed
        "safetensors",  # saved features, read where they lie in the file; weights of others
        "scipy",
        "pillow",
        "matplotlib",
        "tensorboard",
        "tqdm",
        "filelock>=3.32",  # whose locks forked processes do not inherit
        "requests",
        "wildlife-datasets>=1.0.7,<1.0.9",
        "six",  # kaggle, which wildlife-datasets downloads with, imports it without asking for it
    ],
    extras_require={"timm": TIMM, "test": [*TIMM, *TEST]},
    entry_points={"console_scripts": ["openanimals = openanimals.cli:main"]},
)
