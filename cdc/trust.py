"""What libpq says when it does not trust a server, or is not let in without TLS; what to do. Pure.

A server that is not trusted has not been told a password: libpq ends the connection before. So to
ask again does no harm, and what is wrong may be mended without us: a certificate is renewed, a name
is moved, who stood in between is gone. What is never right is to ask for less (`sslmode=require`).
"""

import re

_KEEP = "do not lower sslmode for it, or whoever answers there gets the password"

# By libpq's words (fe-secure-openssl.c, fe-connect.c), and the server's (auth.c), of all versions.
_ADVICE = {
    "certificate verify failed": "sslrootcert has to name the CA that signed the server's"
    " certificate: Supabase's is prod-ca-2021.crt (dashboard, Database, SSL configuration), Neon's"
    f" is among this machine's (sslrootcert=system); or the certificate has expired; {_KEEP}",
    "server certificate for .* does not match host name": "the DSN has to name a host that the"
    f" certificate is for; {_KEEP}",
    "server does not support SSL": "is it the right host and port? A server of yours needs ssl = on"
    f"; {_KEEP}",
    "root certificate file .* does not exist|could not read root certificate file": "sslrootcert in"
    " the DSN has to name a file that cdc can read, with its full path: the CA's certificate as"
    " PEM; or `system` for those of this machine",
    "weak sslmode .* may not be used with sslrootcert": "write sslmode=verify-full in the DSN",
    r"no pg_hba\.conf entry for .*, (no encryption|SSL off)": "the server takes no plaintext from"
    " here: write sslmode=verify-full&sslrootcert=… in the DSN",
}


def advice(failure: str) -> str | None:
    """Return what to do about a failed connection, by its message; None: it is not about TLS."""
    return next((to_do for words, to_do in _ADVICE.items() if re.search(words, failure)), None)
