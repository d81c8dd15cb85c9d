import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_agent.access.errors import PasswordRuleError
from server_agent.access.passwords import (
    MAX_CHARACTERS,
    MIN_CHARACTERS,
    check_rule,
    generate_password,
    hash_password,
    is_right,
)

SECRET = "a long enough secret"
KEPT = hash_password(SECRET)


def test_right_password_is_right() -> None:
    """The password that was hashed is right."""
    assert is_right(SECRET, kept=KEPT)


@pytest.mark.parametrize("wrong", ["", SECRET + " ", SECRET.upper(), SECRET[:-1]])
def test_other_passwords_are_wrong(wrong: str) -> None:
    """Nothing that only resembles the password is right."""
    assert not is_right(wrong, kept=KEPT)


def test_what_is_kept_does_not_tell() -> None:
    """What is kept is argon2id with a salt: it holds no password, and twice is not the same."""
    assert KEPT.startswith("$argon2id$")
    assert SECRET not in KEPT
    assert hash_password(SECRET) != KEPT


def test_endless_password_is_not_hashed() -> None:
    """A password longer than the rule allows is wrong, even if it is the one that was hashed."""
    long = "x" * (MAX_CHARACTERS + 1)

    assert not is_right(long, kept=hash_password(long))


@given(st.text(min_size=MIN_CHARACTERS, max_size=MAX_CHARACTERS))
def test_rule_takes_what_fits(password: str) -> None:
    """12 to 128 characters of any kind are a password."""
    check_rule(password)


@given(st.text(max_size=MIN_CHARACTERS - 1) | st.text(min_size=MAX_CHARACTERS + 1, max_size=300))
def test_rule_refuses_the_rest(password: str) -> None:
    """Shorter and longer ones are refused, and the refusal does not repeat them."""
    with pytest.raises(PasswordRuleError) as refused:
        check_rule(password)

    assert len(password) < 4 or password not in str(refused.value)


def test_generated_passwords_can_be_read_out() -> None:
    """A generated one is allowed, differs each time, and has no letters that look alike."""
    drawn = {generate_password() for _ in range(50)}

    assert len(drawn) == 50
    for password in drawn:
        check_rule(password)
        assert not set(password) & set("0Oo1lI")
