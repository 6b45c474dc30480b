"""What only Windows has: its doors, and the structures that come out of them.

`answers`, `layout`, `adapters`, `listeners`, `smbios` and `contents` parse bytes and are pure.
`system` says what is asked of Windows at all; `native` asks it through ctypes and is the only
module here that can't be imported elsewhere. So everything but `native` is tested on recorded and
made bytes.
"""
