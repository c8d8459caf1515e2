"""A tokenizer without a vocabulary: hashed words, word pairs and character n-grams."""

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizer
from transformers.tokenization_utils_base import BatchEncoding

# Chemical names keep their inner punctuation ("3,4-dihydroxy"); sentence punctuation at the rim goes.
_WORD = re.compile(r"\S+")
_RIM = ".,;:!?\"'"
_PART = re.compile(r"[a-z]+|[0-9]+|[+\-]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def split_sentences(text: str) -> list[str]:
    """The sentences of a caption.

    A sentence ends at a full stop that white space and a capital follow, so that locants and decimal points
    stay whole.

    >>> split_sentences("It is 1.5-dimethyl. It has a role.")
    ['It is 1.5-dimethyl.', 'It has a role.']
    """
    return _SENTENCE_END.split(text.strip())


class LexicalTokenizer(PreTrainedTokenizer):
    """Turns a caption into hashed n-gram ids; needs no vocabulary and no download (ours).

    Tokens of a sentence are its words (`w:`), the parts of compound words (`p:`), pairs of adjoining words
    (`b:`), the character n-grams of the words (`c:`, as in fastText, Bojanowski et al., 2017) and those of the whole
    line, across its words (`l:`), which read a name together with what stands around it. A token's id is its CRC-32
    modulo `num_buckets`. No token crosses a sentence, so leaving a sentence out of a caption equals tokenizing the
    shorter caption.

    Args:
        num_buckets: number of ids, 2 ** 16 by default.
        char_ngrams: (shortest, longest) character n-gram of a word; (0, 0) switches them off.
        line_ngrams: lengths of the character n-grams of a line; () switches them off.

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
        if num_buckets < 1:
            raise ValueError(f"`num_buckets` is {num_buckets}; expected at least 1.")
        shortest, longest = map(int, char_ngrams)
        if not 0 <= shortest <= longest:
            raise ValueError(
                f"`char_ngrams` is {char_ngrams}; expected (shortest, longest) with 0 <= shortest <= longest."
            )
        if any(int(n) < 1 for n in line_ngrams):
            raise ValueError(f"`line_ngrams` is {line_ngrams}; expected lengths of at least 1.")
        self.num_buckets = num_buckets
        self.line_ngrams = [int(n) for n in line_ngrams]
        self.char_ngrams = (shortest, longest)
        self._word_cache: dict[str, tuple[list[str], np.ndarray]] = {}
        kwargs.pop("model_max_length", None)  # there is no limit: the tower is a bag
        super().__init__(
            num_buckets=num_buckets, char_ngrams=list(self.char_ngrams), line_ngrams=self.line_ngrams, **kwargs
        )

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.num_buckets

    def get_vocab(self) -> dict[str, int]:
        """Empty: ids come from a hash, so there is no list of tokens."""
        return {}

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Writes nothing: the settings in `tokenizer_config.json` are the whole tokenizer."""
        return ()

    def _word_tokens(self, word: str) -> list[str]:
        tokens = [f"w:{word}"]
        parts = _PART.findall(word)
        if len(parts) > 1:
            tokens += [f"p:{part}" for part in parts]
        shortest, longest = self.char_ngrams
        if shortest:
            padded = f"<{word}>"
            for n in range(shortest, longest + 1):
                tokens += [f"c:{padded[i : i + n]}" for i in range(len(padded) - n + 1)]
        return tokens

    def _cached_word(self, word: str) -> tuple[list[str], np.ndarray]:
        cached = self._word_cache.get(word)
        if cached is None:
            tokens = self._word_tokens(word)
            cached = (tokens, np.array([self._convert_token_to_id(token) for token in tokens], dtype=np.int32))
            if len(self._word_cache) < 1_000_000:  # a bound, so that endless streams do not fill the memory
                self._word_cache[word] = cached
        return cached

    @staticmethod
    def _words(sentence: str) -> list[str]:
        stripped = (word.strip(_RIM) for word in _WORD.findall(sentence.lower()))
        return [word for word in stripped if word]

    def _across_words(self, words: list[str]) -> list[str]:
        """The tokens of a sentence that belong to no single word."""
        tokens = [f"b:{first} {second}" for first, second in zip(words, words[1:], strict=False)]
        line = f" {' '.join(words)} "
        for n in self.line_ngrams:
            tokens += [f"l:{line[i : i + n]}" for i in range(len(line) - n + 1)]
        return tokens

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        tokens: list[str] = []
        for sentence in split_sentences(text):
            words = self._words(sentence)
            for word in words:
                tokens += self._cached_word(word)[0]
            tokens += self._across_words(words)
        return tokens

    def tokenize(self, text: str, *args: Any, **kwargs: Any) -> list[str]:
        """The tokens of `text`, in the order of their ids."""
        return self._tokenize(text)

    def _convert_token_to_id(self, token: str) -> int:
        return zlib.crc32(token.encode("utf-8")) % self.num_buckets

    def _convert_id_to_token(self, index: int) -> str:
        return f"[{index}]"  # a hash cannot be undone

    def encode_sentences(self, text: str) -> list[np.ndarray]:
        """The ids of each sentence, int32 arrays; the same ids as `tokenize`, many times faster."""
        sentences = []
        for sentence in split_sentences(text):
            words = self._words(sentence)
            pieces = [self._cached_word(word)[1] for word in words]
            across = [self._convert_token_to_id(token) for token in self._across_words(words)]
            pieces.append(np.array(across, dtype=np.int32))
            sentences.append(np.concatenate(pieces))
        return sentences

    def _encode_plus(self, text: Any, *args: Any, **kwargs: Any) -> BatchEncoding:
        # Padding, truncation and special tokens have no meaning for a bag of hashed n-grams.
        if isinstance(text, str):
            return BatchEncoding({"input_ids": np.concatenate(self.encode_sentences(text)).tolist()})
        if isinstance(text, list | tuple) and all(isinstance(one, str) for one in text):
            return BatchEncoding({"input_ids": [np.concatenate(self.encode_sentences(one)).tolist() for one in text]})
        raise ValueError(f"`text` is a {type(text).__name__}; expected a string or a list of strings.")
