"""Roles, signatures, approvals and policies as they are decided, without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from stranglerfig.access import credentials, signing
from stranglerfig.access.approvals import Approval, counted
from stranglerfig.access.model import Principal, Role, needed, permit
from stranglerfig.access.settings import AccessSettings, Policy, wanted
from stranglerfig.foundation.errors import FigError

NOW = datetime(2026, 11, 23, tzinfo=UTC)
TOKEN = "fig_0123456789abcdef_c2VjcmV0LXRoYXQtaXMtbG9uZw"
OIDC = {"issuer": "https://id.example.org", "client_id": "fig", "redirect": "https://fig.example.org/login/done"}


@pytest.mark.parametrize(
    ("verb", "args", "role"),
    [
        ("plan", {}, Role.VIEWER),
        ("advance", {"dry_run": True}, Role.VIEWER),
        ("advance", {"dry_run": True, "override": "because"}, Role.VIEWER),
        ("advance", {}, Role.OPERATOR),
        ("rollback", {}, Role.OPERATOR),
        ("abort", {}, Role.OPERATOR),
        ("verify", {"repair": True}, Role.OPERATOR),
        ("a verb of next year", {}, Role.OPERATOR),
        ("advance", {"override": "because"}, Role.APPROVER),
        ("advance", {"override_window": "because"}, Role.APPROVER),
        ("approve", {}, Role.APPROVER),
        ("decommission-drop", {}, Role.APPROVER),
    ],
)
def test_a_command_wants_a_role_and_lesser_ones_are_refused(verb: str, args: dict[str, Any], role: Role) -> None:
    assert needed(verb, args) is role
    for other in Role:
        who = Principal("anna", "anna", other, "token")
        if other.covers(role):
            permit(who, verb, args)
        else:
            with pytest.raises(FigError) as refused:
                permit(who, verb, args)
            assert refused.value.code == "not_permitted" and role.value in refused.value.message


def test_a_signature_holds_for_its_command_alone() -> None:
    args = {"dry_run": False, "wait": 2.0, "override": None}
    signature = signing.sign(TOKEN, "inventory", "advance", args, "anna@desk, pid 1")
    _, key = credentials.split(TOKEN)
    asked = ("inventory", "advance", {"override": None, "dry_run": False, "wait": 2}, "anna@desk, pid 1")
    assert signing.credential_of(signature) == "0123456789abcdef"
    assert signing.holds(signature, key, *asked)
    assert TOKEN.rpartition("_")[2] not in str(signature) and key.hex() not in str(signature)
    assert not signing.holds(signature, b"\0" * 32, *asked)
    changed = [
        ("billing", *asked[1:]),
        ("inventory", "abort", *asked[2:]),
        (*asked[:2], {**asked[2], "override": "because"}, asked[3]),
        (*asked[:3], "somebody@else, pid 1"),
    ]
    assert not any(signing.holds(signature, key, *other) for other in changed)
    assert not signing.holds({**signature, "body": signature["body"].replace("advance", "abort")}, key, *asked)
    assert not signing.holds({}, key, *asked)
    assert signing.sign(TOKEN, *asked)["mac"] != signature["mac"], "each signature is another"


@pytest.mark.parametrize("text", ["", "fig", "fig_", "fig__", "fig_a_", "fig__b", "other_a_b", "fig_ä_b", "Bearer x"])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(FigError) as refused:
        credentials.split(text)
    assert refused.value.code == "token_refused"


def test_of_one_person_one_approval_counts_and_of_the_asker_none() -> None:
    def given_by(person: str, name: str, minutes: int) -> Approval:
        return Approval(person, name, NOW + timedelta(minutes=minutes), NOW + timedelta(days=1))

    found = [given_by("anna", "anna", 0), given_by("anna", "anna-laptop", 5), given_by("bert", "bert", 1)]
    assert [(each.person, each.name) for each in counted(found, "carla")] == [("anna", "anna-laptop"), ("bert", "bert")]
    assert [each.person for each in counted(found, "anna")] == ["bert"]
    assert counted([], "anna") == []


def test_of_two_policies_neither_weakens_the_other() -> None:
    estate = Policy.model_validate(
        {"approvals": {"writes": 2}, "approval_lasts": "4h", "windows": {"writes": "Mon-Fri 09:00-16:00 UTC"}}
    )
    context = Policy.model_validate(
        {"approvals": {"writes": 1, "reads": 1}, "windows": {"writes": ["daily 10:00-12:00 UTC"]}}
    )
    assert wanted([estate, context], "writes") == (
        2,
        [("Mon-Fri 09:00-16:00 UTC",), ("daily 10:00-12:00 UTC",)],
        4 * 3600,
    )
    assert wanted([estate, context], "reads") == (1, [], 4 * 3600)
    assert wanted([], "reads") == (0, [], 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"approvals": {"writes": 0}},
        {"approvals": {"prepare": 1}},
        {"windows": {"writes": []}},
        {"windows": {"writes": "whenever"}},
        {"approval_lasts": "0h"},
    ],
)
def test_a_policy_that_says_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "http://id.example.org"},
        {"redirect": "http://fig.example.org/login/done"},
        {"redirect": "https://fig.example.org/elsewhere"},
        {"issuer": "http://127.0.0.1@evil.example.org"},
        {"roles": {}},
        {"roles": {"ops": "root"}},
    ],
)
def test_a_login_in_the_clear_or_without_roles_is_refused(wrong: dict[str, Any]) -> None:
    right = {**OIDC, "roles": {"ops": "operator"}}
    assert AccessSettings.model_validate({"oidc": right}).oidc is not None
    assert AccessSettings.model_validate({"oidc": {**right, "issuer": "http://127.0.0.1:9000"}}).oidc is not None
    with pytest.raises(ValidationError):
        AccessSettings.model_validate({"oidc": {**right, **wrong}})
