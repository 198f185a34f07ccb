# Gets recorded speech to train on. Sourced by scripts/demo after lib.sh and apt.sh.
# shellcheck shell=sh

# Debian's package of Asterisk's English prompts: 568 recordings of one speaker, 25 minutes, 8 kHz, CC BY-SA 3.0.
speech_package=asterisk-core-sounds-en-wav
speech_folder=data/$speech_package

# Downloads and unpacks the package below data/, without root and without installing anything. Returns 1 where that
# is not possible.
get_speech() {
    [ ! -d "$speech_folder" ] || return 0
    say "Downloading speech: the Debian package $speech_package (18 MB) into $speech_folder. Nothing is installed."
    partial=$PWD/$speech_folder.partial
    rm -rf "$partial"
    mkdir -p "$partial"
    if ! download_packages "$partial" "$speech_package"; then
        rm -rf "$partial"
        return 1
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
