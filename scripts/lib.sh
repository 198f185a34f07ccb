# What the scripts share. Sourced by them, from the root of the repository.
# shellcheck shell=sh

# On what the script is doing, apart from the output of what it calls.
say() {
    printf '\033[1m==>\033[0m %s\n' "$*"
}

# What went wrong and what to do, a line each; ends the script.
fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '       %s\n' "$@" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

need_cargo() {
    # A shell that was open before Rust was installed does not have it on its PATH yet.
    if ! have cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    have cargo || fail "cargo is not on the PATH." "Install Rust first: https://rustup.rs"
}

# The time since a moment given in seconds of `date +%s`, as "3 min 05 s".
since() {
    seconds=$(($(date +%s) - $1))
    if [ "$seconds" -lt 60 ]; then
        echo "$seconds s"
    else
        printf '%d min %02d s\n' $((seconds / 60)) $((seconds % 60))
    fi
}
