"""What a command says: in any encoding, to a reader who may stop reading, or to nobody; errors and warnings as one line."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress

from ..shown import for_terminal


@contextmanager
def prepared_output() -> Iterator[None]:
    """Standard output and error never fail inside the block, except that a full disk under them is an OSError."""
    with (
        redirect_stdout(_Stream(sys.stdout, "standard output")),
        redirect_stderr(_Stream(sys.stderr, "standard error")),
        warnings.catch_warnings(),
    ):
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {for_terminal(message)}", file=sys.stderr)
        try:
            yield
        finally:
            with suppress(OSError):
                sys.stderr.flush()
            sys.stdout.flush()


def say_error(error: Exception) -> None:
    """Print what went wrong, with the file that it is about."""
    text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.strerror and error.filename else error
    print(f"error: {for_terminal(text)}", file=sys.stderr)


class _Stream:
    """A text stream that escapes what its encoding lacks, and is silent once nobody reads it any more (``| head``)."""

    def __init__(self, stream, name: str):
        # A process may have been started without.
        self._stream, self._name = stream or open(os.devnull, "w"), name

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._unread_is_silence():
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        with self._unread_is_silence():
            self._stream.flush()

    @contextmanager
    def _unread_is_silence(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Python would try once more to write what is buffered when it ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if not isinstance(error, BrokenPipeError):
                raise OSError(error.errno, error.strerror, self._name) from error
