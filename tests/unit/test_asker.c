/* Who asks: over loopback TCP of both families, Unix sockets, from elsewhere, and when the client has left. */
#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/settings.h"
#include "daemon/asker.h"

static struct settings settings;
static struct asker asker;

static void setup(void)
{
    ck_assert_int_eq(settings_init(&settings), 0);
}

static void teardown(void)
{
    settings_deinit(&settings);
}

/* A connection of two of our own sockets; ends[0] is the client's. -1 where the address can't be had. */
static int connect_pair(const struct sockaddr *address, socklen_t len, const struct sockaddr *target_address, int ends[2])
{
    struct sockaddr_storage bound, target;
    socklen_t bound_len = sizeof(bound);
    int listener = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), off = 0;
    if (listener < 0)
        return -1;
    if (address->sa_family == AF_INET6)
        ck_assert_int_eq(setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)), 0);
    if (bind(listener, address, len) < 0) {
        close(listener);
        return -1;
    }
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&bound, &bound_len), 0);
    memcpy(&target, target_address, target_address->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    ((struct sockaddr_in *)&target)->sin_port = ((struct sockaddr_in *)&bound)->sin_port; /* at the same place in both */
    ends[0] = socket(target.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(ends[0], 0);
    ck_assert_int_eq(connect(ends[0], (struct sockaddr *)&target, target.ss_family == AF_INET ? sizeof(struct sockaddr_in)
                                                                                              : sizeof(struct sockaddr_in6)), 0);
    ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(ends[1], 0);
    close(listener);
    return 0;
}

static const struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = __builtin_bswap32(INADDR_LOOPBACK)};
static const struct sockaddr_in v4_other = {.sin_family = AF_INET, .sin_addr.s_addr = __builtin_bswap32(0x7f010203)};
static const struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
static const struct sockaddr_in6 v6_any = {.sin6_family = AF_INET6};
static const struct sockaddr_in6 v4_mapped = {
    .sin6_family = AF_INET6, .sin6_addr.s6_addr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1},
};

#define ADDRESS(a) (const struct sockaddr *)&(a), sizeof(a)

static void close_pair(int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

static void assert_unknown(void)
{
    ck_assert(!asker.known);
    ck_assert(!asker.has_gid);
    ck_assert_int_eq(asker.pid, 0);
}

static void assert_self(const char *address)
{
    ck_assert(asker.known && !asker.has_gid && !asker.proxied && !asker.local);
    ck_assert_uint_eq(asker.uid, getuid());
    ck_assert_int_eq(asker.pid, 0);
    ck_assert_msg(strncmp(asker.address, address, strlen(address)) == 0, "%s", asker.address);
}

START_TEST(test_tcp_v4)
{
    int ends[2];
    ck_assert_int_eq(connect_pair(ADDRESS(v4), (const void *)&v4, ends), 0);
    asker_identify(ends[1], &settings, &asker);
    assert_self("127.0.0.1:");
    close_pair(ends);
    ck_assert_int_eq(connect_pair(ADDRESS(v4_other), (const void *)&v4_other, ends), 0);
    asker_identify(ends[1], &settings, &asker);
    assert_self("127."); /* all of 127/8 is loopback */
    close_pair(ends);
}
END_TEST

START_TEST(test_tcp_v6)
{
    int ends[2];
    if (connect_pair(ADDRESS(v6), (const void *)&v6, ends) < 0)
        return; /* no IPv6 here */
    asker_identify(ends[1], &settings, &asker);
    assert_self("[::1]:");
    close_pair(ends);
}
END_TEST

/* An IPv4 client on a socket of both families, and an IPv6 socket that speaks IPv4. */
START_TEST(test_tcp_v4_mapped)
{
    int ends[2];
    if (connect_pair(ADDRESS(v6_any), (const void *)&v4, ends) < 0)
        return;
    asker_identify(ends[1], &settings, &asker);
    assert_self("127.0.0.1:");
    close_pair(ends);
    ck_assert_int_eq(connect_pair(ADDRESS(v6_any), (const void *)&v4_mapped, ends), 0);
    asker_identify(ends[1], &settings, &asker);
    assert_self("127.0.0.1:");
    close_pair(ends);
    ck_assert_int_eq(connect_pair(ADDRESS(v4), (const void *)&v4_mapped, ends), 0);
    asker_identify(ends[1], &settings, &asker);
    assert_self("127.0.0.1:");
    close_pair(ends);
}
END_TEST

/* The entry of a socket that its owner has closed reads as uid 0: nobody may become root by closing. */
START_TEST(test_client_that_left_is_unknown)
{
    int ends[2];
    struct linger now = {.l_onoff = 1};
    ck_assert_int_eq(connect_pair(ADDRESS(v4), (const void *)&v4, ends), 0);
    if (_i == 0)
        shutdown(ends[0], SHUT_WR);
    if (_i == 2)
        setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    if (_i > 0)
        close(ends[0]);
    asker_identify(ends[1], &settings, &asker);
    assert_unknown();
    close(ends[1]);
    if (_i == 0)
        close(ends[0]);
}
END_TEST

/* Our end has been shut down: then too nobody is known, whatever the client's entry says. */
START_TEST(test_unconnected_sockets)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    asker_identify(fd, &settings, &asker);
    assert_unknown();
    close(fd);
    asker_identify(-1, &settings, &asker);
    assert_unknown();
    ck_assert_str_eq(asker.address, "?");
}
END_TEST

/* The owner of the client's socket, not of ours. */
START_TEST(test_another_user)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in in = v4;
    socklen_t len = sizeof(in);
    if (getuid() != 0) {
        close(listener);
        return; /* needs root to become another */
    }
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&in, sizeof(in)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&in, &len), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        if (setgid(4321) < 0 || setuid(4322) < 0)
            _exit(1);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0)
            _exit(2);
        _exit(read(fd, &byte, 1) == 0 ? 0 : 3);
    }
    int fd = accept(listener, NULL, NULL), status;
    asker_identify(fd, &settings, &asker);
    ck_assert(asker.known);
    ck_assert_uint_eq(asker.uid, 4322);
    ck_assert_int_eq(settings_set(&settings, "proxy", "4322", stderr), 0);
    asker_identify(fd, &settings, &asker);
    ck_assert(asker.proxied);
    assert_unknown();
    close(fd);
    close(listener);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(test_unix)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    asker_identify(ends[1], &settings, &asker);
    ck_assert(asker.known && asker.has_gid && asker.local && !asker.proxied);
    ck_assert_uint_eq(asker.uid, getuid());
    ck_assert_uint_eq(asker.gid, getgid());
    ck_assert_int_eq(asker.pid, getpid());
    ck_assert_str_eq(asker.address, "unix");
    char uid[16];
    snprintf(uid, sizeof(uid), "%u", getuid());
    ck_assert_int_eq(settings_set(&settings, "proxy", uid, stderr), 0);
    asker_identify(ends[1], &settings, &asker);
    ck_assert(asker.proxied && asker.local);
    assert_unknown();
    close_pair(ends);
}
END_TEST

/* This machine's own address on another interface: not the loopback one, so a stranger. */
START_TEST(test_own_address_off_loopback)
{
    struct ifaddrs *list, *i;
    int ends[2];
    ck_assert_int_eq(getifaddrs(&list), 0);
    for (i = list; i; i = i->ifa_next)
        if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && !(i->ifa_flags & IFF_LOOPBACK) && (i->ifa_flags & IFF_UP))
            break;
    if (i) {
        struct sockaddr_in in = *(struct sockaddr_in *)i->ifa_addr;
        in.sin_port = 0;
        ck_assert_int_eq(connect_pair(ADDRESS(in), (const void *)&in, ends), 0);
        asker_identify(ends[1], &settings, &asker);
        assert_unknown();
        ck_assert_ptr_nonnull(strchr(asker.address, ':'));
        close_pair(ends);
    }
    freeifaddrs(list);
}
END_TEST

/* A connection between two given ports of 127.0.0.1. -1 where one is taken. */
static int connect_ports(uint16_t client_port, uint16_t server_port, int ends[2])
{
    struct sockaddr_in server = v4, client = v4;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, r = -1;
    server.sin_port = server_port;
    client.sin_port = client_port;
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    if (bind(listener, ADDRESS(server)) == 0 && listen(listener, 1) == 0 && bind(ends[0], ADDRESS(client)) == 0 &&
        connect(ends[0], ADDRESS(server)) == 0) {
        ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        r = 0;
    } else {
        close(ends[0]);
    }
    close(listener);
    return r;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_in in;
    socklen_t len = sizeof(in);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    return in.sin_port;
}

/* A connection of another network namespace has a namesake in ours that belongs to somebody else. */
START_TEST(test_another_network_namespace)
{
    int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), ends[2], namesake[2];
    if (unshare(CLONE_NEWNET) < 0) {
        close(own);
        return; /* not allowed here */
    }
    struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(ioctl(fd, SIOCSIFFLAGS, &up), 0);
    close(fd);
    ck_assert_int_eq(connect_pair(ADDRESS(v4), (const void *)&v4, ends), 0);
    asker_identify(ends[1], &settings, &asker);
    assert_self("127.0.0.1:");
    ck_assert_int_eq(setns(own, CLONE_NEWNET), 0);
    close(own);
    asker_identify(ends[1], &settings, &asker);
    assert_unknown();
    if (connect_ports(port_of(ends[0]), port_of(ends[1]), namesake) == 0) {
        asker_identify(namesake[1], &settings, &asker);
        assert_self("127.0.0.1:");
        asker_identify(ends[1], &settings, &asker);
        assert_unknown();
        close_pair(namesake);
    }
    close_pair(ends);
}
END_TEST

/* Where users are not mapped, all of them read as one number. */
START_TEST(test_unmapped_user)
{
    int ends[2];
    if (unshare(CLONE_NEWUSER) < 0)
        return; /* not allowed here */
    ck_assert_uint_eq(getuid(), 65534);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    asker_identify(ends[1], &settings, &asker);
    assert_unknown();
    close_pair(ends);
    ck_assert_int_eq(connect_pair(ADDRESS(v4), (const void *)&v4, ends), 0);
    asker_identify(ends[1], &settings, &asker);
    assert_unknown();
    close_pair(ends);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("asker");
    TCase *tc = tcase_create("asker");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_tcp_v4);
    tcase_add_test(tc, test_tcp_v6);
    tcase_add_test(tc, test_tcp_v4_mapped);
    tcase_add_loop_test(tc, test_client_that_left_is_unknown, 0, 3);
    tcase_add_test(tc, test_unconnected_sockets);
    tcase_add_test(tc, test_another_user);
    tcase_add_test(tc, test_unix);
    tcase_add_test(tc, test_own_address_off_loopback);
    tcase_add_test(tc, test_another_network_namespace);
    tcase_add_test(tc, test_unmapped_user);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
