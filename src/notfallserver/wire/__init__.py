"""What agent, rescue system and server share: blocks, frames, facts, errors, the HTTPS client.

Standard library only and Python >= 3.9, because it travels to every primary and target.
Imports nothing of the rest of the project.
"""
