"""Ahead-of-time build of bninv's operators, where torch can be imported.

`pip install . --no-build-isolation` compiles against the torch that is installed. In an isolated
build there is none: the package is then pure Python plus the C++ sources, and the operators are
compiled on first use. Everything else is in pyproject.toml.
"""

import importlib.util
import os
import sys
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"


def load_build_description():
    """bninv/_build.py, by path: importing the package would import torch."""
    path = ROOT / "bninv" / "_build.py"
    spec = importlib.util.spec_from_file_location("bninv_build", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def extension_arguments():
    """The arguments of setup() that make it compile the operators; none where torch is missing."""
    build = load_build_description()
    try:
        import torch
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError as error:
        if build.requested_build() != "auto":
            raise build.BuildError(
                f"BNINV_BUILD is {build.requested_build()!r}, but torch cannot be imported here "
                f"({error}): use `pip install --no-build-isolation`"
            ) from None
        print("bninv: torch is not importable here; operators will be compiled on first use")
        return {}
    build.choose_cuda(CSRC, torch.version.cuda, torch.cuda.is_available)
    build.compiler_identity()

    class BuildOperators(BuildExtension):
        """Writes the translation units before it compiles them."""

        def run(self):
            units = Path(self.build_temp) / "units"
            sources = build.write_wrappers(units, CSRC)
            # setuptools wants paths relative to the project.
            self.extensions[0].sources = [os.path.relpath(source, ROOT) for source in sources]
            super().run()

    extension = CppExtension(
        "bninv._C",
        sources=[],
        include_dirs=[str(CSRC)],
        extra_compile_args=build.compile_flags(),
        extra_link_args=build.link_flags(),
        # No Python API at all: one library for every Python.
        py_limited_api=True,
    )
    return {
        "ext_modules": [extension],
        "cmdclass": {"build_ext": BuildOperators},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


# The sources travel inside the package, so that they can be compiled where it is installed.
SOURCE_FOLDERS = {"bninv.csrc": "csrc"}
SOURCE_FOLDERS.update(
    {f"bninv.csrc.{path.name}": f"csrc/{path.name}" for path in CSRC.iterdir() if path.is_dir()}
)

setup(
    license="BSD-3-Clause",
    packages=[*find_packages(include=["bninv", "bninv.*"]), *SOURCE_FOLDERS],
    package_dir={"bninv": "bninv", **SOURCE_FOLDERS},
    package_data={
        "bninv": ["py.typed"],
        **{package: ["*.h", "*.cpp", "*.cu", "*.cuh"] for package in SOURCE_FOLDERS},
    },
    **extension_arguments(),
)
