"""Text on which two tokenizers are likely to disagree: a model's own, varied, and odd Unicode.

llama.cpp has tokenizers of its own, with tables of Unicode of its own. Where they split a text
otherwise than the tokenizer that the model was trained with, the model reads it slightly garbled,
and nothing fails.
"""

import unicodedata
from collections.abc import Callable, Iterator, Sequence

PROOF_BYTES = 200_000
_PIECE = 1500  # characters; long enough for every rule, short enough to name the place

_Variation = Callable[[str], str]

VARIATIONS: tuple[_Variation, ...] = (
    lambda text: text,
    str.upper,
    lambda text: text.replace("\n", "\r\n"),
    lambda text: unicodedata.normalize("NFD", text),
    str.swapcase,
    lambda text: text.replace(" ", "  "),
    lambda text: " ".join(reversed(text.split(" "))),
    lambda text: text.replace(" ", "\u00a0"),
    str.title,
    lambda text: text.replace(" ", "\n\t"),
    lambda text: text.replace(" ", ""),
    lambda text: text.replace(" ", "\n\n\n").replace(",", " , "),
    lambda text: text.replace("'", "’").replace('"', "”").replace("-", "—"),
    lambda text: text.replace(" ", " 1820, "),
    lambda text: text[::-1],
)

ODD = (
    # Composed and decomposed letters, ligatures, marks without a letter, long runs of marks.
    "Café naïve Ærøskøbing œuvre ﬁn ﬂow Ångström",
    "Cafe\u0301 nai\u0308ve A\u030angstro\u0308m e\u0301\u0302\u0303\u0304",
    "\u0301\u0301 a\u20dd \u1e9b\u0323 Z\u0351\u036b\u0343a\u0334l\u0321g\u0322o\u0315",
    "ſchön, it'ſ, ’ſ, K (Kelvin), İstanbul ıssız, ǅ, ß ẞ",
    "it's I'LL we'Re they’ve 'tis 'S 'd''re don''t o'clock's",
    # Blanks of every width, and what is not seen at all.
    "a b\u2002c\u2003d\u2009e\u200af\u202fg\u205fh\u3000i\u1680j",
    "zero\u200bwidth\u200cnon\u200djoiner\u2060word\ufeffmark\u00adsoft\u180e.",
    "line\u2028separator\u2029paragraph\u0085next\x0bvertical\x0cform",
    " \n \n\n  \t\t \r\r\n\n\r \u00a0\u00a0\n   ",
    "    four\n        eight\n\tone tab\n\t \tmixed   three   ",
    # Control characters.
    "nul\x00bell\x07escape\x1b[31mred\x1b[0m delete\x7f c1\x80\x9f",
    # Emoji with joiners, modifiers, variation selectors and flags.
    "👩‍👩‍👧‍👦 👨🏽‍🚀 🏳️‍🌈 ❤️‍🔥 ☺ ☺️ 🇩🇪🇫🇷 #️⃣ 🕯️ 🫠 🫨",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝕋𝕖𝕤𝕥 ⒶⒷⒸ ①②③ ½ ¾ ² ₃ Ⅷ ٣٤٥ ४५६ 𝟘𝟙𝟚",
    # Scripts that run from right to left, marks that turn the direction, and mixtures.
    "שָׁלוֹם עוֹלָם — السَّلَامُ عَلَيْكُمْ، كيف حالك؟ \u202eabc\u202c \u2066x\u2069",
    # Chinese, Japanese, Korean (also in single letters), Thai, Devanagari, Tibetan.
    "我走在海边，看见了奇怪的东西。吾輩は猫である。名前はまだ無い。カタカナﾊﾝｶｸ",
    "안녕하세요 \u1112\u1161\u11ab\u1100\u1173\u11af สวัสดีครับ नमस्ते दुनिया བོད་སྐད་ ქართული",
    "Привет, мир! Ελληνικά: ἀρχὴ ἥμισυ παντός. Tiếng Việt: Đường phố",
    "𠮷野家 𩸽 \U0001f9d1\u200d\U0001f9b0 \U000e0041 \ue000 \U0010fffd \ufffd \ufffe",
    # Numbers, punctuation, markup, code, long runs.
    "3.14159 1,000,000 0x7fff 12345678901234567890 1e-9 50% $5 №7 §3 10° 1/2 v1.2.3-rc4",
    "!!!??? ... …… -- --- ——— ***bold*** _under_ ~~~ ``code`` [x](y) {{z}} <<>> &amp; @#$%^",
    "<p class=\"a\">it&#39;s</p> if (x<=y && z!=0) { return f'{a[0]}'; } // \\n \\u00e9",
    "https://example.org/a_b?c=d&e=%20#f user@example.org C:\\dir\\file.txt /usr/bin",
    "a" * 300, " " * 300, "\n" * 90, "-" * 300, "=" * 65 + "\n", "1" * 100, "é" * 120, "哈" * 120,
    "▁ ▁▁ Ġ Ċ ĉ ł <0x0A> </w> ## ##ing @@ [UNK] <unk> <pad> <mask>",
    "x", " ", "", "\n", " x", "x ", "  x", "\nx", "\ufeffx", "ﷺ",
)  # fmt: skip

SPECIAL = (
    "<|endoftext|>", "<|im_start|>user\nHello<|im_end|>", "</s>", "<s>", "<eos>", "<bos>",
    "<|begin_of_text|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "[INST] x [/INST]",
    "<|im_end", "<|im_end|", "|im_end|>", " <|endoftext|> ", "<|endoftext|><|endoftext|>",
)  # fmt: skip
"""What spells a special token somewhere; in a text it is text."""


def proof_texts(
    own: Sequence[str], special: Sequence[str] = (), *, n_bytes: int = PROOF_BYTES
) -> list[str]:
    """Pieces of text, of `n_bytes` bytes or a little more, the same ones every time.

    `own` is text of the kind that the model was trained on; it comes first as it is, then varied
    (case, line breaks, blanks, normal forms, order) as often as it takes. Between its pieces stands
    odd Unicode, alone and in the middle of a sentence. `special` are texts of the model's special
    tokens, which are treated likewise.
    """
    odd = [*ODD, *SPECIAL, *special]
    pieces = [text[at : at + _PIECE] for text in own for at in range(0, len(text), _PIECE)]
    found = list(odd)
    size = sum(map(_size, found))
    for number, piece in enumerate(_varied(pieces or [" ".join(ODD)])):
        if size >= n_bytes:
            break
        # A third of the pieces has something odd in it, where a word may be torn in two.
        if number % 3 == 1:
            half = len(piece) // 2
            piece = piece[:half] + odd[number // 3 % len(odd)] + piece[half:]
        found.append(piece)
        size += _size(piece)
    return found


def _varied(pieces: Sequence[str]) -> Iterator[str]:
    """The pieces, again and again in other forms."""
    rounds = 0
    while True:
        for number, piece in enumerate(pieces):
            # Later rounds begin elsewhere, so that no piece is like an earlier one.
            shifted = piece[rounds // len(VARIATIONS) :] or piece
            variation = VARIATIONS[0 if not rounds else (rounds + number) % len(VARIATIONS)]
            yield _whole(variation(shifted))
        rounds += 1


def _whole(text: str) -> str:
    """Without halves of surrogate pairs, which no UTF-8 can hold."""
    return text.encode("utf-8", "ignore").decode("utf-8")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "ignore"))
