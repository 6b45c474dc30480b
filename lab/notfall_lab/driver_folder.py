r"""Folders of drivers as their makers lay them out, with INFs in their manner; the drivers are not
real ones."""

from __future__ import annotations

import struct
from pathlib import Path

VIOSTOR = r"""
; the usual head of a maker's file, "with quotes; and a semicolon"
[Version]
Signature="$Windows NT$"
Class=SCSIAdapter
ClassGUID={4D36E97B-E325-11CE-BFC1-08002BE10318}
Provider=%VENDOR%
DriverVer = 07/18/2023,%NUMBER%
CatalogFile=viostor.cat
PnpLockDown = 1

[SourceDisksNames]
1 = %DiskId%,,,""

[SourceDisksFiles]
viostor.sys = 1,,

[DestinationDirs]
viostor_Files_Driver = 12

[Manufacturer]
%VENDOR% = VirtioStor, @DECORATION@

[VirtioStor.@DECORATION@]
%DESC% = scsi_inst, PCI\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00, PCI\VEN_1AF4&DEV_1001
%DESC% = scsi_inst, PCI\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01, \
         PCI\VEN_1AF4&DEV_1042

[scsi_inst]
CopyFiles=viostor_Files_Driver

[viostor_Files_Driver]
viostor.sys,,,2

[scsi_inst.Services]
AddService=viostor, 0x00000002, viostor_Service, viostor_EventLog

[viostor_Service]
DisplayName    = "Red Hat VirtIO SCSI Disk"
ServiceType    = %SERVICE_KERNEL_DRIVER%
StartType      = %SERVICE_BOOT_START%
ErrorControl   = %SERVICE_ERROR_NORMAL%
ServiceBinary  = %12%\viostor.sys
LoadOrderGroup = SCSI miniport
AddReg         = pnpsafe_addreg

[pnpsafe_addreg]
HKR, "Parameters\PnpInterface", "5", %REG_DWORD%, 0x00000001
HKR, "Parameters", "BusType", %REG_DWORD%, 0x00000001
HKLM, "Software\Other", "Thing", 0, "not ours"
HKR, "..\..\Elsewhere!", "Thing", 0, "nor this"

[viostor_EventLog]
AddReg=viostor_EventLog_AddReg

[Strings]
VENDOR = "Red Hat, Inc."
NUMBER = 100.93.104.24000
DiskId = "VirtIO SCSI Driver Disk"
DESC = "Red Hat VirtIO SCSI ""disk"" controller"
SERVICE_KERNEL_DRIVER = 1
SERVICE_BOOT_START = 0
SERVICE_ERROR_NORMAL = 1
REG_DWORD = 0x00010001
"""

NETKVM = r"""
[version]
signature="$CHICAGO$"
class=Net
catalogfile=netkvm.cat
provider=%v%
driverver=07/18/2023,100.93.104.24000
[manufacturer]
%v%=NetKVM,@DECORATION@
[NetKVM.@DECORATION@]
%d%=kvmnet6.ndi,PCI\VEN_1AF4&DEV_1000&SUBSYS_00011AF4&REV_00,PCI\VEN_1AF4&DEV_1000
%d%=kvmnet6.ndi,PCI\VEN_1AF4&DEV_1041
[kvmnet6.ndi.services]
AddService=netkvm,2,kvmnet6.Service
[kvmnet6.Service]
ServiceType=1
StartType=3
ServiceBinary=%12%\netkvm.sys
[SourceDisksFiles]
netkvm.sys=1
netkvmco.exe=1
[strings]
v="Red Hat, Inc."
d="Red Hat VirtIO Ethernet Adapter"
"""

RST = r"""
[Version]
Signature   = "$WINDOWS NT$"
Class       = SCSIAdapter
ClassGuid   = {4D36E97B-E325-11CE-BFC1-08002BE10318}
Provider    = %INTEL%
CatalogFile = iaStorVD.cat
DriverVer   = 11/14/2022,19.5.1.1040

[SourceDisksNames.amd64]
1 = %DISK%,,,\x64

[SourceDisksFiles.amd64]
iaStorVD.sys = 1
RstMwEventLogMessage.dll = 1, messages

[Manufacturer]
%INTEL% = INTEL_HDC, NTamd64.10.0...15063, NTamd64.10.0...17763, NTarm64.10.0

[INTEL_HDC.NTamd64.10.0...15063]
%VMD9A0B% = iaStorVD_inst, PCI\VEN_8086&DEV_9A0B&CC_0104

[INTEL_HDC.NTamd64.10.0...17763]
%VMD9A0B% = iaStorVD_inst.B, PCI\VEN_8086&DEV_9A0B&CC_0104
%VMD467F% = iaStorVD_inst.B, PCI\VEN_8086&DEV_467F&CC_0104
%RST2822% = iaStorVD_ahci, PCI\VEN_8086&DEV_2822&CC_0104
%ROOT%    = nothing_inst, {8E9D8A28-5A48-4F4E-9C2A-0E2E0F0E5F2A}\VirtualDevice

[iaStorVD_inst.NTamd64.Services]
AddService = iaStorVD, %SPSVCINST_ASSOCSERVICE%, iaStorVD_Service
[iaStorVD_inst.B.NTamd64.Services]
AddService = iaStorHelper, , helper_Service
AddService = iaStorVD, %SPSVCINST_ASSOCSERVICE%, iaStorVD_Service
[iaStorVD_ahci.NT.Services]
AddService = iaStorVD, %SPSVCINST_ASSOCSERVICE%, iaStorVD_Service

[iaStorVD_Service]
ServiceType    = 1
StartType      = 0
ErrorControl   = 3
ServiceBinary  = %13%\iaStorVD.sys
AddReg         = iaStorVD_AddReg, iaStorVD_More

[iaStorVD_AddReg]
HKR, Parameters, BusType, 0x00010001, 8
HKR,,"Note",,"text, with a comma"
[iaStorVD_More]
HKR, Parameters\Device, "NoLPM", %REG_MULTI_SZ%, "one", "two"
HKR, Parameters\Device, Odd, 1, 01,ff
HKR, Parameters\Device, Unknown, 0xB0001, 1

[Strings]
INTEL = "Intel Corporation"
DISK = "Intel disk"
SPSVCINST_ASSOCSERVICE = 0x00000002
REG_MULTI_SZ = 0x00010000
[Strings.0407]
INTEL = "Intel Deutschland"
"""

DISPLAY = r"""
[Version]
Signature="$Windows NT$"
Class=Display
ClassGUID={4D36E968-E325-11CE-BFC1-08002BE10318}
Provider="Somebody"
CatalogFile=display.cat
[Manufacturer]
"Somebody"=Models,NTamd64
[Models.NTamd64]
"Card"=inst,PCI\VEN_1AF4&DEV_1001
"""


def program(signed: bool = True) -> bytes:
    """The head of a program file, with a place for its signature; no program."""
    head = bytearray(1024)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 0x3C, 0x80)
    head[0x80:0x84] = b"PE\0\0"
    struct.pack_into("<H", head, 0x80 + 24, 0x20B)
    if signed:
        struct.pack_into("<II", head, 0x80 + 24 + 112 + 32, 900, 100)
    return bytes(head)


DRIVER = program()
SYSTEMS = {"w7": "NTamd64.6.1", "w10": "NTamd64.10.0", "2k19": "NTamd64.10.0"}
"""Folders of virtio-win, and what their INFs say."""


def viostor(decoration: str) -> str:
    return VIOSTOR.replace("@DECORATION@", decoration)


def netkvm(decoration: str) -> str:
    return NETKVM.replace("@DECORATION@", decoration)


def virtio_win(folder: Path) -> Path:
    """As its ISO has it: DRIVER/WINDOWS/PROCESSOR."""
    for system, decoration in SYSTEMS.items():
        told = f"{system} amd64".encode()
        for name, text in (("viostor", viostor(decoration)), ("NetKVM", netkvm(decoration))):
            base = folder / name / system / "amd64"
            base.mkdir(parents=True)
            low = name.lower()
            (base / f"{low}.inf").write_bytes(text.replace("\n", "\r\n").encode("cp1252"))
            for end in ("sys", "cat", "pdb"):
                (base / f"{low}.{end}").write_bytes(DRIVER + told + end.encode())
    (folder / "display").mkdir()
    (folder / "display/display.inf").write_text(DISPLAY)
    return folder


def rst(folder: Path) -> Path:
    """As Intel's unpacked drivers: UTF-16, files in folders, other case than in the INF."""
    base = folder / "Drivers" / "VMD"
    (base / "X64/Messages").mkdir(parents=True)
    (base / "iaStorVD.inf").write_bytes(b"\xff\xfe" + RST.encode("utf-16-le"))
    (base / "iastorvd.cat").write_bytes(b"signatures")
    (base / "X64/iaStorVD.sys").write_bytes(DRIVER)
    (base / "X64/Messages/RstMwEventLogMessage.dll").write_bytes(b"MZ messages")
    return folder
