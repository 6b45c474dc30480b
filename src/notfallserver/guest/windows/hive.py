"""A hive that is open: typed access over hivex, which is at hand in the rescue system only.

hivex knows nothing of transaction logs: nothing may be changed but what :mod:`hive_logs` made
whole.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar

import hivex

from notfallserver.guest.windows.registry import DeleteKey, RegistryStep, SetValue, Value
from notfallserver.wire.errors import NotfallError


@dataclass(frozen=True)
class Key:
    """``values`` by name in lower case; ``keys``: the names of those below it."""

    name: str
    values: Dict[str, Value]
    keys: Tuple[str, ...]

    def number(self, name: str) -> int:
        """-1 where there is none."""
        return self.values[name].number() if name in self.values else -1

    def text(self, name: str) -> str:
        return self.values[name].text() if name in self.values else ""


class _Handle(hivex.Hivex):  # type: ignore[misc]
    """hivex' own complains at its end when it could not be opened."""

    def __del__(self) -> None:
        if hasattr(self, "_o"):
            super().__del__()


_T = TypeVar("_T", bound=Callable[..., Any])


def _or_damaged(method: _T) -> _T:
    """What hivex finds wrong is told in our words."""

    @functools.wraps(method)
    def told(self: Hive, *arguments: Any) -> Any:
        try:
            return method(self, *arguments)
        except (RuntimeError, ValueError, OSError) as error:
            raise _damaged(self.path, error) from None

    return told  # type: ignore[return-value]


class Hive:
    """Nothing is written before :meth:`commit`. It holds its file open until the end of ``with``,
    and a file that is open can't be taken off an NTFS volume."""

    _hive: Any
    _root: Any

    def __init__(self, path: Path, writable: bool = False) -> None:
        self.path = path
        self._open(writable)

    def __enter__(self) -> Hive:
        return self

    def __exit__(self, *error: object) -> None:
        self._root = None
        self._hive = None  # the last reference closes it

    @_or_damaged
    def _open(self, writable: bool) -> None:
        self._hive = _Handle(str(self.path), write=writable)
        self._root = self._hive.root()

    @_or_damaged
    def has(self, key: str) -> bool:
        return self._find(key) is not None

    @_or_damaged
    def below(self, key: str) -> List[Key]:
        """The keys right below; none where the key is absent."""
        node = self._find(key)
        children = [] if node is None else self._hive.node_children(node)
        return [
            Key(
                self._hive.node_name(one),
                self._values(one),
                tuple(self._hive.node_name(each) for each in self._hive.node_children(one)),
            )
            for one in children
        ]

    @_or_damaged
    def values(self, key: str) -> Dict[str, Value]:
        """By name in lower case; the unnamed one has an empty name."""
        node = self._find(key)
        return {} if node is None else self._values(node)

    def value(self, key: str, name: str) -> Optional[Value]:
        return self.values(key).get(name.lower())

    def number(self, key: str, name: str) -> int:
        """-1 where there is none."""
        value = self.value(key, name)
        return value.number() if value else -1

    def text(self, key: str, name: str) -> str:
        value = self.value(key, name)
        return value.text() if value else ""

    @_or_damaged
    def apply(self, step: RegistryStep) -> None:
        """Each may be done again."""
        if isinstance(step, SetValue):
            value = {"key": step.name, "t": step.value.kind, "value": step.value.data}
            self._hive.node_set_value(self._made(step.key), value)
        elif isinstance(step, DeleteKey):
            node = self._find(step.key)
            if node is not None:
                self._hive.node_delete_child(node)
        else:
            self._delete_value(step.key, step.name)

    def shows(self, step: RegistryStep) -> bool:
        """Whether it was done."""
        if isinstance(step, SetValue):
            return self.value(step.key, step.name) == step.value
        if isinstance(step, DeleteKey):
            return not self.has(step.key)
        return self.value(step.key, step.name) is None

    def commit(self) -> None:
        try:
            self._hive.commit(None)
        except RuntimeError as error:
            raise NotfallError(
                "hive-not-written",
                f"The registry file {self.path.name} could not be written: {error}.",
                "Make some room on the system's drive of the primary, then replicate again.",
            ) from None

    def _values(self, node: Any) -> Dict[str, Value]:
        found = {}
        for one in self._hive.node_values(node):
            kind, data = self._hive.value_value(one)
            found[self._hive.value_key(one).lower()] = Value(kind, data)
        return found

    def _find(self, key: str) -> Any:
        node = self._root
        for part in _parts(key):
            node = self._hive.node_get_child(node, part)
            if node is None:
                return None
        return node

    def _made(self, key: str) -> Any:
        node = self._root
        for part in _parts(key):
            below = self._hive.node_get_child(node, part)
            node = self._hive.node_add_child(node, part) if below is None else below
        return node

    def _delete_value(self, key: str, name: str) -> None:
        node = self._find(key)
        if node is None or self.value(key, name) is None:
            return
        kept = []
        for one in self._hive.node_values(node):
            told = self._hive.value_key(one)
            if told.lower() != name.lower():
                kind, data = self._hive.value_value(one)
                kept.append({"key": told, "t": kind, "value": data})
        self._hive.node_set_values(node, kept)


def _parts(key: str) -> List[str]:
    return [one for one in key.split("\\") if one]


def _damaged(path: Path, error: Exception) -> NotfallError:
    return NotfallError(
        "hive-damaged",
        f"The registry file {path.name} is damaged: {error}.",
        "Use an older version of this primary, and look at the disks of the original.",
    )
