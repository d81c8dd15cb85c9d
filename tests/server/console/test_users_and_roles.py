import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.identifiers import OfficerId
from server_agent.access.errors import OfficerNumberError, UserNameError
from server_agent.access.roles import PERMISSIONS, Permission, Role, may, sees_own_footage_only
from server_agent.access.users import User, parse_user_name


def test_every_role_has_its_row() -> None:
    """Each office of the regulation is in the table, and may do something."""
    assert set(PERMISSIONS) == set(Role)
    assert all(PERMISSIONS.values())


@pytest.mark.parametrize("role", [Role.SYSTEM_ADMINISTRATOR, Role.AUDITOR])
def test_who_runs_or_checks_sees_no_footage(role: Role) -> None:
    """System administrators and auditors see no footage."""
    assert not may(role, Permission.SEE_FOOTAGE)


def test_an_auditor_reads_the_log_only() -> None:
    """An auditor has no other permission than to read who watched what."""
    assert PERMISSIONS[Role.AUDITOR] == {Permission.READ_VIEWINGS}


def test_officers_see_their_own() -> None:
    """Officers, and nobody else, are restricted to their own recordings."""
    assert [role for role in Role if sees_own_footage_only(role)] == [Role.OFFICER]


@given(st.text(max_size=80))
def test_a_name_has_one_form(typed: str) -> None:
    """What parses, parses again to itself, can be read, and has no blanks around it."""
    try:
        name = parse_user_name(typed)
    except UserNameError:
        return

    assert parse_user_name(name) == name
    assert name.isprintable()
    assert name == name.strip() != ""


@pytest.mark.parametrize(
    ("typed", "name"), [("ZhangWei", "zhangwei"), ("ｚｗ１", "zw1"), ("张伟", "张伟")]
)
def test_typing_differently_is_the_same_name(typed: str, name: str) -> None:
    """Capitals and full-width letters do not make another account."""
    assert parse_user_name(typed) == name


@pytest.mark.parametrize("typed", ["", " x", "x ", "a\nb", "a\u202eb", "x" * 65])
def test_unreadable_names_are_refused(typed: str) -> None:
    """Nothing invisible, nothing endless."""
    with pytest.raises(UserNameError):
        parse_user_name(typed)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("officer", [None, OfficerId("012301")])
def test_a_number_belongs_to_an_officer(role: Role, officer: OfficerId | None) -> None:
    """An officer without a number would see everything; nobody else has one."""
    if (role is Role.OFFICER) == (officer is not None):
        assert User(name=parse_user_name("x"), role=role, officer=officer).officer == officer
    else:
        with pytest.raises(OfficerNumberError):
            User(name=parse_user_name("x"), role=role, officer=officer)
