// The generator: BPF_PROG_TEST_RUN runs this XDP program on live frames. The program writes one encapsulated UDP packet
// and redirects it into the veth. The kernel recycles frames with the receiver's changes (a moved Ethernet header, a
// lower TTL), so the program writes every header byte again, but not the padding behind the 16 marked bytes.
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "wire.h"

// Written by user space before the run.
struct recipe recipe SEC(".data.recipe") = {};

// Nanoseconds spent only on waiting for the next frame's time. A measurement of the host's CPU subtracts them.
__u64 waited SEC(".data.waited") = 0;

// Where the run stands. One thread runs the program, so plain variables do; counting up needs no division.
__u32 next_flow = 0, in_burst = 0, next_turn = 0, in_batch = 0;
__u64 base = 0, due_ps = 0, idle_since = 0;

static __always_inline void copy(void *to, const void *from, int bytes)
{
	int at = 0;
	for (; at + 8 <= bytes; at += 8)
		*(volatile __u64 *)(to + at) = *(const __u64 *)(from + at);
	for (; at + 2 <= bytes; at += 2)
		*(volatile __u16 *)(to + at) = *(const __u16 *)(from + at);
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

static __always_inline void step(void)
{
	if (++next_turn >= recipe.turns)
		next_turn = 0;
	if (++in_burst < recipe.burst)
		return;
	in_burst = 0;
	if (++next_flow < recipe.flows)
		return;
	next_flow = 0;
	base += recipe.burst;
}

// Whether the next frame's time has come. What is late by less than a millisecond is caught up, so that the rate holds;
// more is not, or a pause of this thread would become a flood.
static __always_inline int is_due(void)
{
	if (!recipe.interval_ps)
		return 1;
	// Between two batches the kernel may do the receiver's work in this thread's name: that is no waiting.
	if (++in_batch >= recipe.batch)
		in_batch = 0, idle_since = 0;
	__u64 ns = bpf_ktime_get_ns(), now = ns * 1000;
	if (now < due_ps) {
		if (idle_since)
			waited += ns - idle_since;
		idle_since = in_batch ? ns : 0;
		return 0;
	}
	idle_since = 0;
	if (now - due_ps > 1000000000ull)
		due_ps = now;
	due_ps += recipe.interval_ps;
	return 1;
}

static __always_inline int emit(struct xdp_md *context, int outer, int inner)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	int headers = ETHERNET + outer + inner + UDP + sizeof(struct generated);
	if (!is_due())
		return XDP_DROP;
	__u32 turn = next_turn;
	if (turn >= TURNS_MAX)
		return XDP_ABORTED;
	struct shape *shape = &recipe.shapes[recipe.turn[turn] % SHAPES_MAX];
	// The kernel makes the frame whole again before its next use.
	if (shape->shorter && bpf_xdp_adjust_tail(context, -(int)shape->shorter))
		return XDP_ABORTED;
	data = (void *)(long)context->data, end = (void *)(long)context->data_end;
	if (data + headers > end)
		return XDP_ABORTED;
	__u32 flow = next_flow;
	__u64 sequence = bpf_cpu_to_be64(base + in_burst);
	__u16 id = bpf_htons(base + in_burst);
	step();
	copy(data, shape->template, headers);

	// The flow is in the last byte of the source address (64 hosts) and in the source port. That byte has an odd
	// offset, so it is the high half of its 16-bit word on a little-endian machine.
	__u8 *ip = data + ETHERNET + outer;
	__u8 *udp = ip + inner;
	__u32 host = flow & 63, port = bpf_htons(1024 + (flow >> 6));
	ip[inner == IPV4 ? 15 : 23] += host;
	if (inner == IPV4) {
		// Counting up in each flow, as a sender's connected socket has it.
		*(__u16 *)(ip + 4) = id;
		*(__u16 *)(ip + 10) = fold((__u64)shape->ip_sum + (host << 8) + id);
	}
	*(__u16 *)udp = port;
	__u32 number = bpf_htonl(flow);
	*(__u64 *)(udp + UDP) = sequence;
	*(__u32 *)(udp + UDP + 8) = number;
	__u64 sum = (__u64)shape->udp_sum + (host << 8) + port + (sequence >> 32) + (sequence & 0xffffffff) + number;
	__u16 check = fold(sum);
	*(__u16 *)(udp + 6) = recipe.udp_zero ? 0 : check ? check : 0xffff;
	return bpf_redirect(recipe.interface, 0);
}

SEC("xdp") int ipip(struct xdp_md *context) { return emit(context, IPV4, IPV4); }
SEC("xdp") int ip6ip(struct xdp_md *context) { return emit(context, IPV4, IPV6); }
SEC("xdp") int ipip6(struct xdp_md *context) { return emit(context, IPV6, IPV4); }
SEC("xdp") int ip6ip6(struct xdp_md *context) { return emit(context, IPV6, IPV6); }

char _license[] SEC("license") = "GPL";
