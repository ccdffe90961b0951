import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.objects.quantity import MAX_INT64, NANO, QuantityError, milli_value, nano, value

SUFFIXES: dict[str, Fraction | int] = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
    "e3": 1000, "E3": 1000, "e+2": 100, "e-2": Fraction(1, 100), "E0": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "milli"),
    [
        ("1", 1000), ("0.5", 500), (".5", 500), ("5.", 5000), ("250m", 250), ("+3", 3000),
        ("1e3", 1_000_000), ("1E3", 1_000_000), ("1E", 10**21), ("2k", 2_000_000),
        ("100u", 1), ("1n", 1), ("0.1m", 1), ("1.0005", 1001), ("-1.0005", -1001),
        ("1Ki", 1_024_000), ("0.5Mi", 524_288_000), ("0", 0), ("0e99999", 0),
    ],
)  # fmt: skip
def test_milli_value_rounds_away_from_zero(text: str, milli: int) -> None:
    assert milli_value(text) == milli


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1 Gi", "Gi", "m", ".", "+", "-", "1ki", "1KI", "1g", "1e", "1e1.5", "0x10",
     "1_000", "1,5", "١", "NaN", "inf", "1mm", "1Kim", "--1", "1e3Ki"],
)  # fmt: skip
def test_what_kubernetes_refuses_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(QuantityError) as caught:
        nano(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("number", [True, False])
def test_a_boolean_is_no_quantity(number: bool) -> None:
    with pytest.raises(QuantityError):
        nano(number)


def test_huge_values_are_capped_and_tiny_ones_rounded_up_without_huge_integers() -> None:
    assert value("9E") == 9 * 10**18
    assert value("10E") == MAX_INT64
    assert value("1e999999999") == MAX_INT64
    assert value("-1e999999999") == -MAX_INT64
    assert nano("1e-999999999") == 1


@given(
    sign=st.sampled_from(["", "+", "-"]),
    whole=st.text("0123456789", min_size=1, max_size=12),
    fraction=st.none() | st.text("0123456789", max_size=12),
    suffix=st.sampled_from(sorted(SUFFIXES)),
)
def test_every_form_equals_exact_arithmetic(
    sign: str, whole: str, fraction: str | None, suffix: str
) -> None:
    text = sign + whole + ("" if fraction is None else f".{fraction}") + suffix
    exact = Fraction(int(whole))
    if fraction:
        exact += Fraction(int(fraction), 10 ** len(fraction))
    exact = exact * SUFFIXES[suffix]
    wanted = min(-(-(exact * NANO).numerator // (exact * NANO).denominator), MAX_INT64 * NANO)
    assert nano(text) == (-wanted if sign == "-" else wanted)


@given(st.text(max_size=20))
def test_no_text_raises_anything_but_quantity_error(text: str) -> None:
    with contextlib.suppress(QuantityError):
        nano(text)
