#!/bin/sh
# Installs cdc as a service, from the checkout that this file is in. Run it as root; run it again to
# upgrade: settings and credentials that are there stay as they are, and nothing is (re)started.
#
#     /opt/cdc                     the program, in an environment of its own
#     /etc/cdc/cdc.toml            settings
#     /etc/credstore.encrypted     where credentials go; it asks for none and sees none
#     /etc/systemd/system          cdc.service, cdc@.service
#                                  timers that verify, and rehearse a failover; their services
#
# PYTHON names another interpreter than python3: 3.11 or newer, and not below /home or /root, which
# the units cannot see.
set -eu

folder=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
oldest=252 # from then on credentials are looked for in /etc/credstore.encrypted

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "run it as root"

systemd=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
[ "${systemd:-0}" -ge "$oldest" ] || fail "systemd is ${systemd:-not there}, and has to be $oldest"

base=$("$python" -c 'import sys; print(sys.version_info >= (3, 11) and sys.base_prefix)')
case $base in
    False) fail "$python is older than 3.11; name one: PYTHON=python3.12 $0" ;;
    /home/* | /root/*) fail "$python is in $base, which the units cannot see; name another: PYTHON=" ;;
esac

umask 022
"$python" -m venv /opt/cdc
/opt/cdc/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "$folder/.."
# Same version, other code: then pip would not have installed it.
/opt/cdc/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
    "$folder/.."

install -d -m 755 /etc/cdc
[ -e /etc/cdc/cdc.toml ] || install -m 644 "$folder/cdc.toml" /etc/cdc/cdc.toml
install -d -m 700 /etc/credstore.encrypted
install -m 644 "$folder"/cdc-verify*.service "$folder"/cdc-verify*.timer /etc/systemd/system
install -m 644 "$folder/cdc.service" "$folder/cdc@.service" /etc/systemd/system
install -m 644 "$folder"/cdc-failover-drill*.service "$folder"/cdc-failover-drill*.timer \
    /etc/systemd/system
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi

/opt/cdc/bin/cdc --version
echo "Next: the credentials, then systemctl enable --now cdc; see $folder/README.md"
