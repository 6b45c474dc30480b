"""The rescue system's programs: the one on a target, and the appliance's on the server."""
