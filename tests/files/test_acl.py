from __future__ import annotations

import pytest

from tintype.files.acl import MOST_RULES, AccessList, Decision


def test_the_first_rule_that_names_a_reader_decides_else_the_default() -> None:
    acl = AccessList(Decision.FORBID, (("ann", Decision.ALLOW), ("ann", Decision.HIDE), ("bob", Decision.HIDE)))
    assert acl.decide({"ann", "k1"}) is Decision.ALLOW
    assert acl.decide({"bob"}) is Decision.HIDE
    assert acl.decide({"eve"}) is Decision.FORBID
    assert acl.decide(set()) is Decision.FORBID


def test_it_comes_back_from_json_as_it_went() -> None:
    acl = AccessList(Decision.HIDE, (("ann", Decision.ALLOW),))
    assert AccessList.from_json(acl.to_json()) == acl
    assert AccessList.from_json({}) == AccessList()


def test_decisions_are_known_in_any_case_and_an_empty_default_is_none() -> None:
    given = {"default": "", "rules": [{"user": "ann", "decision": " Hide "}]}
    assert AccessList.from_json(given) == AccessList(Decision.ALLOW, (("ann", Decision.HIDE),))
    assert AccessList.from_json({"default": "FORBID"}).default is Decision.FORBID


def test_only_a_list_that_keeps_nobody_out_is_open() -> None:
    assert AccessList().is_open
    assert not AccessList(Decision.HIDE).is_open
    assert not AccessList(Decision.ALLOW, (("ann", Decision.FORBID),)).is_open


def test_too_many_rules_are_refused() -> None:
    rule = {"user": "ann", "decision": "allow"}
    AccessList.from_json({"rules": [rule] * MOST_RULES})
    with pytest.raises(ValueError, match="at most"):
        AccessList.from_json({"rules": [rule] * (MOST_RULES + 1)})
