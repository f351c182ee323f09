"""The one base of all errors that the user can mend."""


class UserError(ValueError):
    """A mistake that the user can mend: says what was found, what is expected, the nearest name.

    The command line shows its message and nothing else. Any other exception is a bug, of ours or of
    a plugin, and shows where it was raised.
    """
