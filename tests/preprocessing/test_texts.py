"""How the texts of stage 2 are handed to other processes."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.preprocessing.texts import _parcels


@given(sizes=st.lists(st.integers(0, 100), max_size=30), least=st.integers(0, 200))
def test_short_texts_are_sent_together_in_order_and_none_twice(
    sizes: list[int], least: int
) -> None:
    work = [Path(str(number)) for number in range(len(sizes))]
    parcels = list(_parcels(work, sizes, least))
    assert [job for parcel in parcels for job in parcel] == work
    size = dict(zip(work, sizes, strict=True))
    for parcel in parcels[:-1]:
        assert sum(size[job] for job in parcel if isinstance(job, Path)) >= least
    for parcel in parcels:
        assert sum(size[job] for job in parcel[:-1] if isinstance(job, Path)) < max(least, 1)
