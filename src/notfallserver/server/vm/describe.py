"""A :class:`VmSpec` as libvirt's domain XML. Pure: the same spec gives the same text.

Disk settings and their reason. A capture is pause, FICLONE, resume, and the pause must be short:

- ``cache=none`` (O_DIRECT): nothing of the guest lies in the host's page cache, so FICLONE has
  nothing to write back, and a pause (QEMU drains and flushes) costs milliseconds whatever the guest
  wrote before. A flush by the guest is an fdatasync of the file.
- ``io=threads``: the images are sparse and share blocks with versions, so most writes allocate;
  with ``io=native`` an allocating write blocks QEMU's main loop in io_submit.
- ``discard=unmap``: what the guest trims becomes a hole again.

NVMe disks: libvirt 9 has none that is backed by a file. The disk is described as virtio and its
front end is replaced through libvirt's own override, so labels, locks and the life cycle stay
libvirt's (a disk in ``qemu:commandline`` would be closed off by AppArmor).
"""

from __future__ import annotations

from collections import Counter
from uuid import UUID
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element, SubElement

from notfallserver.server.vm.spec import Accelerator, Controller, VmDisk, VmSpec

_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
ET.register_namespace("qemu", _QEMU)

_BUS = {
    Controller.VIRTIO: ("virtio", "vd"),
    Controller.NVME: ("virtio", "vd"),
    Controller.SATA: ("sata", "sd"),
    Controller.CDROM: ("sata", "sd"),
    Controller.IDE: ("ide", "hd"),
    Controller.SCSI: ("scsi", "sd"),
    Controller.PVSCSI: ("scsi", "sd"),
    Controller.MPTSAS: ("scsi", "sd"),
}
_SCSI_MODELS = {
    Controller.SCSI: "virtio-scsi",
    Controller.PVSCSI: "vmpvscsi",
    Controller.MPTSAS: "lsisas1068",
}
_SERIAL_LIMIT = {Controller.SCSI: 36, Controller.PVSCSI: 36, Controller.MPTSAS: 36}


def domain_xml(spec: VmSpec) -> str:
    """The domain; what libvirt fills in by itself (addresses, controllers) is left to it."""
    domain = Element("domain", type="kvm" if spec.accelerator is Accelerator.KVM else "qemu")
    _add(domain, "name", spec.name)
    _add(domain, "uuid", str(spec.uuid))
    if spec.title:
        _add(domain, "title", spec.title)
    _add(domain, "memory", str(spec.memory), unit="b")
    _add(domain, "vcpu", str(spec.cpus))
    _add_firmware(domain, spec)
    features = _add(domain, "features")
    _add(features, "acpi")
    _add(features, "apic")
    _add_cpu(domain, spec)
    clock = _add(domain, "clock", offset="localtime" if spec.localtime else "utc")
    _add(clock, "timer", name="rtc", tickpolicy="catchup")
    _add(clock, "timer", name="pit", tickpolicy="delay")
    _add(clock, "timer", name="hpet", present="no")
    again = "restart" if spec.restarts else "destroy"
    _add(domain, "on_poweroff", "destroy")
    _add(domain, "on_reboot", again)
    _add(domain, "on_crash", again)
    devices = _add(domain, "devices")
    _add_disks(devices, spec.disks)
    for nic in spec.nics:
        interface = _add(devices, "interface", type="ethernet" if nic.cable else "bridge")
        _add(interface, "mac", address=nic.mac)
        if nic.cable:
            _add(interface, "target", dev=nic.cable, managed="no")
        else:
            _add(interface, "source", bridge=nic.bridge)
        _add(interface, "model", type=nic.model)
        _add(interface, "rom", enabled="no")  # no network boot, no waiting for it
    _add_characters(devices, spec)
    _add_screen(devices, spec)
    if spec.restarts:
        _add(devices, "panic", model="isa")
    _add(devices, "memballoon", model="virtio" if spec.balloon else "none")
    rng = _add(devices, "rng", model="virtio")
    _add(rng, "backend", "/dev/urandom", model="random")
    _add_qemu(domain, spec)
    return ET.tostring(domain, encoding="unicode")


def _add(parent: Element, tag: str, text: str | None = None, **attributes: str) -> Element:
    child = SubElement(parent, tag, attributes)
    child.text = text
    return child


def _add_firmware(domain: Element, spec: VmSpec) -> None:
    system = _add(domain, "os")
    _add(system, "type", "hvm", arch="x86_64", machine=spec.chipset)
    if spec.uefi is not None:
        _add(system, "loader", str(spec.uefi.code), readonly="yes", type="pflash")
        _add(system, "nvram", str(spec.uefi.nvram), template=str(spec.uefi.template))
    if spec.kernel is not None:
        _add(system, "kernel", str(spec.kernel.kernel))
        _add(system, "initrd", str(spec.kernel.initrd))
        _add(system, "cmdline", spec.kernel.cmdline)
    told = spec.smbios and {
        "manufacturer": spec.smbios.manufacturer,
        "product": spec.smbios.product,
        "serial": spec.smbios.serial,
    }
    if told and any(told.values()):
        _add(system, "smbios", mode="sysinfo")
        about = _add(_add(domain, "sysinfo", type="smbios"), "system")
        for name, value in told.items():
            if value:
                _add(about, "entry", value, name=name)


def _add_cpu(domain: Element, spec: VmSpec) -> None:
    model = spec.cpu or ("host-model" if spec.accelerator is Accelerator.KVM else "max")
    if model in ("host-model", "host-passthrough"):
        cpu = _add(domain, "cpu", mode=model, check="none")
    elif model == "max":
        cpu = _add(domain, "cpu", mode="maximum", check="none")
    else:
        cpu = _add(domain, "cpu", mode="custom", match="exact", check="none")
        _add(cpu, "model", model, fallback="forbid")
    # One socket: desktop and small server editions of Windows use no more than one or two.
    _add(cpu, "topology", sockets="1", dies="1", cores=str(spec.cpus), threads="1")


def _add_disks(devices: Element, disks: tuple[VmDisk, ...]) -> None:
    scsi = [one for one in _SCSI_MODELS if any(disk.controller is one for disk in disks)]
    for index, controller in enumerate(scsi):
        _add(
            devices,
            "controller",
            type="scsi",
            index=str(index),
            model=_SCSI_MODELS[controller],
        )
    names: Counter[str] = Counter()
    units: Counter[Controller] = Counter()
    for index, disk in enumerate(disks):
        bus, prefix = _BUS[disk.controller]
        cdrom = disk.controller is Controller.CDROM
        node = _add(devices, "disk", type="file", device="cdrom" if cdrom else "disk")
        if cdrom:
            _add(node, "driver", name="qemu", type="raw")
        else:
            _add(
                node,
                "driver",
                name="qemu",
                type="raw",
                cache=disk.cache,
                io="threads",
                discard="unmap",
            )
        _add(node, "source", file=str(disk.path))
        _add(node, "target", dev=prefix + _letters(names[prefix]), bus=bus)
        names[prefix] += 1
        if disk.sector != 512:
            size = str(disk.sector)
            _add(node, "blockio", logical_block_size=size, physical_block_size=size)
        if disk.readonly or cdrom:
            _add(node, "readonly")
        serial = disk.serial
        if disk.controller is Controller.NVME:
            serial = serial or f"notfall-{index}"  # an NVMe disk must have one
        if serial and not cdrom:
            _add(node, "serial", serial[: _SERIAL_LIMIT.get(disk.controller, 20)])
        if disk.controller is Controller.MPTSAS:
            _add(node, "wwn", _sas_address(index))
        if disk.boot:
            _add(node, "boot", order=str(disk.boot))
        if disk.controller is Controller.NVME:
            _add(node, "alias", name=_nvme_alias(index))
        if disk.controller in scsi:
            _add(
                node,
                "address",
                type="drive",
                controller=str(scsi.index(disk.controller)),
                bus="0",
                target=str(units[disk.controller]),  # only virtio-scsi knows units
                unit="0",
            )
            units[disk.controller] += 1


def _add_characters(devices: Element, spec: VmSpec) -> None:
    """The serial console goes to a log, else to a pty (``virsh console``)."""
    if spec.serial_log is not None:
        serial = _add(devices, "serial", type="file")
        _add(serial, "source", path=str(spec.serial_log), append="on")
    else:
        serial = _add(devices, "serial", type="pty")
    _add(serial, "target", port="0")
    for one in spec.channels:
        channel = _add(devices, "channel", type="unix" if one.listen else "file")
        if one.listen:
            _add(channel, "source", mode="bind", path=str(one.path))
        else:
            _add(channel, "source", path=str(one.path), append="off")
        _add(channel, "target", type="virtio", name=one.name)


def _add_screen(devices: Element, spec: VmSpec) -> None:
    """The screen listens on a unix socket of libvirt's, never on the network."""
    if not spec.vnc:
        _add(devices, "controller", type="usb", model="none")
        _add(_add(devices, "video"), "model", type="none")
        return
    _add(devices, "input", type="tablet", bus="usb")
    _add(_add(devices, "graphics", type="vnc"), "listen", type="socket")
    _add(_add(devices, "video"), "model", type="vga")


def _add_qemu(domain: Element, spec: VmSpec) -> None:
    """What libvirt cannot say: the SMBIOS UUID of another machine, and NVMe disks."""
    if spec.smbios is not None and spec.smbios.uuid:
        arguments = SubElement(domain, f"{{{_QEMU}}}commandline")
        for value in ("-smbios", f"type=1,uuid={UUID(spec.smbios.uuid)}"):
            SubElement(arguments, f"{{{_QEMU}}}arg", value=value)
    nvme = [n for n, disk in enumerate(spec.disks) if disk.controller is Controller.NVME]
    if not nvme:
        return
    override = SubElement(domain, f"{{{_QEMU}}}override")
    for index in nvme:
        device = SubElement(override, f"{{{_QEMU}}}device", alias=_nvme_alias(index))
        front = SubElement(device, f"{{{_QEMU}}}frontend")
        SubElement(front, f"{{{_QEMU}}}property", name="driver", type="string", value="nvme")


def _nvme_alias(index: int) -> str:
    return f"ua-nvme{index}"


def _sas_address(index: int) -> str:
    """Locally assigned (NAA 3). Linux looks at no SAS disk whose address is nil, as QEMU's is."""
    return f"{0x3000_0000_0000_0001 + index:016x}"


def _letters(index: int) -> str:
    """0 -> a, 25 -> z, 26 -> aa, as the kernel counts."""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("a") + rest) + text
    return text
