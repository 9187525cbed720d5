"""Codes of languages: catalogues write three letters (ISO 639-2) where others write two."""

# The terminological code and, where it has another, the bibliographic one that libraries use.
_TWO_LETTERS = {
    two: words.split()
    for two, words in {
        "af": "afr", "ar": "ara", "be": "bel", "bg": "bul", "bn": "ben", "br": "bre", "bs": "bos",
        "ca": "cat", "cs": "ces cze", "cy": "cym wel", "da": "dan", "de": "deu ger", "el":
        "ell gre", "en": "eng", "eo": "epo", "es": "spa", "et": "est", "eu": "eus baq", "fa":
        "fas per", "fi": "fin", "fo": "fao", "fr": "fra fre", "fy": "fry", "ga": "gle", "gd":
        "gla", "gl": "glg", "he": "heb", "hi": "hin", "hr": "hrv", "hu": "hun", "hy": "hye arm",
        "ia": "ina", "id": "ind", "is": "isl ice", "it": "ita", "iu": "iku", "ja": "jpn", "ka":
        "kat geo", "kn": "kan", "ko": "kor", "la": "lat", "lb": "ltz", "lt": "lit", "lv": "lav",
        "mi": "mri mao", "mk": "mkd mac", "ml": "mal", "mr": "mar", "ms": "msa may", "mt": "mlt",
        "nb": "nob", "nl": "nld dut", "nn": "nno", "no": "nor", "oc": "oci", "pl": "pol", "pt":
        "por", "ro": "ron rum", "ru": "rus", "sa": "san", "sk": "slk slo", "sl": "slv", "sq":
        "sqi alb", "sr": "srp", "sv": "swe", "sw": "swa", "ta": "tam", "te": "tel", "th": "tha",
        "tl": "tgl", "tr": "tur", "uk": "ukr", "ur": "urd", "vi": "vie", "yi": "yid", "zh":
        "zho chi",
    }.items()
}  # fmt: skip
_SHORT = {three: two for two, all_three in _TWO_LETTERS.items() for three in all_three}


def short_code(word: str) -> str | None:
    """The ISO 639-1 code in a tag such as `en`, `eng` or `en-GB`; that of three letters where a
    language has no other; None for what is no code."""
    code = str(word).strip().lower().replace("_", "-").partition("-")[0]
    if not (len(code) in (2, 3) and code.isascii() and code.isalpha()):
        return None
    return _SHORT.get(code, code)
