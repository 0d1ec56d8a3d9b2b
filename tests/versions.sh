# Sourced by tests/run --all: the tests on other versions of what scr-export runs on, and of what serves it.
# shellcheck shell=bash
#
#     Python 3.12                    the quick tests, where a python3.12 is found
#     the oldest typer               the quick tests (the plain run has the newest one that is allowed)
#     the oldest obstore             pushes to versitygw
#     the oldest servers             nginx of Debian 11, Caddy of Debian 12: the tests of what is served
#     the newest servers             nginx of Debian sid, the newest Caddy of Go's module proxy: the same
#
# Debian 13, and with it Python 3.13, is a test: test_bare_debian.py. So are pushes to a Ceph: test_push_ceph.py.

VERSIONS_NEED="apt-get:apt dpkg-deb:dpkg ceph-mon:ceph-mon ceph-osd:ceph-osd radosgw:radosgw ceph:ceph-common"
OLDEST_TYPER=0.26.0
OLDEST_OBSTORE=0.11.0
MIRROR=${SCR_TEST_DEBIAN_MIRROR:-http://deb.debian.org/debian}
CACHE=${SCR_TEST_CACHE:-$HOME/.cache/scr-export-tests}

# Tests of what is served that ask the servers themselves. Clients and mirrors see the machine's own servers only.
SERVED=()
for subject in requests lists what_refers beside_a_website password examples conditional namespaces wrong_root \
    hostile_cost fuzz several_sites edge fronts page; do
    SERVED+=("tests/served/test_$subject.py")
done

run_versions() {
    LEFT_OUT=()
    versions=$(mktemp -d) # programs in it are run as the user nobody, who may not enter a home
    trap 'rm -rf "$versions"' EXIT
    chmod 755 "$versions"
    attempt "the quick tests with Python 3.12" with_python 3.12
    attempt "the quick tests with typer $OLDEST_TYPER" with_typer "$OLDEST_TYPER"
    attempt "pushes with obstore $OLDEST_OBSTORE" with_obstore "$OLDEST_OBSTORE"
    attempt "nginx of Debian 11, Caddy of Debian 12" with_servers bullseye:nginx-core:nginx bookworm:caddy:caddy
    attempt "nginx of Debian sid, the newest Caddy" with_servers sid:nginx-core:nginx newest_caddy
    rm -rf "$versions"
}

with_python() {
    local python
    if ! python=$(find_python "$1"); then
        LEFT_OUT+=("Python $1: no python$1 in PATH, nor one of pyenv or uv")
        return
    fi
    new_environment "python$1" "$python"
    run_pytest ".venv/versions/python$1" "${QUICK[@]}"
}

find_python() {
    local each
    for each in "$(command -v "python$1")" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python3 \
        "${XDG_DATA_HOME:-$HOME/.local/share}/uv/python/cpython-$1".*/bin/python3; do
        # pyenv puts programs into PATH that only say that there is none
        "$each" -c '' 2>/dev/null && echo "$each" && return
    done
    return 1
}

with_typer() {
    new_environment "typer$1" python3 "typer==$1"
    run_pytest ".venv/versions/typer$1" "${QUICK[@]}"
}

with_obstore() {
    new_environment "obstore$1" python3 "obstore==$1"
    run_pytest ".venv/versions/obstore$1" tests/test_push.py
}

# An environment below .venv/versions: new_environment NAME PYTHON [REQUIREMENT...]
new_environment() {
    local place=.venv/versions/$1
    "$2" -m venv --clear "$place"
    # shellcheck disable=SC2086 # several words
    "$place/bin/pip" install -q $BUILD
    "$place/bin/pip" install -q --no-build-isolation --group tests . "${@:3}"
    echo "$1: $("$place/bin/python" -V), $("$place/bin/pip" freeze | grep -iE '^(typer|obstore)==')"
}

with_servers() {
    local each
    for each in "$@"; do
        case $each in
        newest_caddy) newest_caddy ;;
        *) debian_program ${each//:/ } ;;
        esac
    done
    # which regexes are slow depends on the version of PCRE: the fuzzer itself is tested with this machine's nginx
    SCR_TEST_NGINX=$versions/nginx SCR_TEST_CADDY=$versions/caddy \
        run_pytest .venv "${SERVED[@]}" -k "not slow_regex_is_found"
}

newest_caddy() {
    rm -f "$versions/caddy"
    GOBIN=$versions go install github.com/caddyserver/caddy/v2/cmd/caddy@latest
    go version -m "$versions/caddy" | awk '$1 == "mod" { print "caddy of Go:", $3 }' # it tells no version itself
}

# A program of another release of Debian, with the libraries of that release: debian_program SUITE PACKAGE PROGRAM
# Nothing is installed: packages are unpacked below $versions, and the release's own loader starts the program.
debian_program() {
    local root=$versions/$1 package loader program
    rm -f "$versions/$3"
    fetch_packages "$1" "$2"
    mkdir -p "$root"
    for package in "$CACHE/debian-$1/archives"/*.deb; do
        dpkg-deb -x "$package" "$root"
    done
    loader=$(find "$root"/lib*/*-linux-gnu* "$root/usr"/lib/*-linux-gnu* -maxdepth 1 -name 'ld-linux*.so.*' 2>/dev/null |
        head -n 1)
    program=$(find "$root/usr/sbin/$3" "$root/usr/bin/$3" 2>/dev/null | head -n 1)
    printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' \
        "$loader" "$root/lib/$(arch)-linux-gnu:$root/usr/lib/$(arch)-linux-gnu" "$program" >"$versions/$3"
    chmod 755 "$versions/$3"
    echo "$3 of Debian $1: $(dpkg-deb -W "$CACHE/debian-$1/archives/$2"_*.deb | cut -f2)"
}

# The package and what it depends on, into $CACHE/debian-SUITE/archives. apt's own state stays as it is.
fetch_packages() {
    local state=$CACHE/debian-$1 options each
    mkdir -p "$state/lists/partial" "$state/archives/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $MIRROR $1 main" >"$state/sources.list"
    : >"$state/status" # nothing is installed there, so that apt fetches all libraries too
    options=(-q)
    for each in Dir::State="$state" Dir::State::status="$state/status" Dir::Cache="$state" \
        Dir::Etc::sourcelist="$state/sources.list" Dir::Etc::sourceparts=- Acquire::Languages=none \
        Acquire::Check-Valid-Until=false APT::Sandbox::User=root; do
        options+=(-o "$each")
    done
    rm -f "$state/archives"/*.deb
    apt-get "${options[@]}" update
    apt-get "${options[@]}" install -y --no-install-recommends --download-only "$2"
}
