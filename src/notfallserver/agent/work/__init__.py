"""What an agent's orders do, on Linux and on Windows; the loop around them is the same."""
