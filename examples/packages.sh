# Sourced by examples/demo and tests/run: install the Debian packages of programs that are missing.
# shellcheck shell=bash
#
#     install_packages PROGRAM:PACKAGE...
#
# PROGRAM is a name that PATH must find, `venv` (Python's module), or `certificates` (the authorities that TLS trusts).
# PACKAGE can be `A|B`: the first one that this release has. What is about to be installed is printed first. Without root
# or apt-get, the command that the administrator has to run is printed, and the exit status is 1.

# /usr/sbin has nginx, and a user's PATH may lack it
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

install_packages() {
    local wanted="$*" missing
    missing=$(missing_programs "$wanted")
    [ -z "$missing" ] || install_missing "$missing"
    missing=$(missing_programs "$wanted")
    [ -z "$missing" ] || packages_fail "missing, though installed (program:package): $(echo "$missing" | xargs)"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        packages_fail "this python3 is older than 3.11: $(python3 -V 2>&1)"
}

install_missing() {
    local names packages command="apt-get install -y --no-install-recommends"
    names=$(echo "$1" | cut -d: -f1 | xargs)
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        packages_fail "missing: $names
On Debian, as root:  $command $(packages_of "$1")"
    fi
    echo "$0: missing: $names"
    apt-get update -q
    packages=$(packages_of "$1")
    printf '%s installs these packages of Debian, and what they depend on:\n\n$ %s %s\n' "$0" "$command" "$packages"
    # shellcheck disable=SC2086 # several words
    (without_services $command -q $packages)
}

missing_programs() {
    local each
    for each in $1; do
        case $each in
        venv:*) python3 -c 'import ensurepip, venv' 2>/dev/null || echo "$each" ;;
        certificates:*) [ -e "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" ] || echo "$each" ;;
        *) command -v "${each%:*}" >/dev/null || echo "$each" ;;
        esac
    done
}

# The packages of lines PROGRAM:PACKAGE, each once.
packages_of() {
    local package
    for package in $(echo "$1" | cut -d: -f2); do
        while [ "${package%|*}" != "$package" ] && ! apt-cache show "${package%%|*}" >/dev/null 2>&1; do
            package=${package#*|}
        done
        echo "${package%%|*}"
    done | sort -u | xargs
}

# Debian starts the services that it installs, unless this file says no.
without_services() {
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    DEBIAN_FRONTEND=noninteractive "$@" </dev/null
}

packages_fail() {
    printf '%s: %s\n' "$0" "$1" >&2
    exit 1
}
