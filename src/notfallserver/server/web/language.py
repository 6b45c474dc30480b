"""The page's languages: English is in the templates, others in ``strings/LANGUAGE/*.po``.

The browser's wish decides. Catalogues are read and compiled in memory at the first use, so there is
no build step.
"""

from __future__ import annotations

import gettext
import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from babel.core import negotiate_locale
from babel.dates import LOCALTZ, format_datetime, format_timedelta
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from notfallserver.server.web.words.history import EVENTS
from notfallserver.server.web.words.plans import forecast_words, plan_words
from notfallserver.server.web.words.problems import in_plain_words
from notfallserver.server.web.words.proof import proof_words
from notfallserver.server.web.words.situation import Exact, Phrase, Size, Value, Words

HERE = Path(__file__).parent
LANGUAGES = ("en", "de")

STATES = {
    "new": "Waiting for the first replication",
    "normal": "Protected",
    "outage": "Not answering",
    "activating": "The stand-in is starting",
    "emergency": "The stand-in is working",
    "recovering": "Being recovered; the stand-in is working",
    "switching_back": "Switching back to the primary",
    "rehearsing": "Protected; rehearsal is running",
    "handing_over": "Being handed over to the stand-in",
}
KINDS = {
    "replicate": "Replication",
    "prepare": "Preparing the stand-in",
    "activate": "Activation",
    "start_plan": "Starting several servers",
    "capture": "Capturing the stand-in",
    "recover": "Recovery",
    "switch_back": "Switch-back",
    "undo": "Taking back",
    "hand_over": "Planned handover",
    "rehearse": "Rehearsal",
    "scrub": "Checking the versions",
    "retain": "Removing old copies",
    "measure": "Looking for ransomware",
    "plan_adaptation": "Planning the adaptation",
    "seed_import": "Importing a seed",
    "seed_export": "Exporting a seed",
    "image_import": "Importing an image",
    "export": "Exporting a copy",
    "export_disk": "Writing a disk to take along",
    "tape_write": "Writing to tape",
    "tape_restore": "Reading from tape",
    "rescue_build": "Building the rescue medium",
    "report": "Monthly report",
    "offload": "Off-load",
    "offload_check": "Checking an off-load",
    "offload_restore": "Bringing a copy back from an off-load",
    "offload_fetch": "Bringing a disk back from an off-load",
}
PHASES = {
    "hot": "copying while it works",
    "frozen": "reading the last changes, frozen for a moment",
    "sending": "sending",
    "paused: load": "paused, the primary is busy",
    "paused: pressure": "paused, the primary's disks are busy",
    "comparing with the last version": "comparing with the last copy",
    "shutting down": "shutting all services down",
    "waiting for the original's end": "waiting for the server's end",
    "waiting until the original is off": "waiting until the server is off",
    "waiting for the agent": "waiting for the agent",
    "adapting in the appliance": "adapting to other hardware",
    "capturing the stand-in": "capturing the stand-in",
    "reading what changed": "reading what changed",
    "waiting for the service": "waiting for the service",
    "switching the original off": "switching the old server off",
    "checking the file systems": "checking the file systems of the copy",
    "starting in the hidden network": "starting in a network of its own",
    "checking its services": "checking its services",
    "works in the hidden network": "works in a network of its own",
    "making it fit the new disks": "making it fit the new disks",
    "copying back": "copying back",
    "looking for what can go": "looking for what can go",
    "removing versions": "removing copies",
    "last delta": "copying back the last changes",
    "adapting to the new hardware": "adapting to the new hardware",
    "ready to switch back": "ready to switch back",
    "waiting for the time set": "waiting for the time set",
    "stopping the stand-in": "stopping the stand-in",
    "shutting the stand-in down": "shutting the stand-in down",
    "rebooting the target": "restarting the target",
    "waiting for the recovered primary": "waiting for the recovered primary",
    "waiting for the rescue medium": "waiting for the rescue medium",
    "waiting for the target, which is silent": "waiting for the target, which is silent",
    "finishing the round under way": "finishing the round under way",
    "checking": "reading and comparing",
    "mending the index": "mending the index",
    "waiting for other work": "waiting for other work",
    "waiting for other images": "waiting for other images",
    "asking the network": "asking the network",
    "waiting for the next one's turn": "waiting for the next one's turn",
    "waiting until the one before works": "waiting until the one before works",
    "waiting until they work": "waiting until they work",
    "reading the disks": "reading the disks",
    "checking the image": "checking the image",
    "reading the image": "reading the image",
    "looking into the image": "looking into the image",
    "gathering the month": "gathering the month",
    "printing the report": "printing the report",
    "installing packages": "installing packages",
    "packing the rescue system": "packing the rescue system",
    "writing the medium": "writing the medium",
    "writing the image": "writing the image",
    "reading the image back": "reading the image back",
    "writing the disk": "writing the disk and reading it back",
    "finishing the medium": "finishing the medium",
    "reading the medium": "reading the medium",
    "reading the medium back": "reading the medium back",
    "waiting for a medium": "waiting until somebody inserts a medium",
    "waiting for who reads the pipe": "waiting for the program that reads the pipe",
    "opening the place": "opening the place",
    "waiting for the place": "waiting for the place",
    "finding what has arrived before": "finding what has arrived before",
    "carrying versions away": "carrying copies away",
    "carrying the server itself": "carrying the emergency server itself away",
    "removing what is old": "removing what is old",
    "reading what lies there": "reading what lies there",
    "bringing back samples": "bringing back samples",
    "waiting for other versions": "waiting for other copies",
    "fetching": "fetching",
}
"""The phases that jobs tell, in words; one that is missing is shown as it is."""

PROGRAMS = {
    "server": "by itself",
    "schedule": "by schedule",
    "agent": "its agent",
    "root": "root, on the emergency server",
}
"""Whoever isn't a person, as the journal names it."""


@dataclass(frozen=True)
class Speech:
    """One language: its templates and its ways to write times and sizes."""

    language: str
    environment: Environment
    translations: gettext.NullTranslations

    def page(self, template: str, **values: object) -> str:
        return self.environment.get_template(template).render(language=self.language, **values)

    def say(self, text: str) -> str:
        return self.translations.gettext(text) if text else ""

    def state(self, state: str) -> str:
        return self.say(STATES.get(state, state))

    def kind(self, kind: str) -> str:
        return self.say(KINDS.get(kind, kind))

    def phase(self, phase: str) -> str:
        """A phase may carry a detail in brackets."""
        main, bracket, detail = phase.partition(" (")
        return self.say(PHASES.get(main, main)) + bracket + detail

    def words(self, words: Words) -> str:
        """A text with its values: moments as "5 minutes ago", lengths as "5 minutes"."""
        return self.say(words.text) % {key: self._value(one) for key, one in words.values.items()}

    def _value(self, value: Value) -> str:
        if isinstance(value, datetime):
            return self.ago(value)
        if isinstance(value, Exact):
            return self.moment(value.at)
        if isinstance(value, timedelta):
            return self.lasting(value.total_seconds())
        if isinstance(value, Size):
            return self.size(value)
        if isinstance(value, Phrase):
            return self.say(value)
        return str(value)

    def problem(self, code: str, cause: str, remedy: str) -> str:
        """What is wrong and what to do."""
        return " ".join(self.say(one) for one in in_plain_words(code, cause, remedy) if one)

    def event(self, event: str) -> str:
        """What the journal calls so."""
        return self.say(EVENTS.get(event, event))

    def who(self, who: str) -> str:
        """Whoever did something: a person by name, a program in words."""
        return self.say(PROGRAMS[who]) if who in PROGRAMS else who

    def ago(self, moment: datetime) -> str:
        """'5 minutes ago'."""
        passed = moment - datetime.now(UTC)
        return format_timedelta(min(passed, timedelta(0)), add_direction=True, locale=self.language)

    def lasting(self, seconds: float) -> str:
        """'5 minutes'."""
        return format_timedelta(timedelta(seconds=seconds), locale=self.language)

    def moment(self, moment: datetime) -> str:
        """Date and time of day where the server is."""
        return format_datetime(moment, "medium", LOCALTZ, locale=self.language)

    def size(self, count: float) -> str:
        """Bytes in the largest fitting unit of 1000."""
        units = ["B", "kB", "MB", "GB", "TB", "PB"]
        while count >= 1000 and len(units) > 1:
            count /= 1000
            units.pop(0)
        return f"{format_decimal(round(count, 1), locale=self.language)} {units[0]}"

    def percent(self, share: float) -> str:
        """A share of 1, to a tenth of a per cent."""
        return f"{format_decimal(round(100 * share, 1), locale=self.language)} %"


def speech_for(accepted: str) -> Speech:
    """The language for an ``Accept-Language`` header; English where nothing fits."""
    wishes = []
    for part in accepted[:500].split(","):
        tag, _, quality = part.partition(";q=")
        try:
            wishes.append((-float(quality or 1), tag.strip().replace("-", "_")))
        except ValueError:
            continue
    found = negotiate_locale([tag for _, tag in sorted(wishes) if tag], LANGUAGES)
    return speech(found or "en")


@cache
def speech(language: str) -> Speech:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    translations = _translations(language)
    environment.install_gettext_translations(translations, newstyle=True)  # type: ignore[attr-defined]
    spoken = Speech(language, environment, translations)
    environment.filters.update(
        say=spoken.say,
        state=spoken.state,
        kind=spoken.kind,
        words=spoken.words,
        event=spoken.event,
        who=spoken.who,
        proof=lambda version: proof_words(version.grade, version.failed_step),
        planned=lambda text: spoken.words(plan_words(text)),
        forecast=lambda forecast: spoken.words(forecast_words(forecast)),
        problem=lambda error: spoken.problem(error.code, error.cause, error.remedy),
        phase=spoken.phase,
        ago=spoken.ago,
        lasting=spoken.lasting,
        moment=spoken.moment,
        size=spoken.size,
        percent=spoken.percent,
    )
    return spoken


def _translations(language: str) -> gettext.NullTranslations:
    """All files of the language together."""
    paths = sorted((HERE / "strings" / language).glob("*.po"))
    if not paths:
        return gettext.NullTranslations()
    texts = Catalog(locale=language)
    for path in paths:
        with path.open("rb") as file:
            for message in read_po(file, locale=language):
                texts[message.id] = message
    compiled = io.BytesIO()
    write_mo(compiled, texts)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
