"""Off-load: carrying versions and the server itself to other places, checking them there, bringing
them back. The façade for the web is :class:`~notfallserver.server.cycle.offloads.desk.Offloads`."""
