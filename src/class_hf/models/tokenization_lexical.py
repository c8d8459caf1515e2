"""A tokenizer without a vocabulary: hashed words, word pairs and character n-grams."""

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizer
from transformers.tokenization_utils_base import BatchEncoding

from .argument_checks import check_integer, check_integers, check_misspelt, has_word

# Largest number of characters in a caption. The tokenizer makes about five tokens per character, and a word of 10 MB
# took 3.5 GB of memory. The longest caption of ChEBI-20 has 979 characters.
MAX_CAPTION_CHARACTERS = 20_000
# Words up to this length are cached, a million at most, so that endless streams do not fill the memory.
_LONGEST_CACHED_WORD = 100
_MAX_CACHED_WORDS = 1_000_000

# Chemical names keep their inner punctuation ("3,4-dihydroxy"). Punctuation at both ends of a word is removed.
_WORD = re.compile(r"\S+")
_PUNCTUATION = ".,;:!?\"'"
_PART = re.compile(r"[a-z]+|[0-9]+|[+\-]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def split_sentences(text: str) -> list[str]:
    """Splits a caption into sentences.

    A sentence ends at a full stop, an exclamation mark or a question mark, followed by white space and a capital
    letter. Locants and decimal points therefore do not end a sentence.

    >>> split_sentences("It is 1.5-dimethyl. It has a role.")
    ['It is 1.5-dimethyl.', 'It has a role.']
    """
    return _SENTENCE_END.split(text.strip())


def check_caption(text: str, name: str = "the caption") -> None:
    """Checks that a caption is a text of an acceptable length.

    Args:
        text: the caption.
        name: how the error message refers to it.

    Raises:
        ValueError: if the caption is not a string, has no letter and no digit, or exceeds `MAX_CAPTION_CHARACTERS`.

    >>> check_caption(" ", "caption 3")
    Traceback (most recent call last):
    ...
    ValueError: caption 3 is ' '; expected a non-empty text.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name} is {repr(text)[:60]}; expected a non-empty text.")
    if not has_word(text):
        raise ValueError(f"{name} is {repr(text)[:60]}; expected a text with a letter or a digit.")
    if len(text) > MAX_CAPTION_CHARACTERS:
        raise ValueError(
            f"{name}, {text[:60]!r}..., has {len(text):,} characters; the limit is {MAX_CAPTION_CHARACTERS:,}."
        )


class LexicalTokenizer(PreTrainedTokenizer):
    """Turns a caption into hashed n-gram ids, without a vocabulary and without a download.

    The tokens of a sentence are its words (`w:`), the parts of compound words (`p:`), pairs of adjacent words (`b:`),
    the character n-grams of the words (`c:`, as in fastText, Bojanowski et al., 2017) and the character n-grams of the
    sentence across its words (`l:`), which join a name and its context. A token's id is its CRC-32 modulo
    `num_buckets`. No token crosses a sentence, so removing a sentence from a caption equals tokenizing the shorter
    caption.

    Args:
        num_buckets (`int`, *optional*, defaults to 65,536): number of ids.
        char_ngrams (two `int`, *optional*, defaults to (3, 5)): shortest and longest character n-gram of a word.
            (0, 0) disables them.
        line_ngrams (list of `int`, *optional*, defaults to (6,)): lengths of the character n-grams of a sentence. ()
            disables them.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> tokenizer = LexicalTokenizer(num_buckets=1000, char_ngrams=(0, 0), line_ngrams=())
    >>> tokenizer.tokenize("An acid ester.")
    ['w:an', 'w:acid', 'w:ester', 'b:an acid', 'b:acid ester']
    >>> len(tokenizer("An acid ester.")["input_ids"])
    5
    """

    model_input_names = ["input_ids", "text_offsets"]

    def __init__(
        self,
        num_buckets: int = 2**16,
        char_ngrams: Sequence[int] = (3, 5),
        line_ngrams: Sequence[int] = (6,),
        **kwargs: Any,
    ):
        check_misspelt(type(self), kwargs)
        lengths = check_integers("char_ngrams", char_ngrams, 0)
        if len(lengths) != 2 or lengths[0] > lengths[1]:
            raise ValueError(
                f"`char_ngrams` is {char_ngrams}; expected (shortest, longest) with 0 <= shortest <= longest."
            )
        self.num_buckets = check_integer("num_buckets", num_buckets, 1)
        self.line_ngrams = check_integers("line_ngrams", line_ngrams, 1)
        self.char_ngrams = (lengths[0], lengths[1])
        self._word_cache: dict[str, np.ndarray] = {}
        kwargs.pop("model_max_length", None)  # the tower is a bag without a maximal length
        super().__init__(
            num_buckets=num_buckets, char_ngrams=list(self.char_ngrams), line_ngrams=self.line_ngrams, **kwargs
        )

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.num_buckets

    def get_vocab(self) -> dict[str, int]:
        """An empty vocabulary: ids are hashes."""
        return {}

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Writes nothing: the settings in `tokenizer_config.json` define the tokenizer."""
        return ()

    def _word_tokens(self, word: str) -> list[str]:
        """The tokens of one word."""
        tokens = [f"w:{word}"]
        segments = _PART.findall(word)
        if len(segments) > 1:
            tokens += [f"p:{segment}" for segment in segments]
        shortest, longest = self.char_ngrams
        if shortest:
            padded = f"<{word}>"
            for size in range(shortest, longest + 1):
                tokens += [f"c:{padded[start : start + size]}" for start in range(len(padded) - size + 1)]
        return tokens

    def _word_ids(self, word: str) -> np.ndarray:
        """The ids of one word's tokens, int32."""
        ids = self._word_cache.get(word)
        if ids is None:
            ids = np.array([self._convert_token_to_id(token) for token in self._word_tokens(word)], dtype=np.int32)
            if len(word) <= _LONGEST_CACHED_WORD and len(self._word_cache) < _MAX_CACHED_WORDS:
                self._word_cache[word] = ids
        return ids

    @staticmethod
    def _words(sentence: str) -> list[str]:
        """The lower-case words of a sentence, without punctuation at their ends."""
        stripped = (word.strip(_PUNCTUATION) for word in _WORD.findall(sentence.lower()))
        return [word for word in stripped if word]

    def _across_words(self, words: list[str]) -> list[str]:
        """The tokens of a sentence that cross its words."""
        tokens = [f"b:{first} {second}" for first, second in zip(words, words[1:], strict=False)]
        line = f" {' '.join(words)} "
        for size in self.line_ngrams:
            tokens += [f"l:{line[start : start + size]}" for start in range(len(line) - size + 1)]
        return tokens

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """The tokens of a caption."""
        self._check_length(text)
        tokens: list[str] = []
        for sentence in split_sentences(text):
            words = self._words(sentence)
            for word in words:
                tokens += self._word_tokens(word)
            tokens += self._across_words(words)
        return tokens

    def tokenize(self, text: str, *args: Any, **kwargs: Any) -> list[str]:
        """Returns the tokens of a caption, in the order of their ids."""
        return self._tokenize(text)

    @staticmethod
    def _check_length(text: str) -> None:
        """Raises ValueError if a caption is too long; an empty one is allowed."""
        if text.strip():
            check_caption(text)

    def _convert_token_to_id(self, token: str) -> int:
        """The hash of a token."""
        return zlib.crc32(token.encode("utf-8")) % self.num_buckets

    def _convert_id_to_token(self, index: int) -> str:
        """A placeholder, since a hash has no inverse."""
        return f"[{index}]"

    def encode_sentences(self, text: str) -> list[np.ndarray]:
        """Tokenizes a caption, many times faster than `tokenize`.

        Args:
            text: the caption.

        Returns:
            The ids of each sentence, int32. They are those of `tokenize`.

        Raises:
            ValueError: if the caption exceeds `MAX_CAPTION_CHARACTERS`.
        """
        self._check_length(text)
        sentences = []
        for sentence in split_sentences(text):
            words = self._words(sentence)
            pieces = [self._word_ids(word) for word in words]
            across = [self._convert_token_to_id(token) for token in self._across_words(words)]
            pieces.append(np.array(across, dtype=np.int32))
            sentences.append(np.concatenate(pieces))
        return sentences

    def _encode_plus(self, text: Any, *args: Any, return_tensors: Any = None, **kwargs: Any) -> BatchEncoding:
        """Tokenizes one caption or several. A bag of n-grams needs no padding, truncation or special tokens.

        With `return_tensors`, the result is the input of the tower: all ids in a row (T,), and the place where each
        caption begins (B + 1,). `pipeline("feature-extraction")` uses it.
        """
        if isinstance(text, str):
            rows = [np.concatenate(self.encode_sentences(text))]
        elif isinstance(text, list | tuple) and all(isinstance(caption, str) for caption in text):
            rows = [np.concatenate(self.encode_sentences(caption)) for caption in text]
        else:
            raise ValueError(f"`text` is a {type(text).__name__}; expected a string or a list of strings.")
        if return_tensors is None:
            ids = [row.tolist() for row in rows]
            return BatchEncoding({"input_ids": ids[0] if isinstance(text, str) else ids})
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
        arrays = {"input_ids": np.concatenate([np.empty(0, np.int32), *rows]), "text_offsets": offsets}
        return BatchEncoding(arrays, tensor_type=return_tensors)
