"""What is changed in a root that is still locked: at its first start, once the key was typed.

An encrypted root can't be opened here, and its key is not ours. Its initramfs lies outside, in
/boot: a script is added to it that runs when the root is mounted and before the system in it
starts, and writes there what the adaptation would have written. It may run at every start. Pure.
"""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, Sequence, Set, Tuple

from notfallserver.guest.cpio import Entry, file_entry, folder_entry
from notfallserver.guest.network import NETWORK_FOLDERS

SCRIPT = "notfall/late.sh"
ORDER = "scripts/init-bottom/ORDER"  # initramfs-tools
_TOOLS_HOOK = "scripts/init-bottom/notfall"
_DRACUT_HOOKS = "lib/dracut/hooks/pre-pivot"
_ENTER = 'chroot "{root}" /bin/sh </{script}\n'
_MARK = "NOTFALL-END"
_SETS_A_MAC = "hwaddress\\|cloned-mac-address\\|pre-up\\|^[[:space:]]*up\\|MACADDR"


def late_script(
    files: Mapping[str, str], devices: Sequence[Tuple[str, str]], cards: Mapping[str, str]
) -> str:
    """``files`` are written; in fstab and crypttab each of ``devices`` is named as said; network
    configurations that look for a card's address find the new one (``cards``: old -> new)."""
    lines = [
        "# Written by Notfallserver: adapts this system, which could not be opened before.",
        "mount -t proc proc /proc",
        "mount -o remount,rw /",
        'put() { mkdir -p "${1%/*}"; cat >"$1"; chmod 644 "$1"; }',
    ]
    for path, text in files.items():
        lines += [f"put {path} <<'{_MARK}'", text.rstrip("\n"), _MARK]
    for old, new in devices:
        told = re.escape(old).replace("/", "\\/")
        name = new.replace("/", "\\/")
        for path, before in (
            ("/etc/fstab", "^"),
            ("/etc/crypttab", "^\\([^#[:space:]][^[:space:]]*[[:space:]]\\{1,\\}\\)"),
        ):
            kept = "\\1" if "(" in before else ""
            after = "\\2" if kept else "\\1"
            edit = f"s/{before}{told}\\([[:space:]]\\)/{kept}{name}{after}/"
            lines.append(f"[ ! -f {path} ] || sed -i '{edit}' {path}")
    folders = " ".join(NETWORK_FOLDERS)
    for old, new in cards.items():
        edit = f"/{_SETS_A_MAC}/!s/{old}/{new}/Ig"
        lines.append(
            f"for folder in {folders}; do [ ! -d $folder ] || find $folder -type f ! -name "
            f"'10-notfall-*' -exec sed -i '{edit}' '{{}}' +; done"
        )
    lines += ["sync", "mount -o remount,ro /", "umount /proc", ""]
    return "\n".join(lines)


def late_entries(names: Set[str], order: str, script: str) -> List[Entry]:
    """What goes into an initramfs with ``names`` in it; empty where no hook of it is known.

    ``order`` is the list of initramfs-tools' last scripts, as it is.
    """
    entries = [file_entry(SCRIPT, script.encode())]
    if "notfall" not in names:
        entries.insert(0, folder_entry("notfall"))
    folder = next((one for one in sorted(names) if one.endswith(_DRACUT_HOOKS)), "")
    if folder:
        entered = _ENTER.format(root="$NEWROOT", script=SCRIPT)
        return [*entries, file_entry(f"{folder}/99-notfall.sh", entered.encode(), 0o755)]
    if "scripts/functions" not in names:
        return []
    entered = _ENTER.format(root="${rootmnt}", script=SCRIPT)
    hook = f'#!/bin/sh\n[ "$1" = prereqs ] && exit 0\n{entered}'
    call = f'/{_TOOLS_HOOK} "$@"\n'
    if "scripts/init-bottom" not in names:
        entries.append(folder_entry("scripts/init-bottom"))
    entries.append(file_entry(_TOOLS_HOOK, hook.encode(), 0o755))
    text = order if call in order else call + order
    return [*entries, file_entry(ORDER, text.encode())]


def late_files(edits: Mapping[str, Tuple[str, str]]) -> Dict[str, str]:
    """Those of the plan's new files that belong into the root."""
    return {path: text for path, (text, _) in edits.items() if not path.startswith("/boot/")}
