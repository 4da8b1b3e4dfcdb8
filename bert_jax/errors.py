"""The exceptions of this package that are meant for users."""


class UserError(Exception):
    """A user's mistake: one line that names the value, what was expected and the fix.

    Command lines print it without a traceback and exit with code 2.
    """


class NonFiniteLoss(Exception):
    """The loss or the gradient is no longer a number; the message says where and what is left."""
