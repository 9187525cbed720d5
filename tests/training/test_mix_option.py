"""What `--mix` says is read exactly, or refused by name."""

import pytest

from pipeline.errors import UsageError
from pipeline.training.mix_option import parse_mix


def test_a_mix_is_weights_by_the_step_from_which_they_hold() -> None:
    mix = ("novels=0.7,letters=0.3", "500: novels = 0.2, letters=8e-1", "900:a=b:c=1,test=0")
    assert parse_mix(mix) == {
        0: {"novels": 0.7, "letters": 0.3},
        500: {"novels": 0.2, "letters": 0.8},
        900: {"a=b:c": 1.0, "test": 0.0},
    }


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ([""], "must be NAME=WEIGHT,NAME=WEIGHT; '' is not"),
        (["novels"], "'novels' is not"),
        (["novels=0.7,letters"], "'letters' is not"),
        (["novels=0.7,"], "'' is not"),
        (["=1"], "'=1' is not"),
        (["novels=much"], "'novels=much' is not"),
        (["novels=-1"], "'novels=-1' is not"),
        (["novels=nan"], "'novels=nan' is not"),
        (["novels=inf"], "'novels=inf' is not"),
        (["5:"], "'' is not"),
        (["a=1,a=2"], "names 'a' twice"),
        (["a=0,b=0"], "no weight above 0"),
        (["a=1", "b=1"], "twice for step 0"),
        (["a=1", "7:b=1", "07:a=1"], "twice for step 7"),
    ],
)
def test_a_mix_that_makes_no_sense_is_refused(mix: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=f"--mix .*{message}"):
        parse_mix(mix)
