"""What people read, pure: how a server stands, what happened, what the guard found."""
