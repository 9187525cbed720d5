"""What comes from outside is never markup."""

from pipeline.hub.markdown import cell, code_names, link, one_line, table


def test_a_cell_is_readable_where_nothing_is_hostile() -> None:
    assert cell("Dr. Jekyll & Mr. Hyde (1886), by R. L. S.: a_b — “x”!") == (
        "Dr. Jekyll &#38; Mr. Hyde (1886), by R. L. S.: a_b — “x”!"
    )


def test_what_cannot_be_seen_is_left_out() -> None:
    assert one_line("a\u202eb\u200bc\0\nd \x85 e") == "abc d e"


def test_only_a_plain_address_is_a_link() -> None:
    assert link("https://example.org/84.txt?x=1") == "<https://example.org/84.txt?x=1>"
    for address in ("javascript:alert(1)", "https://x/>|<b>", "https://x/ y", "ftp://x/y", ""):
        assert link(address) == address


def test_numbers_have_commas_and_own_names_are_code() -> None:
    text = table(("a", "b"), [(12345, code_names(["x", "y_z"])), (True, 0.5)])
    assert text.splitlines()[2:] == ["| 12,345 | `x`, `y_z` |", "| True | 0.5 |"]
