"""The one exception that means "the input is at fault, and here is how to mend it"."""

from __future__ import annotations


class InputError(ValueError):
    """A file, folder, option or checkpoint given by the user cannot be used.

    The message is one line: what was given, what was expected, what to do next. The command line
    prints it without a traceback and exits with status 2.
    """
