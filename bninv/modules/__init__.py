"""What a patched module is.

A kind is a mixin class with an `invariant_forward`. It replaces one known `forward`, and only that
one: kinds are found by the class that *defines* a module's forward, so a subclass that inherits it
is covered and a subclass with arithmetic of its own is not mistaken for its base. The kinds stand
with the operators that they call (bninv.operators).
"""
