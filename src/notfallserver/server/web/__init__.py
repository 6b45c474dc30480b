"""The one HTTPS port: page, people's API, enrolment; doors for agents and for targets."""
