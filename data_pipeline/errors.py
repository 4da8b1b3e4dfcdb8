"""The one exception of this package that is meant for the person at the keyboard."""


class DataError(Exception):
    """A user's mistake: the message is one line that names the value, what was expected, the fix.

    Command lines print it without a traceback and exit with code 2.
    """
