"""The outage: is the primary really dead, and may its stand-in start?

``probe`` asks the network (``segment`` for ARP and IPv6 neighbour solicitation), ``legs`` says on
which segment an address is asked and what silence there tells, ``sounding`` what answered in peace,
``witness`` names the machines that tell whether the server itself is cut off, ``guard`` decides
purely, ``examine`` does all of it within the 3 s that a person waits.
"""
