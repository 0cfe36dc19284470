#!/usr/bin/env bash
# README's two commands, on Debian 12 and Ubuntu 24.04:
#
#   ./setup.sh run    installs what cprofd needs, builds it, starts it, and shows the profile of a demo program
#   ./setup.sh test   installs what the tests need, builds, and runs them all
#
# As root, or as a user with sudo. It asks nothing, and uses the network only for missing packages (test: and for the newest
# pprof from Go's module proxy, which is skipped where that can't be reached). With CPROFD_E2E_PROCESSES=N, end-to-end tests that bear
# a busy machine are shared out to N processes; without, they run one after the other.
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1

say() { printf '\n== %s\n' "$*"; }
die() { printf 'setup.sh: %s\n' "$*" >&2; exit 1; }

# Runs a command as root; environment that it needs is given with "env".
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "needs root for '$1', and there is no sudo: run it as root"
    fi
}

# ---- packages

BUILD_PACKAGES=(gcc clang llvm meson ninja-build pkg-config libc6-dev libbpf-dev libelf-dev libdw-dev libprotobuf-c-dev
    protobuf-c-compiler libevent-dev libseccomp-dev libinih-dev libiberty-dev libcapstone-dev libdebuginfod-dev liblzma-dev uthash-dev zlib1g-dev
    libzstd-dev check
    curl python3)
TEST_PACKAGES=(g++ musl-tools libssl-dev libx264-dev libc6-dbg elfutils dwz debuginfod libclang-rt-14-dev
    systemtap-sdt-dev clang-tidy shellcheck python3-pytest python3-pytest-xdist sqlite3 libjemalloc2 procps
    util-linux binutils debootstrap systemd-container qemu-system-x86 busybox-static debian-archive-keyring)

read_os() {
    [ -r /etc/os-release ] || die "no /etc/os-release: only Debian 12 and Ubuntu 24.04 are supported"
    # shellcheck source=/dev/null
    os=$(. /etc/os-release && echo "$ID $VERSION_ID")
    case $os in
    "debian 12")
        BUILD_PACKAGES+=(bpftool)
        TEST_PACKAGES+=(linux-perf libmimalloc2.0 libtcmalloc-minimal4)
        ;;
    "ubuntu 24.04")
        BUILD_PACKAGES+=(linux-tools-common linux-tools-generic)
        TEST_PACKAGES=("${TEST_PACKAGES[@]/libclang-rt-14-dev/libclang-rt-18-dev}")
        ;;
    *) die "this is '$os': only Debian 12 and Ubuntu 24.04 are supported. Needed there: ${BUILD_PACKAGES[*]} bpftool" ;;
    esac
}

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q \
        --no-install-recommends "$@" </dev/null
}

# Lists are refreshed only where what they have is not enough: offline, a complete machine needs no network.
install_packages() {
    local package missing=()

    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "Installing ${missing[*]}"
    apt_install "${missing[@]}" && return
    echo "-- refreshing the package lists, then once more"
    as_root apt-get -o DPkg::Lock::Timeout=300 update -q </dev/null || true
    apt_install "${missing[@]}" || die "can't install ${missing[*]}: see apt's message above"
}

# Ubuntu's /usr/sbin/bpftool refuses to run on another kernel than its own; the real ones lie beside it.
find_bpftool() {
    local candidate

    bpftool version >/dev/null 2>&1 && return
    for candidate in /usr/sbin /usr/lib/linux-tools/* /usr/lib/linux-tools-*; do
        if "$candidate/bpftool" version >/dev/null 2>&1; then
            PATH=$candidate:$PATH
            return
        fi
    done
    die "no bpftool that works, and the build needs one"
}

install_for_build() {
    read_os
    PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
    install_packages "${BUILD_PACKAGES[@]}"
    find_bpftool
}

install_for_tests() {
    [ -x /usr/local/go/bin/go ] && PATH=$PATH:/usr/local/go/bin
    command -v go >/dev/null || TEST_PACKAGES+=(golang-go)
    command -v rustc >/dev/null || TEST_PACKAGES+=(rustc)
    install_for_build
    install_packages "${TEST_PACKAGES[@]}"
}

# build DIR MESON_OPTIONS...
build() {
    local dir=$1

    shift
    [ -f "$dir/build.ninja" ] || meson setup "$dir" "$@" || return
    meson compile -C "$dir" || return
}

# ---- ./setup.sh run

children=()
end_children() {
    local pid

    for pid in "${children[@]}"; do
        as_root kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    children=()
}

answers() { curl -sf --noproxy '*' -o /dev/null "http://$1/healthz"; }

# The first port from 6060 on that nobody listens on.
free_port() {
    local port=6060

    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        port=$((port + 1))
    done
    echo "$port"
}

start_daemon() {
    local become_root=()

    as_root true || die "needs root to sample other processes"
    [ "$(id -u)" -eq 0 ] || become_root=(sudo)
    # Not by as_root: what $! would name then is a shell around it, whose end is not the daemon's.
    "${become_root[@]}" build/daemon/cprofd --listen "$address" >build/cprofd.log 2>&1 &
    children+=($!)
    for _ in {1..100}; do
        answers "$address" && return
        kill -0 "${children[0]}" 2>/dev/null || as_root kill -0 "${children[0]}" 2>/dev/null || break
        sleep 0.1
    done
    cat build/cprofd.log >&2
    die "the daemon did not start: its message is above"
}

# A table of functions from folded stacks: own time, and time with all that they called.
top_functions() {
    awk '{
        n = $NF; sub(/ [0-9]+$/, ""); total += n; depth = split($0, frame, ";"); own[frame[depth]] += n
        delete seen
        for (i = 1; i <= depth; i++)
            if (!(frame[i] in seen)) { seen[frame[i]] = 1; all[frame[i]] += n }
    }
    END {
        for (name in all)
            printf "%8.2f%% %8.2f%%  %s\n", 100 * own[name] / total, 100 * all[name] / total, name
    }' | sort -k1,1nr -k2,2nr | head -n 16
}

show_profile() {
    local pid=$1 url=http://$address/pid/$1/debug/pprof/profile folded

    say "5 seconds of process $pid, whose functions part1 to part10 take 1/55 to 10/55 of its time"
    echo "curl '$url?seconds=5&hz=499&format=folded'"
    folded=$(curl -sf --noproxy '*' "$url?seconds=5&hz=499&format=folded") || die "no profile: $(curl -s --noproxy '*' "$url?seconds=1")"
    printf '%9s %9s  %s\n' own total function
    top_functions <<<"$folded"
    say "What the profile says of itself"
    curl -sf --noproxy '*' "http://$address/pid/$pid/debug/quality?seconds=1" || die "no answer from /debug/quality"
    echo
}

run() {
    local pid

    install_for_build
    say "Building"
    build build || die "the build failed: see above"
    address=127.0.0.1:$(free_port)
    trap end_children EXIT
    trap 'exit 130' INT TERM
    say "Starting the daemon on $address (its log: build/cprofd.log)"
    start_daemon
    build/tests/programs/ten_series </dev/null >/dev/null &
    pid=$!
    children+=("$pid")
    show_profile "$pid"
    cat <<EOF

The same with Go's tool:    go tool pprof -top 'http://$address/pid/$pid/debug/pprof/profile?seconds=5'
Any other process:          curl -o cpu.pb.gz 'http://$address/pid/PID/debug/pprof/profile?seconds=10'
What may be profiled:       http://$address/
EOF
    if [ -t 0 ] && [ -t 1 ]; then
        say "The daemon and the demo run until you press Ctrl-C"
        wait "${children[0]}"
    fi
}

# ---- ./setup.sh test

n_passed=0 n_failed=0 n_skipped=0

count() {
    n_passed=$((n_passed + $1))
    n_failed=$((n_failed + $2))
    n_skipped=$((n_skipped + $3))
}

# What is only made of CPU time (builds, analysis, emulated kernels) goes on beside tests. It gets the CPU that they leave, so that it does not
# disturb what they measure.
kept=
declare -A begun=()

count_apart() {
    local n_passed=0 n_failed=0 n_skipped=0

    chrt --idle --pid 0 "$BASHPID"
    "$1"
    echo "$n_passed $n_failed $n_skipped" >"$kept/$1.counts"
}

# begin FUNCTION: in the background. What it prints and counts is kept for finish.
begin() {
    set -m # a process group of its own, which can be ended as a whole
    count_apart "$1" >"$kept/$1.log" 2>&1 </dev/null &
    begun[$1]=$!
    set +m
}

# finish FUNCTION: whether it was done without a failure.
finish() {
    local counts

    wait "${begun[$1]}"
    unset "begun[$1]"
    cat "$kept/$1.log"
    counts=$(cat "$kept/$1.counts" 2>/dev/null || echo 0 1 0)
    # shellcheck disable=SC2086
    count $counts
    [[ $counts == *" 0 "* ]]
}

end_background() {
    local pid

    for pid in "${begun[@]}"; do
        kill -- "-$pid" 2>/dev/null
    done
    rm -rf "$kept"
}

# A step that passes or fails as a whole: step NAME COMMAND...
step() {
    local name=$1

    shift
    say "$name"
    if "$@"; then
        count 1 0 0
    else
        echo "FAILED: $name"
        count 0 1 0
        return 1
    fi
}

# The counts of meson's own summary: one for each test program.
meson_tests() {
    local name=$1 dir=$2 log counts

    shift 2
    say "$name"
    log=$(mktemp)
    meson test -C "$dir" --print-errorlogs --no-suite system "$@" 2>&1 | tee "$log"
    counts=$(awk '/^Ok:/ { ok = $2 } /^Expected Fail:/ { ok += $3 } /^Skipped:/ { skipped = $2 }
        /^Fail:/ { bad += $2 } /^Unexpected Pass:/ { bad += $3 } /^Timeout:/ { bad += $2; seen = 1 }
        /^No suitable tests/ { seen = 1 }
        END { if (seen) print ok + 0, bad + 0, skipped + 0; else print 0, 1, 0 }' "$log")
    rm -f "$log"
    # shellcheck disable=SC2086
    count $counts
}

build_with_sanitizers() {
    step "Build with AddressSanitizer and UndefinedBehaviorSanitizer" build build-asan -Db_sanitize=address,undefined
}

build_without_assertions() {
    step "Build without assertions" \
        build build-ndebug --buildtype=release -Db_ndebug=true -Dc_args=-D_FORTIFY_SOURCE=2
}

build_with_clang() {
    export CC=clang CXX=clang++
    step "Build with clang, fuzzers included" build build-fuzz -Dfuzzers=true -Db_sanitize=address,undefined -Db_lundef=false
}

# A few seconds of each, from its corpus on: found inputs go to a folder that is thrown away.
run_fuzzer() {
    local name=$1 found

    found=$(mktemp -d)
    "build-fuzz/tests/fuzz/libfuzzer_$name" -max_total_time=5 -timeout=10 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="$found/" "$found" "tests/fuzz/corpus/$name"
    local result=$?
    rm -rf "$found"
    return $result
}

static_analysis() {
    find util config bpf symbolize pprof daemon -name '*.c' ! -name '*.bpf.c' -print0 |
        xargs -0 -P 2 -n 8 clang-tidy --quiet -p build-fuzz
}

# e2e_tests NAME PYTEST_OPTIONS... (-n PROCESSES --dist loadfile: each process with a daemon of its own, and whole files)
e2e_tests() {
    local name=$1 log counts

    shift
    say "$name"
    log=$(mktemp -d)
    as_root env PATH="$PATH" PYTHONDONTWRITEBYTECODE=1 GOPATH="${GOPATH:-}" HOME="$HOME" CPROFD_BUILD="$PWD/build" \
        timeout 1800 /usr/bin/python3 -m pytest -p no:cacheprovider -q -rfEs --durations=10 \
        --junitxml="$log/e2e.xml" "$@" tests/e2e </dev/null
    counts=$(as_root /usr/bin/python3 tests/e2e/count_results.py "$log/e2e.xml")
    as_root rm -rf "$log"
    # shellcheck disable=SC2086
    count $counts
}

# In a booted container, whose tree is kept for the next time.
service_tests() {
    say "The service under systemd"
    as_root env PATH="$PATH" PYTHONDONTWRITEBYTECODE=1 CPROFD_TREES="${CPROFD_TREES:-/var/cache/cprofd-trees}" \
        timeout 1800 /usr/bin/python3 tests/system/nspawn.py build </dev/null
    case $? in
    0) count 1 0 0 ;;
    77) count 0 0 1 ;;
    *) count 0 1 0 ;;
    esac
}

# The programs and a profile on older and newer kernels, emulated; they are fetched once, about 80 MB.
kernel_tests() {
    say "Other kernels"
    as_root env PATH="$PATH" PYTHONDONTWRITEBYTECODE=1 CPROFD_TREES="${CPROFD_TREES:-/var/cache/cprofd-trees}" \
        CPROFD_BUILD="$PWD/build" timeout 3600 tests/kernels/run all </dev/null
    case $? in
    0) count 1 0 0 ;;
    77) count 0 0 1 ;;
    *) count 0 1 0 ;;
    esac
}

fuzz() {
    local fuzzer

    meson_tests "Fuzzers, over their corpora" build-fuzz --suite fuzz
    for fuzzer in custom_query demangle go jitdump line_table perf_map procfs render settings split_package stack unwind unwind_image; do
        step "Fuzzing: $fuzzer" run_fuzzer "$fuzzer"
    done
}

analyse_and_boot() {
    step "Static analysis of the C code" static_analysis
    step "Static analysis of the scripts" shellcheck setup.sh .ci/run tests/system/fresh-tree.sh tests/kernels/init
    [ ! -x build/daemon/cprofd ] || kernel_tests
}

# Each build goes on while the one before it is tested, emulated kernels while fuzzers and the service take one CPU at most; the end-to-end tests
# have the machine for themselves.
run_tests() {
    local built

    install_for_tests
    kept=$(mktemp -d)
    trap end_background EXIT
    trap 'exit 130' INT TERM
    step "Build" build build
    built=$?
    begin build_with_sanitizers
    [ $built -ne 0 ] || meson_tests "Unit tests, as shipped" build
    finish build_with_sanitizers
    built=$?
    begin build_without_assertions
    [ $built -ne 0 ] || meson_tests "Unit tests under the sanitizers" build-asan
    finish build_without_assertions
    built=$?
    begin build_with_clang
    [ $built -ne 0 ] || meson_tests "Unit tests without assertions" build-ndebug
    finish build_with_clang
    built=$?
    begin analyse_and_boot
    [ $built -ne 0 ] || fuzz
    [ ! -x build/daemon/cprofd ] || service_tests
    finish analyse_and_boot
    if [ -x build/daemon/cprofd ]; then
        e2e_tests "End to end" -m "not quiet" -n "${CPROFD_E2E_PROCESSES:-0}" --dist loadfile
        e2e_tests "End to end: what needs a quiet machine, or changes it" -m quiet
    fi
    printf '\n%d passed, %d failed, %d skipped\n' "$n_passed" "$n_failed" "$n_skipped"
    [ "$n_failed" -eq 0 ] && [ "$n_passed" -gt 0 ]
}

case ${1-} in
run) run ;;
test) run_tests ;;
*) die "usage: ./setup.sh run | test" ;;
esac
