"""Enrolment: what a machine without certificate may fetch and do.

The invitation is one line to paste. It fetches the CA unverified and checks its fingerprint; from
then on everything comes over TLS that trusts only this CA.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field

from notfallserver.server.authority import ClientCertificate
from notfallserver.server.house import House
from notfallserver.server.web.peer import house_of
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import read_machine

router = APIRouter()

_LINE = (
    "python3 -c '"
    "import sys,ssl,hashlib,http.client as h,subprocess as p,tempfile as t;"
    'f=lambda u,c:[k:=h.HTTPSConnection("{host}",{port},context=c),k.request("GET",u),'
    "k.getresponse().read()][2];"
    'a=f("/ca.pem",ssl._create_unverified_context()).decode();'
    'hashlib.sha256(ssl.PEM_cert_to_DER_cert(a)).hexdigest()=="{fingerprint}"'
    ' or sys.exit("This is not the emergency server that invited you.");'
    "c=ssl.create_default_context(cadata=a);c.check_hostname=False;"
    'd=t.TemporaryDirectory();n=d.name;open(n+"/ca","w").write(a);'
    'open(n+"/a","wb").write(f("/agent/v1/agent.pyz",c));'
    'sys.exit(p.call([sys.executable,n+"/a","install","--server","{url}",'
    '"--token","{token}","--ca",n+"/ca"]))'
    "'"
)

WINDOWS_PACKAGE = "notfall-agent.msi"
"""In the data directory; ``make windows-agent`` builds it."""

_WINDOWS_LINE = (
    'powershell -NoProfile -ExecutionPolicy Bypass -Command "'
    "$ErrorActionPreference='Stop';"
    "$e=$env:ProgramFiles+'\\Notfallserver\\Agent\\notfall-agent.exe';"
    "if(Test-Path $e){{& $e enrol --server '{url}' --token '{token}:{fingerprint}';"
    "exit $LASTEXITCODE}};"
    "[Net.ServicePointManager]::SecurityProtocol='Tls12';"
    "[Net.ServicePointManager]::ServerCertificateValidationCallback={{$true}};"
    "$f=Join-Path $env:TEMP '{package}';"
    "(New-Object Net.WebClient).DownloadFile('{url}/agent/v1/{package}',$f);"
    "if((Get-FileHash $f -Algorithm SHA256).Hash -ne '{digest}')"
    "{{throw 'This is not the emergency server that invited you.'}};"
    "$p=Start-Process msiexec -Wait -PassThru -ArgumentList "
    "'/i',$f,'/qn','SERVER={url}','TOKEN={token}:{fingerprint}';"
    "exit $p.ExitCode"
    '"'
)
"""What comes is believed by its hash, before it is run; the package checks the fingerprint. Where
the agent is already, it is told of its other server: a package of the same version changes nothing
there."""


class EnrolRequest(BaseModel):
    """``machine`` as in wire.facts."""

    token: str = Field(min_length=1, max_length=200)
    machine: dict[str, Any]


class EnrolAnswer(BaseModel):
    """PEM texts; the key exists nowhere else."""

    primary: str
    certificate: str
    key: str
    ca: str
    url: str


def invitation_line(house: House, token: str, url: str) -> str:
    """The line to paste as root on the primary; ``url`` is how the primary reaches this server."""
    host, port, shown = _address(url)
    return _LINE.format(
        host=host, port=port, url=shown, token=token, fingerprint=house.authority.fingerprint
    )


def windows_line(house: House, token: str, url: str) -> str:
    """The same for an administrator's prompt on Windows; empty where its package is not here."""
    try:
        package = (house.settings.data_dir / WINDOWS_PACKAGE).read_bytes()
    except OSError:
        return ""
    return _WINDOWS_LINE.format(
        url=_address(url)[2],
        package=WINDOWS_PACKAGE,
        digest=hashlib.sha256(package).hexdigest().upper(),
        token=token,
        fingerprint=house.authority.fingerprint,
    )


def _address(url: str) -> tuple[str, int, str]:
    """Host, port, and both as an address that may stand in a line."""
    parts = urlsplit(url)
    try:
        port = parts.port or 443
    except ValueError:
        port = 0
    host = parts.hostname or ""
    plain = host.replace(".", "").replace("-", "").replace(":", "").isalnum() and host.isascii()
    if parts.scheme != "https" or not plain or not port:
        raise NotfallError(
            "bad-url", f"'{url[:200]}' is no address of this server.", "Write https://HOST:PORT."
        )
    shown = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return host, port, shown


@router.get("/ca.pem")
def ca(request: Request) -> Response:
    pem = house_of(request).authority.ca_pem
    return Response(pem, media_type="application/x-pem-file")


@router.get("/agent/v1/agent.pyz")
def agent(request: Request) -> FileResponse:
    return FileResponse(house_of(request).agent_package, media_type="application/zip")


@router.get(f"/agent/v1/{WINDOWS_PACKAGE}")
def windows_agent(request: Request) -> FileResponse:
    package = house_of(request).settings.data_dir / WINDOWS_PACKAGE
    if not package.is_file():
        raise NotfallError(
            "no-windows-agent",
            "The agent for Windows is not on this emergency server.",
            f"Build it with 'make windows-agent', and copy it to {package}.",
            status=404,
        )
    return FileResponse(package, media_type="application/x-msi")


@router.post("/agent/v1/enrol")
def enrol(request: Request, body: EnrolRequest) -> EnrolAnswer:
    """Use an invitation; a refused one leaves everything as it was."""
    house = house_of(request)
    machine = read_machine(body.machine)
    issued: list[ClientCertificate] = []

    def issue(primary: str) -> str:
        issued.append(house.authority.issue_client(primary))
        return issued[-1].serial

    enrolled = house.catalogue.invites.enrol(
        body.token,
        machine,
        house.present().schedule_minutes,
        house.present().capture_minutes,
        issue,
    )
    return EnrolAnswer(
        primary=enrolled.uuid,
        certificate=issued[-1].certificate,
        key=issued[-1].key,
        ca=house.authority.ca_pem,
        url=house.urls[0],
    )
