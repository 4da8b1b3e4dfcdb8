"""The one exception of this package that is meant for the user."""


class DataError(Exception):
    """A user's mistake: one line with the value found, what was expected and what to do.

    Command lines print it without a traceback and exit with code 2.
    """
