"""Reading NTFS itself: used clusters and where a file lies. Pure but for the given ``read``.

Serves the agent on Windows, on a snapshot of a volume, and needs nothing of Windows. What breaks a
rule is :class:`~notfallserver.agent.ntfs.boot.Unreadable`; the volume then counts as used whole.
"""
