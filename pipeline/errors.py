"""The one family of exceptions that users see: what is wrong, where, and the way out."""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_STOPPED = 33


class PipelineError(Exception):
    """A failure that the user can act on.

    `message` is one sentence that names the thing and the place; `hint`, if given, is what to
    do about it. Neither may hold a secret.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class UsageError(PipelineError):
    """The command was called with an option, a value or a settings key that makes no sense."""

    exit_code = EXIT_USAGE


class Stopped(PipelineError):
    """Stopped on request with everything saved: the same command continues."""

    exit_code = EXIT_STOPPED
