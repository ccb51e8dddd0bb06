// Shared by the lab's BPF programs and its user-space code: map values, the generator's payload, fixed numbers.
#ifndef LAB_WIRE_H
#define LAB_WIRE_H
#include <linux/types.h>

enum { ETHERNET = 14, IPV4 = 20, IPV6 = 40, UDP = 8, VIPS_MAX = 64, FLOWS_MAX = 1 << 20, CPUS_MAX = 256, DISCARD_PORT = 9 };

// The outer header for one VIP of the balancer. ECN 0xff = copy the inner bits (RFC 6040, normal mode).
struct outer { __u8 family, ttl, ecn, spare; __u8 local[16], remote[16]; };

// The first bytes of every generated UDP payload, big-endian. Magic is GENERATED_TAG and the whole inner length,
// so that the sink can distinguish a cut packet from a short packet.
#define GENERATED_TAG 0x5ca1u
struct generated { __u64 sequence; __u32 flow; __u16 tag, length; };

// One size of generated frame. The sums are native-order partial Internet checksums of all that does not change from
// frame to frame; the template is the frame of flow 0 up to the payload's mark, in words for quick copying.
#define HEADERS_MAX (ETHERNET + IPV6 + IPV6 + UDP + sizeof(struct generated))
struct shape {
	__u32 ip_sum, udp_sum, shorter, spare;   // shorter: bytes cut off the longest frame
	__u64 template[(HEADERS_MAX + 7) / 8];
};

// What the generator's program works from: shapes, and in which turn they come.
#define SHAPES_MAX 4
#define TURNS_MAX 12
struct recipe {
	__u32 interface, flows, burst, udp_zero, turns, batch;   // batch: frames that the kernel runs at a time
	__u64 interval_ps;   // between two frames, in picoseconds; 0: as fast as it goes
	__u8 turn[TURNS_MAX], spare[4];
	struct shape shapes[SHAPES_MAX];
};

// The sink's counters, one cache line pair a CPU so that CPUs do not share lines.
struct counters {
	__u64 packets, bytes, frames, out_of_order, duplicates, wrong_length, unknown, gaps;
} __attribute__((aligned(128)));
#endif
