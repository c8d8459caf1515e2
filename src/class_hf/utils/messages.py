"""Text of errors in one line."""


def one_line(message: object, limit: int | None = None) -> str:
    """The text of a message or an error in one line.

    Args:
        message: the message.
        limit: largest number of characters; a longer text is cut after a word. Default: no limit.

    >>> one_line("two\\n  lines.")
    'two lines.'
    >>> one_line("a message of another library", limit=18)
    'a message of ...'
    """
    text = " ".join(str(message).split())
    return text if limit is None or len(text) <= limit else text[: limit - 4].rsplit(" ", 1)[0] + " ..."
