# Gets recorded speech to train on. Sourced by scripts/demo after lib.sh.
# shellcheck shell=sh

# Debian's package of Asterisk's English prompts: 568 recordings of one speaker, 25 minutes, 8 kHz, CC BY-SA 3.0.
speech_package=asterisk-core-sounds-en-wav
speech_folder=data/$speech_package

# Downloads and unpacks the package below data/, without root and without installing anything. Returns 1 where that
# is not possible.
get_speech() {
    [ ! -d "$speech_folder" ] || return 0
    if ! have apt-get || ! have dpkg-deb; then
        say "This is no Debian or Ubuntu: $speech_package cannot be had from here."
        return 1
    fi
    say "Downloading speech: the Debian package $speech_package (18 MB) into $speech_folder. Nothing is installed."
    partial=$PWD/$speech_folder.partial
    rm -rf "$partial"
    mkdir -p "$partial/apt/lists/partial" "$partial/apt/cache/archives/partial"
    if ! download_speech; then
        say "apt's lists of packages do not have it, or not its current version. Fetching lists of our own."
        # Into our folder: this works without root, and the system's lists stay as they are.
        own_lists="-o Dir::State::Lists=$partial/apt/lists -o Dir::Cache=$partial/apt/cache"
        # shellcheck disable=SC2086 # several words on purpose
        if ! run_apt $own_lists update || ! download_speech $own_lists; then
            rm -rf "$partial"
            say "The download failed."
            return 1
        fi
    fi
    mkdir "$partial/unpacked"
    dpkg-deb -x "$partial"/*.deb "$partial/unpacked"
    # Prompts of pure silence, ten of them, teach nothing.
    find "$partial/unpacked" -type d -name silence -prune -exec rm -rf {} +
    mv "$partial/unpacked" "$speech_folder"
    rm -rf "$partial"
    say "The speech is in $speech_folder, its licence (CC BY-SA 3.0) in" \
        "$speech_folder/usr/share/doc/$speech_package/copyright."
}

download_speech() {
    (cd "$partial" && run_apt "$@" download "$speech_package") && ls "$partial"/*.deb >/dev/null 2>&1
}

# As root, apt would hand the download to the user _apt, who may not write into our folder.
run_apt() {
    if is_root; then
        set -- -o APT::Sandbox::User=root "$@"
    fi
    apt-get -q -o Acquire::Retries=2 -o Acquire::http::Timeout=30 "$@"
}
