// What needs _GNU_SOURCE or a raw system call; the header stays as module Glibc sees the world.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <linux/ethtool.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "CLinux.h"

// A cpu_set_t ends at 1024; the kernel's own bound on CONFIG_NR_CPUS is 8192.
enum { MAX_CPUS = 8192 };

static int allow(const int *cpus, int count) {
    cpu_set_t *set = CPU_ALLOC(MAX_CPUS);
    size_t size = CPU_ALLOC_SIZE(MAX_CPUS);
    if (!set) return -ENOMEM;
    CPU_ZERO_S(size, set);
    for (int i = 0; i < count; i++) CPU_SET_S((size_t)cpus[i], size, set);
    int result = sched_setaffinity(0, size, set) < 0 ? -errno : 0;
    CPU_FREE(set);
    return result;
}

int clinux_pin_self(int cpu) { return allow(&cpu, 1); }

void clinux_timer_slack(unsigned long nanoseconds) { prctl(PR_SET_TIMERSLACK, nanoseconds); }

int clinux_allowed_cpus(int *cpus, int capacity) {
    cpu_set_t *set = CPU_ALLOC(MAX_CPUS);
    size_t size = CPU_ALLOC_SIZE(MAX_CPUS);
    int count = 0;
    if (!set) return -ENOMEM;
    if (sched_getaffinity(0, size, set) != 0) {
        int error = errno;
        CPU_FREE(set);
        return -error;
    }
    for (int cpu = 0; cpu < MAX_CPUS && count < capacity; cpu++)
        if (CPU_ISSET_S((size_t)cpu, size, set)) cpus[count++] = cpu;
    CPU_FREE(set);
    return count;
}

int clinux_allow_cpus(const int *cpus, int count) { return allow(cpus, count); }

int clinux_memfd(const char *name) {
    int fd = memfd_create(name, MFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

void clinux_name_self(const char *name) { pthread_setname_np(pthread_self(), name); }

int clinux_bpf(int command, union bpf_attr *attributes, unsigned size) {
    long result = syscall(SYS_bpf, command, attributes, size);
    return result < 0 ? -errno : (int)result;
}

int clinux_ethtool(int socket_fd, const char *interface, uint32_t command) {
    struct ethtool_value value = {.cmd = command};
    struct ifreq request = {.ifr_data = (void *)&value};
    strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
    return ioctl(socket_fd, SIOCETHTOOL, &request) < 0 ? -errno : (int)(value.data & 0x7fffffff);
}

int clinux_capabilities(uint64_t *effective) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) != 0) return -errno;
    *effective = (uint64_t)data[1].effective << 32 | data[0].effective;
    return 0;
}

int clinux_namespace_kind(int namespace_fd) {
    int kind = ioctl(namespace_fd, NS_GET_NSTYPE);
    return kind < 0 ? -errno : kind;
}

int clinux_enter_network(int namespace_fd) { return setns(namespace_fd, CLONE_NEWNET) < 0 ? -errno : 0; }

int clinux_new_network(void) { return unshare(CLONE_NEWNET) < 0 ? -errno : 0; }

int clinux_mount_own_sysfs(void) {
    if (unshare(CLONE_NEWNS) < 0) return -errno;
    // Else it would appear in every mount namespace that shares this one's mounts.
    if (mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) < 0) return -errno;
    return mount("sysfs", "/sys", "sysfs", 0, NULL) < 0 ? -errno : 0;
}

int clinux_signal_at_parents_end(int signal) { return prctl(PR_SET_PDEATHSIG, signal) < 0 ? -errno : 0; }

// Blocks the signals in the calling thread too: call it before any other thread exists.
int clinux_signalfd(const int *signals, int count) {
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < count; i++) sigaddset(&set, signals[i]);
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error) return -error;
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}
