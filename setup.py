"""Package metadata; tool settings are in pyproject.toml."""

from setuptools import find_packages, setup

OPTIONAL = {
    "metrics": ["lpips>=0.1.4", "torchvision"],  # LPIPS, and segmenters from torchvision
    "openvino": ["openvino>=2025.4"],
    "video": ["av>=14"],
}

setup(
    name="gancompress",
    version="0.1.0",
    description="Make conditional GANs small enough to use",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["gancompress", "gancompress.*"]),
    # so that an editable install puts this folder on the path: what setuptools does otherwise is
    # asked after the path, where a clone called gancompress is found as an empty package
    package_dir={"": "."},
    package_data={
        "gancompress": [
            "py.typed",
            *(f"report/*.{kind}" for kind in ("html", "css", "js")),
            *(f"demo/web/*.{kind}" for kind in ("html", "css", "js", "json", "svg", "txt")),
            "demo/web/vendor/*",  # where scripts/vendor.sh was run before the package is built
        ]
    },
    install_requires=[
        "filelock>=3.12",
        "numpy>=1.26",
        "onnx>=1.21",
        "onnxruntime>=1.20",
        "onnxscript>=0.5",
        "pillow>=11",
        "pydantic>=2.8",
        "pyyaml>=6",
        "safetensors>=0.5",
        "scipy<1.18",
        "torch>=2.11",
        "tqdm>=4.66",
    ],
    extras_require={
        "datasets": ["opencv-python-headless>=4.10"],
        **OPTIONAL,
        "test": [
            *(package for packages in OPTIONAL.values() for package in packages),
            "clean-fid>=0.1.35",
            "mypy>=1.13",
            "opencv-python-headless>=4.10",
            "playwright>=1.49",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.8",
            "scikit-image>=0.25",
            "types-PyYAML",
            "types-tqdm",
        ],
    },
    entry_points={"console_scripts": ["gancompress=gancompress.cli.main:main"]},
)
