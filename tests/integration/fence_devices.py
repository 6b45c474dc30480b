"""Management boards that are simulated by well-known programs, and a script: each switches off what
a command of the test switches off. Real boards can't be here."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import bcrypt

from notfall_lab.patience import PATIENCE_S
from notfallserver.server.host.run import run

USER, PASSWORD = "admin", "secret-7"
_IPMI = """name "bmc"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{chassis}"
  user 1 true "" "test" user 10 none md2 md5 straight
  user 2 true "{user}" "{password}" admin 10 none md2 md5 straight
"""
_BOARD = """mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
mc_enable 0x20
"""
_CHASSIS = """#!/bin/sh
case "$1 $2" in
"get power") echo "power:$(cat {power})" ;;
"set power") [ "$3" = 0 ] && {off}; echo "$3" > {power} ;;
esac
"""
_REDFISH = """SUSHY_EMULATOR_LISTEN_IP = "127.0.0.1"
SUSHY_EMULATOR_LISTEN_PORT = {port}
SUSHY_EMULATOR_SSL_CERT = "{directory}/cert.pem"
SUSHY_EMULATOR_SSL_KEY = "{directory}/key.pem"
SUSHY_EMULATOR_AUTH_FILE = "{directory}/people"
SUSHY_EMULATOR_STATE_DIR = "{directory}"
SUSHY_EMULATOR_FAKE_DRIVER = True
SUSHY_EMULATOR_FAKE_SYSTEMS = [
    dict(uuid="da69abcc-dae0-4913-9a7b-d344043097c0", name="shop", power_state="On", nics=[])
]
"""
_SCRIPT = """#!/bin/sh
while read -r line; do
  case "$line" in
  action=*) action=${{line#action=}} ;;
  password=*) given=${{line#password=}} ;;
  esac
done
[ "$given" = {password} ] || {{ echo "wrong password: $given" >&2; exit 1; }}
case "$action" in
off) {off}; echo off > {power} ;;
status) [ "$(cat {power})" = on ] || exit 2 ;;
esac
"""


@contextmanager
def ipmi_board(
    directory: Path, port: int, off: Sequence[str], inside: Sequence[str] = ()
) -> Iterator[list[str]]:
    """OpenIPMI's simulator; gives the options for the fence agent ipmilan."""
    directory.mkdir()
    power = directory / "power"
    power.write_text("1")
    chassis = directory / "chassis"
    chassis.write_text(_CHASSIS.format(power=power, off=shlex.join(off)))
    chassis.chmod(0o755)
    told = _IPMI.format(port=port, chassis=chassis, user=USER, password=PASSWORD)
    (directory / "lan.conf").write_text(told)
    (directory / "board.emu").write_text(_BOARD)
    files = ["-c", "lan.conf", "-f", "board.emu", "-s", "state"]
    with _running([*inside, "ipmi_sim", *files, "-n"], directory):
        time.sleep(1)  # it takes datagrams: nobody can see when it does
        # The simulator knows no list of its ciphers; asking for it would take a while.
        yield [*_reached(port), "lanplus=1", "cipher=3"]


@contextmanager
def redfish_board(directory: Path, port: int) -> Iterator[list[str]]:
    """OpenStack's emulator; gives the options for the fence agent redfish."""
    directory.mkdir()
    key, certificate = directory / "key.pem", directory / "cert.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=board"]
    run([*request, "-keyout", key, "-out", certificate])
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (directory / "people").write_text(f"{USER}:{hashed}\n")
    (directory / "conf.py").write_text(_REDFISH.format(port=port, directory=directory))
    program = Path(sys.executable).with_name("sushy-emulator")
    with _running([str(program), "--config", "conf.py"], directory):
        _await_port(port)
        yield [*_reached(port), "ssl_insecure=1"]


def write_script(path: Path, off: Sequence[str]) -> None:
    """A script of one's own, as ``notfall fence set NAME script/...`` takes it."""
    path.parent.mkdir(exist_ok=True)
    power = path.with_suffix(".power")
    power.write_text("on\n")
    path.write_text(_SCRIPT.format(password=PASSWORD, off=shlex.join(off), power=power))
    path.chmod(0o755)


def _reached(port: int) -> list[str]:
    return ["ip=127.0.0.1", f"ipport={port}", f"username={USER}"]


@contextmanager
def _running(line: Sequence[str], directory: Path) -> Iterator[None]:
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            line, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield
        assert process.poll() is None, (directory / "log").read_text()
    finally:
        process.kill()
        process.wait()


def _await_port(port: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.1)
