"""GitHub's webhook deliveries as catalog events: who would be notified by GitHub itself, and of what.

One delivery is exactly one event. What notifies nobody (a push, a label, a team) is a `github.delivery`: accepted and
counted. Whoever did it is never told. The assignees and reviewers that a thread is opened with are told by the
`assigned` and `review_requested` deliveries that GitHub sends at the same time, not twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shared import action_url
from shared.catalog.fields import MAX_ID, MAX_INTEGER, MAX_NAMED, MAX_TITLE
from shared.errors import InvalidInput
from shared.mentions import excerpt, mentioned, plain

UNMAPPED = "github.delivery"
#: As many characters of a commit's hash as GitHub shows.
_SHORT_HASH = 7
_REASONS = {"completed": "completed", "not_planned": "not planned", "duplicate": "duplicate"}
_VERDICTS = frozenset({"approved", "changes_requested", "commented"})


@dataclass(frozen=True, slots=True)
class GithubEvent:
    """An event of the catalog. `thread_topic` is the topic that `participants` (logins) are members of from now on.

    `actor` is the login of whoever did it. Without a thread there is no topic and nobody takes part.
    """

    type: str
    subject: str | None
    data: dict[str, Any]
    actor: str | None
    thread_topic: str | None = None
    participants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Thread:
    repository: str
    key: str
    name: str
    kind: str
    title: str | None
    number: int | None
    url: str | None
    members: tuple[str, ...]

    def fields(self) -> dict[str, Any]:
        told = {
            "repository": self.repository,
            "thread": self.key,
            "thread_name": self.name,
            "thread_kind": self.kind,
            "thread_title": self.title,
            "number": self.number,
        }
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Delivery:
    """One delivery, its thread and its actor known. `text` is the object that carries the words."""

    payload: Mapping[str, Any]
    thread: _Thread
    actor: str
    text: Mapping[str, Any]

    @property
    def body(self) -> str:
        value = self.text.get("body")
        return value if isinstance(value, str) else ""

    @property
    def url(self) -> str | None:
        return _url(self.text.get("html_url")) or self.thread.url


@dataclass(frozen=True, slots=True)
class _Told:
    """What a rule makes of a delivery: a type, its own data, and whether its actor takes part from now on."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    actor_joins: bool = False


def event_of(event_name: str, delivery_id: str, payload: Mapping[str, Any]) -> GithubEvent:
    """Return the one event that a delivery is; it fits the catalog's schema and never raises, whatever the payload.

    `delivery_id` (`X-GitHub-Delivery`) is the event's id and changes nothing here. Recipients are logins as the payload
    writes them; one that is only mentioned stands as it was typed (`respelled` knows better). At most 100 are named:
    participants beyond that are reached by the topic, mentioned people beyond it are not.
    """
    del delivery_id
    thread, actor = _thread(payload), _login(_at(payload, "sender"))
    action = _string(payload.get("action")) or ""
    rule = _RULES.get((event_name, action))
    if thread is None or actor is None or rule is None:
        return _unmapped(event_name, payload, thread, actor)
    text = _at(payload, _TEXT_OF[event_name])
    delivery = _Delivery(payload, thread, actor, text)
    told = rule(delivery)
    if told is None or (thread.title is None and thread.kind != "commit"):
        return _unmapped(event_name, payload, thread, actor)
    data = {"actor_id": actor, **thread.fields(), **told.data}
    joining = [*thread.members, *told.named, *([actor] if told.actor_joins else [])]
    return GithubEvent(told.type, thread.key, data, actor, f"github:{thread.key}", tuple(_distinct(joining)))


def respelled(event: GithubEvent, known: Mapping[str, str]) -> GithubEvent:
    """Return the event with every login as the directory writes it; `known` has recipient ids by lower-case login.

    GitHub's logins are case-insensitive. One that the directory does not have stays as it is.
    """

    def spell(value: Any) -> Any:
        if isinstance(value, list):
            return _distinct(spell(login) for login in value)
        return known.get(value.lower(), value)

    data = {name: spell(value) if name.endswith(("_id", "_ids")) else value for name, value in event.data.items()}
    participants = tuple(_distinct(spell(login) for login in event.participants))
    actor = event.actor and spell(event.actor)
    return replace(event, data=data, actor=actor, participants=participants)


def logins_of(event: GithubEvent) -> frozenset[str]:
    """Return every login that the event names, for one look into the directory."""
    named: set[str] = {*event.participants, *([event.actor] if event.actor else [])}
    for name, value in event.data.items():
        if name.endswith("_id"):
            named.add(value)
        elif name.endswith("_ids"):
            named.update(value)
    return frozenset(named)


def _unmapped(name: str, payload: Mapping[str, Any], thread: _Thread | None, actor: str | None) -> GithubEvent:
    told = {
        "event": plain(name, MAX_TITLE) or "unknown",
        "action": plain(_string(payload.get("action")) or "", MAX_TITLE) or None,
        "repository": _repository(payload),
        "actor_id": actor,
    }
    data = {key: value for key, value in told.items() if value is not None}
    if thread is None:
        return GithubEvent(UNMAPPED, data.get("repository"), data, actor)
    return GithubEvent(UNMAPPED, thread.key, data, actor, f"github:{thread.key}", tuple(_distinct(thread.members)))


# --- the rules: one for each kind of delivery that notifies somebody ---


def _assigned(delivery: _Delivery) -> _Told | None:
    login = _login(_at(delivery.payload, "assignee"))
    if login is None:
        return None
    return _Told("github.assigned", _with_url(delivery, assignee_id=login), (login,))


def _review_requested(delivery: _Delivery) -> _Told | None:
    """A team's review is asked of the team: its members are not in the delivery."""
    login = _login(_at(delivery.payload, "requested_reviewer"))
    if login is None:
        return None
    return _Told("github.review_requested", _with_url(delivery, reviewer_id=login), (login,))


def _opened(delivery: _Delivery) -> _Told | None:
    return _mention(delivery, mentioned(delivery.body))


def _edited(delivery: _Delivery) -> _Told | None:
    """Only those are told whom the text did not mention before."""
    before = _string(_at(delivery.payload, "changes", "body").get("from"))
    if before is None:
        return None
    old = {login.lower() for login in mentioned(before)}
    return _mention(delivery, [login for login in mentioned(delivery.body) if login.lower() not in old])


def _mention(delivery: _Delivery, logins: list[str]) -> _Told | None:
    told = _others(delivery, logins)
    if not told:
        return None
    return _Told("github.mentioned", _with_text(delivery, mentioned_ids=told), tuple(told))


def _commented(delivery: _Delivery) -> _Told:
    people = _people(delivery)
    return _Told("github.commented", _with_text(delivery, **people), tuple(people["mentioned_ids"]), actor_joins=True)


def _reviewed(delivery: _Delivery) -> _Told | None:
    """A review that only collects comments on lines is told by their own deliveries."""
    verdict = (_string(delivery.text.get("state")) or "").lower()
    if verdict not in _VERDICTS or (verdict == "commented" and not excerpt(delivery.body)):
        return None
    people = _people(delivery)
    data = _with_text(delivery, verdict=verdict, **people)
    return _Told("github.reviewed", data, tuple(people["mentioned_ids"]), actor_joins=True)


def _dismissed(delivery: _Delivery) -> _Told:
    """The review's author is told with the thread's participants; its words were told when it was submitted."""
    told = _others(delivery, _with(_login(_at(delivery.text, "user")), delivery.thread.members))
    data = _with_url(delivery, verdict="dismissed", mentioned_ids=[], participant_ids=told)
    return _Told("github.reviewed", data, actor_joins=True)


def _closed(delivery: _Delivery) -> _Told:
    if delivery.text.get("merged") is True:
        return _changed(delivery, "merged")
    return _changed(delivery, "closed", reason=_REASONS.get(str(delivery.text.get("state_reason")).lower()))


def _reopened(delivery: _Delivery) -> _Told:
    return _changed(delivery, "reopened")


def _answered(delivery: _Delivery) -> _Told:
    """Whoever wrote the answer takes part."""
    author = _login(_at(delivery.payload, "answer", "user"))
    return _changed(delivery, "answered", author)


def _changed(delivery: _Delivery, state: str, joins: str | None = None, reason: str | None = None) -> _Told:
    told = _others(delivery, _with(joins, delivery.thread.members))
    data = {"participant_ids": told, "state": state, **({"reason": reason} if reason else {})}
    return _Told("github.state_changed", _with_url(delivery, **data), (joins,) if joins else (), actor_joins=True)


_Rule = Callable[[_Delivery], _Told | None]
_RULES: dict[tuple[str, str], _Rule] = {
    ("issues", "opened"): _opened,
    ("issues", "edited"): _edited,
    ("issues", "assigned"): _assigned,
    ("issues", "closed"): _closed,
    ("issues", "reopened"): _reopened,
    ("issue_comment", "created"): _commented,
    ("issue_comment", "edited"): _edited,
    ("pull_request", "opened"): _opened,
    ("pull_request", "edited"): _edited,
    ("pull_request", "assigned"): _assigned,
    ("pull_request", "review_requested"): _review_requested,
    ("pull_request", "closed"): _closed,
    ("pull_request", "reopened"): _reopened,
    ("pull_request_review", "submitted"): _reviewed,
    ("pull_request_review", "edited"): _edited,
    ("pull_request_review", "dismissed"): _dismissed,
    ("pull_request_review_comment", "created"): _commented,
    ("pull_request_review_comment", "edited"): _edited,
    ("commit_comment", "created"): _commented,
    ("discussion", "created"): _opened,
    ("discussion", "edited"): _edited,
    ("discussion", "answered"): _answered,
    ("discussion", "closed"): _closed,
    ("discussion", "reopened"): _reopened,
    ("discussion_comment", "created"): _commented,
    ("discussion_comment", "edited"): _edited,
}
#: The object of a delivery that carries the words which people are mentioned in.
_TEXT_OF = {
    "issues": "issue",
    "issue_comment": "comment",
    "pull_request": "pull_request",
    "pull_request_review": "review",
    "pull_request_review_comment": "comment",
    "commit_comment": "comment",
    "discussion": "discussion",
    "discussion_comment": "comment",
}


def _people(delivery: _Delivery) -> dict[str, list[str]]:
    """Return the mentioned ones and the other participants, at most 100 together, without the actor."""
    named = _others(delivery, mentioned(delivery.body))
    taken = {login.lower() for login in named}
    others = [login for login in _others(delivery, delivery.thread.members) if login.lower() not in taken]
    return {"mentioned_ids": named, "participant_ids": others[: MAX_NAMED - len(named)]}


def _others(delivery: _Delivery, logins: Iterable[str]) -> list[str]:
    """Return the logins but the actor's, spelled as the thread's members are, at most 100."""
    spelling = {login.lower(): login for login in delivery.thread.members}
    spelled = _distinct(spelling.get(login.lower(), login) for login in logins)
    return [login for login in spelled if login.lower() != delivery.actor.lower()][:MAX_NAMED]


def _with(login: str | None, members: tuple[str, ...]) -> list[str]:
    return [*([] if login is None else [login]), *members]


def _with_url(delivery: _Delivery, **data: Any) -> dict[str, Any]:
    return {**data, "url": delivery.url} if delivery.url else data


def _with_text(delivery: _Delivery, **data: Any) -> dict[str, Any]:
    quoted = excerpt(delivery.body)
    return _with_url(delivery, **data, **({"excerpt": quoted} if quoted else {}))


# --- reading a payload of which nothing is certain ---


def _thread(payload: Mapping[str, Any]) -> _Thread | None:
    repository = _repository(payload)
    if repository is None:
        return None
    for name, kind in (("issue", "issue"), ("pull_request", "pull request"), ("discussion", "discussion")):
        found = _at(payload, name)
        if found:
            pull_request = kind == "issue" and isinstance(found.get("pull_request"), Mapping)
            return _numbered(repository, "pull request" if pull_request else kind, found)
    return _commit(repository, _at(payload, "comment"))


def _numbered(repository: str, kind: str, found: Mapping[str, Any]) -> _Thread | None:
    number = found.get("number")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= MAX_INTEGER:
        return None
    name = f"{repository}#{number}"
    if len(name) > MAX_ID:
        return None
    title = plain(_string(found.get("title")) or "", MAX_TITLE) or None
    return _Thread(repository, name, name, kind, title, number, _url(found.get("html_url")), _members(found))


def _commit(repository: str, comment: Mapping[str, Any]) -> _Thread | None:
    commit = _id(comment.get("commit_id"))
    if commit is None or len(repository) + 1 + len(commit) > MAX_ID:
        return None
    name = f"{repository}@{commit[:_SHORT_HASH]}"
    return _Thread(repository, f"{repository}@{commit}", name, "commit", None, None, _url(comment.get("html_url")), ())


def _members(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Return who takes part by the thread's own words: its author, assignees and requested reviewers."""
    people = [found.get("user"), *_list(found.get("assignees")), *_list(found.get("requested_reviewers"))]
    logins = (_login(person) for person in people)
    return tuple(_distinct(login for login in logins if login is not None))


def _repository(payload: Mapping[str, Any]) -> str | None:
    return _id(_at(payload, "repository").get("full_name"))


def _at(payload: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """Return the object at `path`, empty where there is none."""
    found: Any = payload
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _login(person: Any) -> str | None:
    return _id(person.get("login")) if isinstance(person, Mapping) else None


def _id(value: Any) -> str | None:
    """Return an id of the catalog's form; anything else, control characters included, is none."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        return None
    return value if value.isprintable() and plain(value, MAX_ID) == value else None


def _url(value: Any) -> str | None:
    try:
        return action_url.normalise(value) if isinstance(value, str) else None
    except InvalidInput:
        return None


def _distinct(logins: Iterable[str]) -> list[str]:
    """Return each login once, whatever its case, in order and as first written."""
    first: dict[str, str] = {}
    for login in logins:
        first.setdefault(login.lower(), login)
    return list(first.values())
