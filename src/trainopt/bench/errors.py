"""The one exception that tells a user what to mend."""


class InputError(ValueError):
    """Bad input from the user: one sentence that names what was given, why not, and the mend.

    The command line prints it and exits with code 2; no result has been written.
    """
