# Debian's packages without root and without installing anything. Sourced after lib.sh.
# shellcheck shell=sh

# Downloads packages into a folder that is there; $1 is its absolute path, the packages follow. Returns 1 where that is
# not possible.
download_packages() {
    folder=$1
    shift
    if ! have apt-get || ! have dpkg-deb; then
        say "This is no Debian or Ubuntu: $* cannot be had from here."
        return 1
    fi
    ! download_with "$@" || return 0
    say "apt's lists of packages do not have it, or not its current version. Fetching lists of our own."
    # Into our folder: this works without root, and the system's lists stay as they are.
    apt=$folder/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    set -- -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" "$@"
    if run_apt update "$1" "$2" "$3" "$4" && download_with "$@"; then
        rm -rf "$apt"
        return 0
    fi
    rm -rf "$apt"
    say "The download failed."
    return 1
}

download_with() {
    (cd "$folder" && run_apt download "$@")
}

# As root, apt would hand the download to the user _apt, who may not write into our folder.
run_apt() {
    if is_root; then
        set -- -o APT::Sandbox::User=root "$@"
    fi
    apt-get -q -o Acquire::Retries=2 -o Acquire::http::Timeout=30 "$@"
}
