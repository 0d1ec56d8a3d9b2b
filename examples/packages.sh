# Sourced by examples/demo and tests/run: install the Debian packages of programs that are missing.
#
#     install_packages PROGRAM:PACKAGE...
#
# PROGRAM is a name that PATH must find, `venv` (Python's module), `certificates` (the authorities that TLS trusts),
# or `/a/file`. What is about to be installed is printed first. Without root or apt-get, the command that the
# administrator has to run is printed, and the exit status is 1.

# /usr/sbin has nginx, and a user's PATH may lack it
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

install_packages() {
    local wanted="$*" packages each
    packages=$(missing_programs "$wanted" | cut -d: -f2 | sort -u | xargs)
    if [ -n "$packages" ]; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            printf '%s: missing: %s\nOn Debian, as root:  apt-get install --no-install-recommends %s\n' \
                "$0" "$(missing_programs "$wanted" | cut -d: -f1 | xargs)" "$packages" >&2
            exit 1
        fi
        printf '%s installs these packages of Debian, and what they depend on: %s\n' "$0" "$packages"
        (apt_install "$packages")
    fi
    for each in $(missing_programs "$wanted"); do
        printf '%s: %s is missing, though the package %s is installed\n' "$0" "${each%:*}" "${each#*:}" >&2
        exit 1
    done
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        printf '%s: this python3 is older than 3.11: %s\n' "$0" "$(python3 -V 2>&1)" >&2
        exit 1
    }
}

missing_programs() {
    local each
    for each in $1; do
        case $each in
        venv:*) python3 -c 'import ensurepip, venv' 2>/dev/null || echo "$each" ;;
        certificates:*) [ -e "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" ] || echo "$each" ;;
        /*:*) [ -e "${each%:*}" ] || echo "$each" ;;
        *) command -v "${each%:*}" >/dev/null || echo "$each" ;;
        esac
    done
}

# Debian starts the services that it installs, unless this file says no.
apt_install() {
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # shellcheck disable=SC2086 # several words
    apt-get install -q -y --no-install-recommends $1 </dev/null
}
