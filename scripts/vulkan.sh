# Makes sure that there is a Vulkan driver, or installs a software one. Sourced by scripts/test after lib.sh.
# shellcheck shell=sh

# Whether the Vulkan loader and at least one driver are here.
have_vulkan() {
    has_loader && has_driver
}

has_loader() {
    for ldconfig in ldconfig /sbin/ldconfig /usr/sbin/ldconfig; do
        if have "$ldconfig"; then
            "$ldconfig" -p 2>/dev/null | grep -q 'libvulkan\.so\.1' && return 0
            break
        fi
    done
    # Systems without a cache of libraries (musl, NixOS) and paths of the caller's own.
    (
        IFS=:
        for folder in ${LD_LIBRARY_PATH:-} /lib /lib64 /usr/lib /usr/lib64 /usr/local/lib; do
            [ -e "$folder/libvulkan.so.1" ] && exit 0
        done
        exit 1
    )
}

# The places where the loader looks, in its order: the variables replace the folders.
has_driver() {
    named=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}
    if [ -n "$named" ]; then
        (
            IFS=:
            for file in $named; do
                [ -f "$file" ] && exit 0
            done
            exit 1
        )
        return
    fi
    (
        IFS=:
        folders="${XDG_CONFIG_HOME:-$HOME/.config}:${XDG_CONFIG_DIRS:-/etc/xdg}:/usr/local/etc:/etc"
        folders="$folders:${XDG_DATA_HOME:-$HOME/.local/share}:${XDG_DATA_DIRS:-/usr/local/share:/usr/share}"
        folders="$folders:/usr/local/share:/usr/share"
        for folder in $folders; do
            for file in "$folder"/vulkan/icd.d/*.json; do
                [ -f "$file" ] && exit 0
            done
        done
        exit 1
    )
}

# Says what it is about to do, does it, and fails with what to do instead.
ensure_vulkan() {
    if [ "$(uname -s)" != Linux ] || have_vulkan; then
        # Metal and DX12 come with their systems.
        hint_slow_mesa
        return 0
    fi
    by_hand="Install a Vulkan driver and the Vulkan loader by hand, then run this again. A GPU's own driver will do;
       without a GPU it is Mesa's software driver: vulkan-swrast (Arch), mesa-vulkan-swrast with vulkan-loader
       (Alpine), mesa-vulkan-drivers with vulkan-loader (Fedora)."
    if ! has_loader; then missing="Vulkan loader (libvulkan.so.1)"; else missing="Vulkan driver"; fi
    if [ -n "${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}" ] && has_loader; then
        fail "VK_DRIVER_FILES or VK_ICD_FILENAMES is set, and none of the files that it names is there." \
            "Correct it, or unset it to use the drivers of the system."
    fi
    have apt-get || fail "No $missing found, and the tests need one." "$by_hand"

    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    if [ "$codename" = bookworm ]; then
        release="bookworm-backports"
        what="mesa-vulkan-drivers from bookworm-backports (several times faster than bookworm's own) and libvulkan1"
    else
        release=""
        what="mesa-vulkan-drivers and libvulkan1"
    fi
    say "No $missing found. Installing Mesa's software driver: $what."
    if is_root; then
        sudo=""
    elif have sudo; then
        sudo="sudo"
        say "This needs root: sudo may ask for your password."
    else
        fail "Installing packages needs root, and sudo is not here." \
            "As root, on Debian 12 with bookworm-backports among the sources of apt:" \
            "apt-get update && apt-get install ${release:+-t $release }libvulkan1 mesa-vulkan-drivers" "Or: $by_hand"
    fi
    if [ -n "$release" ] && ! grep -rqs "^[^#]*bookworm-backports" /etc/apt/sources.list /etc/apt/sources.list.d; then
        add_backports
    fi
    $sudo apt-get update || fail "apt-get update failed." "$by_hand"
    # shellcheck disable=SC2086 # no word where there is no sudo or no release
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ${release:+-t $release} \
        libvulkan1 mesa-vulkan-drivers || fail "The driver could not be installed." "$by_hand"
    have_vulkan || fail "The packages are installed, but no Vulkan driver is to be found." "$by_hand"
}

# Debian 12's own Mesa works but makes the tests slow where they run on it.
hint_slow_mesa() {
    have dpkg-query || return 0
    version=$(dpkg-query -W -f '${Version}' mesa-vulkan-drivers 2>/dev/null) || return 0
    case $version in
        22.3.*) say "mesa-vulkan-drivers $version is here. On a machine without a GPU, the one in bookworm-backports" \
            "is several times faster: apt-get install -t bookworm-backports mesa-vulkan-drivers" ;;
    esac
}

add_backports() {
    file=/etc/apt/sources.list.d/bookworm-backports.sources
    say "Adding $file to the sources of apt; remove it again as you like."
    # shellcheck disable=SC2086
    $sudo tee "$file" >/dev/null <<'END'
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
}
