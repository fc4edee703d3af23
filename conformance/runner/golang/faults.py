"""What goes wrong in the reader itself."""


class GoError(Exception):
    """This reader of Go came to its limits, or the program went wrong as only a program can: no verdict on the mesh."""


class GoPanic(Exception):
    """`panic(...)`."""
