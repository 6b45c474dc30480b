"""A returning original keeps off the network while its stand-in works (Linux with systemd).

``own`` remembers which addresses this machine has on which cards; ``boot`` asks for them before
the network comes up (``ask``, and ``judge``, pure); ``apart`` takes the cards away and gives them
back; ``watch`` stays with them, tells the server, and ends it; ``order`` begins that when the
server says so; ``signs`` says it on the console; ``units`` installs all that.
"""
