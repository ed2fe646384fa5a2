"""Ahead-of-time build of bninv's operators, where torch can be imported.

`pip install . --no-build-isolation` compiles against the torch that is installed. In an isolated
build there is none: the package is then pure Python plus the C++ sources, and the operators are
compiled on first use. Everything else is in pyproject.toml.
"""

import importlib
import os
import sys
import types
from pathlib import Path

import setuptools
from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"


def need_wheels():
    """Stop with what to do where setuptools cannot make a wheel, as in a fresh environment of 3.11.

    pip does not look at pyproject.toml's requirements under --no-build-isolation.
    """
    if not {"bdist_wheel", "dist_info", "editable_wheel"} & set(sys.argv):
        return
    try:
        importlib.import_module("setuptools.command.bdist_wheel")
    except ImportError:
        try:
            importlib.import_module("wheel.bdist_wheel")
        except ImportError:
            sys.exit(
                f"bninv: setuptools {setuptools.__version__} cannot make a wheel; it may be 70.1 "
                "or newer: run `pip install torch 'setuptools>=70.1' ninja` and then this again, "
                "or `pip install .`, which compiles the operators on first use"
            )


def load_build_descriptions():
    """The modules that describe the build, without bninv/__init__.py, which imports torch."""
    package = types.ModuleType("bninv_build")
    package.__path__ = [str(ROOT / "bninv" / "building")]
    sys.modules[package.__name__] = package
    names = ("recipe", "cuda_choice", "nvcc")
    return tuple(importlib.import_module(f"bninv_build.{name}") for name in names)


def extension_arguments():
    """The arguments of setup() that make it compile the operators; none where torch is missing."""
    recipe, cuda_choice, nvcc = load_build_descriptions()
    try:
        import torch
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError as error:
        if (wanted := cuda_choice.requested_build()) != "auto":
            raise recipe.BuildError(
                f"BNINV_BUILD is {wanted!r}, but torch cannot be imported here ({error}): "
                "use `pip install --no-build-isolation`"
            ) from None
        print("bninv: torch is not importable here; operators will be compiled on first use")
        return {}
    recipe.compiler_identity()
    cuda = cuda_choice.choose_cuda(CSRC, torch.version.cuda, ahead_of_time=True)
    compile_flags, link_flags = recipe.compile_flags(), recipe.link_flags()
    if cuda:
        compile_flags += nvcc.CPP_FLAGS
        link_flags += nvcc.link_flags(cuda, Path(torch.__file__).parent / "lib")
        print(f"bninv: with CUDA kernels for {', '.join(cuda.architectures)}")

    class BuildOperators(BuildExtension):
        """Writes the translation units before it compiles them, and calls nvcc."""

        def run(self):
            units = Path(self.build_temp) / "units"
            sources = recipe.write_wrappers(units, CSRC, cuda=cuda.description if cuda else "")
            # setuptools wants paths relative to the project.
            self.extensions[0].sources = [os.path.relpath(source, ROOT) for source in sources]
            if cuda:
                objects = nvcc.compile_objects(cuda, CSRC, units)
                self.extensions[0].extra_objects = [str(path) for path in objects]
            super().run()

    extension = CppExtension(
        "bninv._C",
        sources=[],
        include_dirs=[str(CSRC)],
        extra_compile_args=compile_flags,
        extra_link_args=link_flags,
        # No Python API at all: one library for every Python.
        py_limited_api=True,
    )
    return {
        "ext_modules": [extension],
        "cmdclass": {"build_ext": BuildOperators},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


need_wheels()

# The sources travel inside the package, so that they can be compiled where it is installed.
SOURCE_FOLDERS = {"bninv.csrc": "csrc"}
SOURCE_FOLDERS.update(
    {f"bninv.csrc.{path.name}": f"csrc/{path.name}" for path in CSRC.iterdir() if path.is_dir()}
)

setup(
    license="BSD-3-Clause",
    packages=[*find_packages(include=["bninv", "bninv.*"]), *SOURCE_FOLDERS],
    py_modules=["bninv_cli"],
    package_dir={"bninv": "bninv", **SOURCE_FOLDERS},
    package_data={
        "bninv": ["py.typed"],
        "bninv.report": ["page.html"],
        **{package: ["*.h", "*.cpp", "*.cu", "*.cuh"] for package in SOURCE_FOLDERS},
    },
    **extension_arguments(),
)
