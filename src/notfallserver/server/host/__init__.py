"""The doors to the operating system: commands, durable files, reflinks, mounts."""
