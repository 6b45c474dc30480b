"""What can't be done, in plain words: by the error's code, because its own text has details and is
English. Pure."""

from __future__ import annotations

from notfallserver.server.web.words.exports import EXPORTS
from notfallserver.server.web.words.imports import IMPORTS
from notfallserver.server.web.words.offloads import OFFLOADS
from notfallserver.server.web.words.report import REPORTS
from notfallserver.server.web.words.retention import RETENTION
from notfallserver.server.web.words.windows import WINDOWS

PEOPLE = {
    "login-refused": ("Name or password is wrong.", "Try again."),
    "code-refused": (
        "Name, password or code is wrong.",
        "A code is good once, and for about a minute. Take the next one.",
    ),
    "login-over": (
        "This took too long, or too many codes were tried.",
        "Begin again with name and password.",
    ),
    "too-many-tries": ("Too many wrong tries.", "Wait five minutes."),
    "too-many-tries-today": (
        "Too many wrong tries within a day.",
        "Use a browser that has logged in before, or ask an administrator for a new password.",
    ),
    "wrong-code": (
        "The code is not the right one.",
        "Type the one that the telephone shows now. Its clock must be right.",
    ),
    "wrong-password": ("This is not your present password.", "Try again."),
    "passwords-differ": ("The two new passwords differ.", "Type them again."),
    "password-short": (
        "The password is too short: it needs at least 12 characters.",
        "Take a longer one, such as four words in a row.",
    ),
    "password-simple": (
        "The password is the name, or repeats a few characters.",
        "Take another one, such as four words in a row.",
    ),
    "bad-person-name": (
        "This can't be the name of a person here.",
        "Use letters, digits, spaces, dots and hyphens.",
    ),
    "person-exists": ("There is somebody of this name already.", "Take another name."),
    "no-such-person": ("There is nobody of this name.", "Choose somebody from the list."),
    "last-administrator": (
        "Nobody would be left who may add people and change settings.",
        "Make somebody else an administrator first.",
    ),
    "yourself-not-confirmed": ("This is about yourself.", "Type your name to confirm it."),
    "second-factor-first": (
        "You have no second factor yourself yet.",
        "Set up yours first: click on your name at the top.",
    ),
    "second-factor-rule": (
        "Everybody needs a second factor here.",
        "An administrator can change that.",
    ),
    "second-factor-on": (
        "There is a second factor already.",
        "Look at your account.",
    ),
    "second-factor-none": (
        "There is no second factor now.",
        "Look whether somebody else has switched it off.",
    ),
}
"""About people and their logins."""
PROBLEMS: dict[str, tuple[str, str]] = {
    "guard-alive": (
        "The server still shows signs of life, so its stand-in was not started.",
        "Switch the server off, or pull its power plug. Then look again.",
    ),
    "guard-cut-off": (
        "The emergency server is cut off from the network, so the stand-in was not started.",
        "Check its network cable and the switch. Then look again.",
    ),
    "guard-split": (
        "The router doesn't answer, though others do, so the stand-in was not started: perhaps the "
        "server works on behind a broken connection.",
        "Check the switches and the router, or go to the server and look whether it is off.",
    ),
    "guard-no-witness": (
        "Nobody could say whether the network works, so the stand-in was not started.",
        "Go to the server and look whether it is off.",
    ),
    "guard-cannot-tell": (
        "It can't be told whether the server is down, so the stand-in was not started.",
        "Go to the server and look whether it is off.",
    ),
    "reason-missing": (
        "A reason is needed to start the stand-in all the same.",
        "Write in a few words why the server is known to be off.",
    ),
    "not-in-this-state": (
        "That is not possible now: something else has happened meanwhile.",
        "Look at the server's page and decide again.",
    ),
    "state-changed": (
        "That is not possible now: something else has happened meanwhile.",
        "Look at the server's page and decide again.",
    ),
    "no-version": (
        "There is no copy of this server yet.",
        "Wait until the first copy is complete.",
    ),
    "no-such-target": (
        "No machine shows this code.",
        "Compare it with the machine's screen, letter by letter.",
    ),
    "ambiguous-code": (
        "Several machines show this code.",
        "Restart yours: it shows a new one.",
    ),
    "target-in-use": (
        "This machine belongs to another recovery already.",
        "Break that one off first, or use another machine.",
    ),
    "plan-changed": (
        "The machine's disks are no longer as they were shown. Nothing was written.",
        "Type the code again and look at what will happen now.",
    ),
    "not-ready": (
        "The new machine has not caught up yet.",
        "Wait until the page says that it is ready.",
    ),
    "hand-over-unknown": (
        "This server can't be shut down in order from here.",
        "Shut it down yourself. When it does not answer any more, start its stand-in.",
    ),
    "original-silent": (
        "The server does not answer, so it can't be handed over.",
        "If it is down, start its stand-in.",
    ),
    "hand-over-not-prepared": (
        "No copy of this server is ready to start yet.",
        "Wait until its page says that one is.",
    ),
    "hand-over-blocked": (
        "Something stands in the way of its stand-in.",
        "Its page lists what. Mend that first.",
    ),
    "hand-over-no-memory": (
        "The emergency server has not enough free memory for this stand-in.",
        "End what else runs on it, or call whoever looks after it.",
    ),
    "hand-over-unguarded": (
        "The emergency server could not tell afterwards whether the server is really off.",
        "Check its network cable. If it stays so, call whoever looks after it.",
    ),
    "handover-under-way": (
        "The server is being handed over to its stand-in.",
        "Look at its page and wait for the end.",
    ),
    "handover-past-return": (
        "The server has switched itself off already.",
        "Wait until its stand-in works.",
    ),
    "services-not-stopped": (
        "Not everything on the server could be shut down. It was started again and works on.",
        "Call whoever looks after the server: one of its programs does not stop.",
    ),
    "not-still": (
        "One of the server's disks can't be held still, so nothing was handed over. It works on.",
        "Shut the server down yourself, then start its stand-in.",
    ),
    "freeze-too-long": (
        "The last changes took too long to copy, so nothing was handed over. The server works on.",
        "Try again when less is going on.",
    ),
    "no-farewell": (
        "The server did not switch itself off, so its stand-in was not started.",
        "Look whether it works. If it does, try once more.",
    ),
    "no-trial": ("There is no trial period now.", "Look at the server's page."),
    "nothing-to-undo": ("There is nothing to break off now.", "Look at the server's page."),
    "hypervisor-unreachable": (
        "The part of the emergency server that runs stand-ins does not answer.",
        "Restart the emergency server. If it stays so, call whoever looks after it.",
    ),
    "stand-in-elsewhere": (
        "Another emergency server runs this server's stand-in already.",
        "Go on there. Two stand-ins at once would damage your data.",
    ),
    "stand-in-off": (
        "The stand-in went off while it started.",
        "Try once more. If it happens again, call whoever looks after the server.",
    ),
    "stand-in-not-on": ("The stand-in is off already.", "Switch it on when it shall work again."),
    "machine-start": (
        "The stand-in could not be switched on.",
        "Try once more. If it happens again, call whoever looks after the emergency server.",
    ),
    "stand-in-works": (
        "The stand-in is at work, so the original is not copied.",
        "Bring the server back first.",
    ),
    "replication-under-way": ("A copy is being made already.", "Wait until it is complete."),
    "primary-busy": ("Something else is under way for this server.", "Wait until it is over."),
    "agent-silent": (
        "The server's agent does not call, so no copy can be made.",
        "Look whether the server is on and connected to the network.",
    ),
    "agent-lost": (
        "The server's agent stopped calling in the middle of a copy.",
        "Look whether the server is on and connected. The copy goes on by itself then.",
    ),
    "too-few-disks": (
        "The machine has fewer free disks than are needed.",
        "Put in another disk, or use another machine.",
    ),
    "target-disk-too-small": (
        "A disk of the machine is too small, even if all is made as small as it can be.",
        "Use a larger disk. The details say how large it must be at least.",
    ),
    "layout-not-possible": (
        "What several disks held can't be put onto one here.",
        "Use as many disks as the old machine had.",
    ),
    "no-free-partition": (
        "What several disks held can't be put onto one here.",
        "Use as many disks as the old machine had.",
    ),
    "contents-do-not-fit": (
        "A disk of the machine is too small, even if all is made as small as it can be.",
        "Use a larger disk. The details say how large it must be at least.",
    ),
    "filesystem-damaged": (
        "A file system of the stand-in needs repair before it can be made smaller.",
        "Call whoever looks after the server, or use disks as large as the old ones.",
    ),
    "not-measured": (
        "The emergency server can't look into the copy just now, so it is not known whether it "
        "fits.",
        "Try again in a minute, or use disks as large as the old ones.",
    ),
    "disks-not-clear": (
        "It is not clear which of the machine's disks may be overwritten.",
        "Choose below which disk shall be overwritten.",
    ),
    "firmware-differs": (
        "The machine starts in another way (BIOS or UEFI) than the server's system can.",
        "Change that in its firmware settings, then start it from the medium again.",
    ),
    "sector-size-differs": (
        "The machine's disks have another sector size than the old ones.",
        "Use disks of the same kind.",
    ),
    "target-silent": (
        "The new machine no longer answers.",
        "Look whether it is on and still shows the code.",
    ),
    "pool-full": (
        "The emergency server has no space left for copies.",
        "Old copies must be removed, or it needs larger disks.",
    ),
    "disk-full": (
        "The emergency server's own disk is full; it can't note anything any more.",
        "Make room on it, or give it a larger disk. Copies are not harmed by that.",
    ),
    "no-medium": (
        "The rescue medium is still being built.",
        "Wait a few minutes, then try again.",
    ),
    "files-closed": (
        "The files of this copy are not open any more.",
        "Open the copy again.",
    ),
    "files-lost": (
        "The part of the emergency server that reads the copy no longer answers.",
        "Open the copy again. If it happens again, take another copy.",
    ),
    "too-many-open": (
        "Three copies are open already; more would take too much memory.",
        "Close one of them. A copy that nobody looks at is closed after ten minutes.",
    ),
    "too-many-transfers": (
        "Too many files are being downloaded already.",
        "Wait until one of them is complete.",
    ),
    "no-such-file": ("This is not in the copy.", "Go back to the folder above it."),
    "no-folder": ("This is no folder.", "Go back to the folder above it."),
    "no-file": ("This is no file, so it can't be downloaded.", "Go back to the folder above it."),
    "file-unreadable": (
        "The copy can't be read at this place.",
        "Take it from another copy of the server.",
    ),
    "folder-too-deep": (
        "The folders of this copy are damaged.",
        "Take it from another copy of the server.",
    ),
    "no-such-primary": ("There is no server of this name.", "Choose one from the list."),
    "bad-name": (
        "This can't be the name of a server.",
        "Use letters, digits, dots and hyphens only.",
    ),
    "name-in-use": ("There is a server of this name already.", "Take another name."),
    "bad-address": (
        "This can't be used to reach anybody.",
        "Compare what you have typed with what your provider tells you.",
    ),
    "receiver-exists": ("There is a receiver of this name already.", "Take another name."),
    "receiver-nameless": ("A name is needed.", "Type who is told, such as your own name."),
    "no-such-receiver": ("This receiver is there no longer.", "Choose one from the list."),
    "nothing-chosen": (
        "So nothing would ever be told.",
        "Choose what is told, or a summary.",
    ),
    "no-fence-device": (
        "Nothing is known that could switch this server off from afar.",
        "Name its management board or power strip in the server's settings.",
    ),
    "bad-fence-device": (
        "The device can't be used as it was typed.",
        "It needs its address, mostly a user and a password; more options as NAME=VALUE.",
    ),
    "no-fence-agent": (
        "The program for this device is missing on the emergency server.",
        "Install the package fence-agents there, or choose another device.",
    ),
    "fence-failed": (
        "The device did not switch the server off, or did not answer.",
        "Look whether address, user and password are right. In an emergency: pull the server's "
        "power plug.",
    ),
    "guard-wrong-device": (
        "The server was switched off from afar, but something still answers for it.",
        "Go there and look which machine is on.",
    ),
    "bad-limits": (
        "A limit can't be used as it was typed.",
        "A time needs a beginning and an end; a rate is 0.064 Mbit/s or more.",
    ),
    "bad-settings": (
        "A setting can't be used as it was typed.",
        "Addresses to be asked are numbers such as 192.168.1.1; that of an emergency server is "
        "written https://192.168.1.9:8443. The details say more.",
    ),
    "not-confirmed": (
        "Nothing was removed: the name was not repeated exactly.",
        "Type it as it is shown.",
    ),
    "not-allowed": (
        "You may not do this.",
        "Ask an administrator of the emergency server.",
    ),
    "not-found": ("There is no such page.", "Go back to the list of all servers."),
    "foreign-origin": (
        "The request came from another web site and was refused.",
        "Use the emergency server's own page.",
    ),
    "no-font": (
        "The emergency card can't be drawn: a font is missing.",
        "Install the package fonts-dejavu-core on the emergency server.",
    ),
    "bad-time": ("This is no time.", "Choose day and time of day."),
    "nothing-to-start": (
        "No server was chosen, or none is down any more.",
        "Look at the list of all servers.",
    ),
    "start-plan-runs": (
        "Servers are being started already.",
        "Watch it, or stop it: what has started goes on.",
    ),
    "start-plan-stopped": (
        "A server did not start, and nothing may start after it then.",
        "See what is the matter with it; then start the others.",
    ),
    "bad-start-plan": (
        "A place in the start plan can't be used as it was typed.",
        "Waiting for a server takes 10 seconds at least; its stand-in needs 64 MiB at least.",
    ),
    "no-room": (
        "The emergency server has too little memory left for it, or too little space.",
        "Shut another stand-in down, or let its stand-in have less memory in the start plan.",
    ),
    "job-cancelled": ("Somebody stopped it.", "Start it on its own page."),
    "rehearsal-under-way": (
        "A rehearsal is running already. Only one at a time is possible.",
        "End it, or wait until it is over.",
    ),
    "rehearsal-not-prepared": (
        "No copy of this server is ready to start yet.",
        "Wait until its page says that one is.",
    ),
    "rehearsal-no-memory": (
        "The emergency server has too little free memory: it keeps what it needs to replace a "
        "server that fails meanwhile.",
        "Try again when less is running on it, or ask whoever looks after it for more memory.",
    ),
    "rehearsal-unaskable": (
        "No address of this server is known under which its copy could be asked.",
        "Call whoever looks after the server.",
    ),
    "rehearsal-ports-silent": (
        "The copy started, but not all of its services answered.",
        "They may need another machine, and in a rehearsal there is none. Whoever looks after the "
        "server can tell.",
    ),
    "rehearsal-check-failed": (
        "The copy started, but not all of its services passed their checks.",
        "They may need another machine, and in a rehearsal there is none. Whoever looks after the "
        "server can tell.",
    ),
    "rehearsal-no-login": (
        "The copy started and answers, but no login screen came, as there is one on the server.",
        "Look at the picture. Over the network one can work with it all the same. Whoever looks "
        "after the server can see what its screen needs.",
    ),
    "bad-check": (
        "This can't be checked so.",
        "Name a port, the address of a page such as https://shop.example/login, or a script that "
        "lies on the emergency server.",
    ),
    "rehearsal-no-address": (
        "The copy started, but nothing answered under the server's addresses.",
        "If the server gets its address from a router, that is normal: in a rehearsal there is no "
        "router. Otherwise show the picture to whoever looks after the server.",
    ),
    "rehearsal-filesystem-damaged": (
        "A file system in the copy is damaged.",
        "Have that file system checked on the server itself. If it is sound there, everything is "
        "read once more by itself, and the next copy is tried again.",
    ),
    "rehearsal-content-differs": (
        "Files in the copy are not as they are on the server.",
        "Everything is read once more by itself, and the next copy is tried again. If it stays so, "
        "have the disks and the memory of both machines checked.",
    ),
    "rehearsal-silent": (
        "The copy did not come up.",
        "Show the picture of its screen to whoever looks after the server.",
    ),
    "rehearsal-ended": ("It was ended before the copy had started.", ""),
    "rehearsal-restart": ("The emergency server was restarted meanwhile.", "Try again."),
    "no-alarm": ("There is no alarm about this server.", "Nothing needs to be done."),
    "no-reason": (
        "It must be known why all is well.",
        "Say in a few words what was done on the server.",
    ),
    "no-rehearsal": ("No rehearsal is running.", "Look at the server's page."),
    **PEOPLE,
    **EXPORTS,
    **REPORTS,
    **IMPORTS,
    **OFFLOADS,
    **WINDOWS,
    **RETENTION,
    "internal": (
        "Something went wrong in the emergency server itself.",
        "Try again. If it stays so, call whoever looks after it.",
    ),
}
TEXTS = tuple(text for pair in PROBLEMS.values() for text in pair if text)


def in_plain_words(code: str, cause: str, remedy: str) -> tuple[str, str]:
    """What is wrong and what to do; the error's own words where none are kept for its code."""
    return PROBLEMS.get(code, (cause, remedy))
