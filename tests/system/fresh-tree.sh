#!/usr/bin/env bash
# Proves README's commands on a fresh system: a minimal tree made by debootstrap, the committed sources cloned into it, and there
# ./setup.sh run (or what the second argument says), with nothing installed by hand.
#
#   tests/system/fresh-tree.sh debian|ubuntu [run|test]
#
# Needs root, debootstrap, and a mirror. Trees are kept in CPROFD_TREES (default /var/cache/cprofd-trees) for the next time; each run works
# on a copy. Where the distribution's archive keys are not installed, CPROFD_UNSIGNED=1 takes the mirror's word. Exit status 77: could not
# be tried here, with the reason.
set -u -o pipefail

trees=${CPROFD_TREES:-/var/cache/cprofd-trees}
source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

cannot() { echo "skipped: $*" >&2; exit 77; }
die() { echo "failed: $*" >&2; exit 1; }

# The first mirror of this host's own apt configuration, where the host is of the same kind.
host_mirror() {
    grep -rhoE 'https?://[^ ]*/'"$1"'/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1 | tr -d ' '
}

choose() {
    case $1 in
    debian) suite=bookworm mirror=$(host_mirror debian) keyring=/usr/share/keyrings/debian-archive-keyring.gpg
        mirror=${mirror:-http://deb.debian.org/debian} components=main ;;
    ubuntu) suite=noble mirror=$(host_mirror ubuntu) keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg
        mirror=${mirror:-http://archive.ubuntu.com/ubuntu} components=main,universe ;;
    *) die "usage: fresh-tree.sh debian|ubuntu [run|test]" ;;
    esac
    base=$trees/$suite
}

make_base() {
    [ -f "$base/.complete" ] && return
    curl -sfIL -m 20 -o /dev/null "$mirror/dists/$suite/Release" || cannot "no answer from $mirror for $suite"
    if [ -f "$keyring" ]; then
        check=--keyring=$keyring
    elif [ "${CPROFD_UNSIGNED-}" = 1 ]; then
        check=--no-check-gpg
    else
        cannot "no $keyring to check the mirror's signature with"
    fi
    rm -rf --one-file-system "$base"
    mkdir -p "$trees"
    debootstrap --variant=minbase "$check" --components="$components" "$suite" "$base" "$mirror" \
        "$([ -e "/usr/share/debootstrap/scripts/$suite" ] || echo /usr/share/debootstrap/scripts/gutsy)" ||
        die "debootstrap of $suite"
    touch "$base/.complete"
}

# Inside, as in a container: mounts and processes of its own, which end with it.
inside() {
    # shellcheck disable=SC2016
    unshare --mount --propagation private --pid --fork --kill-child bash -c '
        tree=$1; shift
        mount -t proc proc "$tree/proc" && mount --rbind /sys "$tree/sys" && mount --rbind /dev "$tree/dev" &&
        mount -t tmpfs tmpfs "$tree/run" || exit 1
        exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 chroot "$tree" "$@"' inside "$tree" "$@"
}

main() {
    [ "$(id -u)" -eq 0 ] || cannot "needs root"
    command -v debootstrap >/dev/null || cannot "needs debootstrap"
    choose "${1-}"
    make_base
    tree=$(mktemp -d "$trees/run.XXXXXX") || die "no folder in $trees"
    trap 'rm -rf --one-file-system "$tree"' EXIT
    cp -a --reflink=auto "$base/." "$tree/" || die "copying the tree"
    cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
    git clone -q --no-hardlinks "$source_root" "$tree/root/cprofd" || die "cloning the sources"
    inside sh -c "cd /root/cprofd && ./setup.sh ${2-run}" </dev/null || die "./setup.sh ${2-run} on $suite"
    echo "passed: ./setup.sh ${2-run} on a fresh $suite"
}

main "$@"
