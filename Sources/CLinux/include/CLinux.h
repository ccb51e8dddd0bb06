// The one umbrella over liburing, libnuma, libmnl, libnftables and the kernel's headers. One-line shims, no logic.
#ifndef SHUCK_CLINUX_H
#define SHUCK_CLINUX_H

// These three come first and in this order. <features.h> fixes the feature-test view that module
// Glibc has, whatever later headers define; <linux/io_uring.h> must be seen before liburing's copy.
#include <features.h>
#include <linux/io_uring.h>
#include <liburing.h>

#include <errno.h>
#include <net/if.h>
#include <numa.h>
#include <numaif.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/ethtool.h>
#include <linux/fib_rules.h>
#include <linux/filter.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/netconf.h>
#include <linux/netlink.h>
#include <linux/nexthop.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <linux/virtio_net.h>

#include <libmnl/libmnl.h>
#include <nftables/libnftables.h>

// Macros that the importer does not take: casts and _IOW.
static const unsigned long CLINUX_TUNSETIFF = TUNSETIFF;
static const unsigned long CLINUX_TUNSETOFFLOAD = TUNSETOFFLOAD;
static const unsigned long CLINUX_TUNSETVNETHDRSZ = TUNSETVNETHDRSZ;
static const unsigned long CLINUX_TUNSETSTEERINGEBPF = TUNSETSTEERINGEBPF;

// Newer than Debian 12's headers (Linux 6.1), or hidden without _GNU_SOURCE.
enum {
    CLINUX_TUN_F_USO4 = 0x20,
    CLINUX_TUN_F_USO6 = 0x40,
    CLINUX_BPF_TCX_INGRESS = 46,
    CLINUX_IOSQE_FIXED_FILE = 1 << IOSQE_FIXED_FILE_BIT,
    CLINUX_SO_BINDTOIFINDEX = 62,
    CLINUX_RLIMIT_MEMLOCK = 8,
    CLINUX_CLONE_NEWNET = 0x40000000,
    CLINUX_O_PATH = 010000000,
    CLINUX_IPV4_DEVCONF_FORWARDING = 1,
    CLINUX_IPV4_DEVCONF_RP_FILTER = 8,
    CLINUX_DEVCONF_DISABLE_IPV6 = 26,
    CLINUX_TC_H_CLSACT = 0xfffffff1,
    CLINUX_TC_H_MIN_INGRESS_PARENT = 0xfffffff2,
};

static inline uint32_t clinux_load_acquire(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void clinux_store_release(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void clinux_prefetch(const void *p) { __builtin_prefetch(p); }
static inline unsigned clinux_cq_head(const struct io_uring *r) { return *r->cq.khead; }
static inline unsigned clinux_cq_tail(const struct io_uring *r) { return __atomic_load_n(r->cq.ktail, __ATOMIC_ACQUIRE); }
static inline unsigned clinux_cq_overflow(const struct io_uring *r) { return __atomic_load_n(r->cq.koverflow, __ATOMIC_RELAXED); }
static inline struct io_uring_cqe *clinux_cqe_at(const struct io_uring *r, unsigned i) { return &r->cq.cqes[i & r->cq.ring_mask]; }
static inline uint64_t clinux_monotonic_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// Need _GNU_SOURCE or are variadic: in shim.c. Each returns 0 or a count, or -errno.
int clinux_pin_self(int cpu);
void clinux_timer_slack(unsigned long nanoseconds);
int clinux_allowed_cpus(int *cpus, int capacity);
int clinux_allow_cpus(const int *cpus, int count);
int clinux_memfd(const char *name);
void clinux_name_self(const char *name);
// A word of ethtool(8), such as ETHTOOL_GGRO.
int clinux_ethtool(int socket_fd, const char *interface, uint32_t command);
int clinux_bpf(int command, union bpf_attr *attributes, unsigned size);
int clinux_capabilities(uint64_t *effective);
int clinux_namespace_kind(int namespace_fd);
int clinux_enter_network(int namespace_fd);
int clinux_new_network(void);
// Gives this process a /sys that shows its network namespace.
int clinux_mount_own_sysfs(void);
// The kernel sends this process a signal when the thread that started it ends.
int clinux_signal_at_parents_end(int signal);
// The number of a system call that the engine may use; -1: this architecture has it not.
int clinux_system_call(const char *name);
uint32_t clinux_audit_architecture(void);
int clinux_no_new_privileges(void);
// Of the calling thread.
int clinux_drop_capabilities(void);
// Of all threads; instructions of 8 bytes.
int clinux_filter_system_calls(const uint64_t *program, unsigned short count);
// Operations and registrations (IORING_OP_*, IORING_REGISTER_*) that a ring allows, one that is not enabled yet.
int clinux_restrict_ring(int ring_fd, const uint8_t *operations, unsigned operation_count,
                         const uint8_t *registrations, unsigned registration_count);
int clinux_enable_ring(int ring_fd);
int clinux_signalfd(const int *signals, int count);

#endif
