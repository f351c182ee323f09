"""OpenAnimals: animal re-identification, installable with pip."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+?)"', (HERE / "openanimals/__init__.py").read_text(encoding="utf-8")
)

# tests/oldest.txt repeats every floor; `make test-oldest` runs the tests on exactly those versions.
TIMM = ["timm>=1.0.26"]  # DINOv3; models on the meta device; weights in a folder
ONNX = ["onnx>=1.18", "onnxscript>=0.6.2", "onnxruntime>=1.22"]
OPENVINO = ["openvino>=2025.2", *ONNX[:2]]
REVIEW = [
    "starlette>=0.40",  # which limits what a form may take of the memory
    "uvicorn>=0.30",
]
TEST = [
    "frictionless>=5.18",  # validates Camtrap DP
    "pycocotools>=2.0.8",
    "pytest>=8.2",  # importorskip(exc_type=...)
    "pytest-xdist>=3.8",  # --no-loadscope-reorder
    "hypothesis>=6.100",
    "kornia>=0.8",  # an example of docs/extending.md
    "selenium>=4.20",  # drives a browser through the review page
    "setuptools>=70.1",  # builds a wheel without the package wheel
]
LINT = [
    "ruff",
    "mypy",
    "pandas-stubs",
    "types-PyYAML",
    "types-openpyxl",
    "types-tqdm",
]  # the newest

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
    package_data={
        "openanimals": ["py.typed"],
        "openanimals.configs": ["**/*.yml"],
        "openanimals.identification": ["templates/*.html"],
        "openanimals.identification.review": ["templates/*.html", "static/*", "texts.json"],
    },
    install_requires=[
        "torch>=2.7",  # the limit of variants that SOLVER.COMPILE sets
        "torchvision>=0.22",
        "yacs>=0.1.8",
        "pyyaml>=6.0.1",
        "numpy>=2.0",
        "pandas>=2.2.2",
        "pyarrow>=16.1",  # Parquet, in which the images that saved features are of are listed
        "safetensors>=0.4.3",  # saved features, read where they lie in the file; weights of others
        "scipy>=1.13",
        "scikit-learn>=1.5",  # calibration
        "opencv-python>=4.10.0.84",  # keypoints; wildlife-datasets brings it anyway
        "pillow>=11.0",  # whose size of a turned TIFF is known before it is read
        "matplotlib>=3.9",
        "tensorboard>=2.18",
        "tqdm>=4.67",
        "filelock>=3.32",  # whose locks forked processes do not inherit
        "requests>=2.32.3",
        "wildlife-datasets>=1.0.8,<1.0.9",
        "jinja2>=3.1",  # the page of matches
        "openpyxl>=3.1.3",  # spreadsheets
        "six>=1.16",  # kaggle, which wildlife-datasets downloads with, imports it without asking
    ],
    extras_require={
        "timm": TIMM,
        "onnx": ONNX,
        "openvino": OPENVINO,
        "review": REVIEW,
        "test": [*TIMM, *ONNX, *OPENVINO, *REVIEW, *TEST],
        "lint": LINT,
    },
    entry_points={"console_scripts": ["openanimals = openanimals.cli:main"]},
)
