"""The outage: is the primary really dead, and may its stand-in start?

``probe`` asks the network (``segment`` and ``packets`` for ARP and IPv6 neighbour solicitation),
``witness`` names the machines that tell whether the server itself is cut off, ``guard`` decides
purely, ``examine`` does all of it within the 3 s that a person waits.
"""
