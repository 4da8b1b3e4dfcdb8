"""The one exception of this package that is meant for the person at the keyboard."""


class UserError(Exception):
    """A user's mistake: one line that names the value, what was expected and the fix.

    Command lines print it without a traceback and exit with code 2.
    """
