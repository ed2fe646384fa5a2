"""Compiling and loading the C++ operators.

    recipe         what is compiled, and with which flags
    cuda_choice    whether with CUDA, for which GPUs; cuda_toolkit finds a toolkit for it
    nvcc           the CUDA half of a build
    compilation    a build, from beginning to end
    cache          the folder in which what was built is kept
    extension      finds a library or has one built, and loads it

`setup.py` builds with the first four, where torch may be missing: these import nothing of bninv's
but each other, by names relative to this folder, and no torch.
"""
