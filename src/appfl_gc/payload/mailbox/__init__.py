"""Mailboxes: beside a call, the site learns that nobody waits for it any more, and tells how far it is."""
