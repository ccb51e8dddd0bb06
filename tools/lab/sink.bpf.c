// The sink: a tc ingress program in the pod that counts and drops the generator's packets and passes all others.
// It counts each packet within a coalesced (GSO) datagram and reads each mark: so the cost per packet is the same with
// and without coalescing.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "wire.h"

#define SEGMENTS_MAX 128   // UDP_MAX_SEGMENTS

const volatile __u32 link_header = ETHERNET;   // 0 on a TUN

// Memory-mapped, so that reading and clearing are plain loads and stores.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CPUS_MAX);
	__type(key, __u32);
	__type(value, struct counters);
} sink_counters SEC(".maps");

struct {   // the sequence number each flow should have next
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOWS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} sink_flows SEC(".maps");

static __always_inline void order(struct counters *count, const struct generated *mark)
{
	__u32 flow = bpf_ntohl(mark->flow);
	__u64 sequence = bpf_be64_to_cpu(mark->sequence);
	__u64 *next = bpf_map_lookup_elem(&sink_flows, &flow);
	if (!next) {
		count->unknown++;
	} else if (sequence >= *next) {
		count->gaps += sequence - *next;
		*next = sequence + 1;
	} else if (sequence + 1 == *next) {
		count->duplicates++;
	} else {
		count->out_of_order++;
	}
}

// Counts the packets of one frame: `at` is where the UDP header starts, `inner` the IP header's length, `total` the
// IP packet's length by its header.
static __always_inline int account(struct __sk_buff *skb, __u32 at, __u32 inner, __u32 total)
{
	struct { __be16 from, to, length, check; } udp;
	struct generated mark;
	if (bpf_skb_load_bytes(skb, at, &udp, sizeof udp) || udp.to != bpf_htons(DISCARD_PORT))
		return TC_ACT_UNSPEC;
	if (bpf_skb_load_bytes(skb, at + UDP, &mark, sizeof mark) || mark.tag != bpf_htons(GENERATED_TAG))
		return TC_ACT_UNSPEC;
	__u32 cpu = bpf_get_smp_processor_id();
	struct counters *count = bpf_map_lookup_elem(&sink_counters, &cpu);
	if (!count)
		return TC_ACT_SHOT;
	// TUN leaves gso_segs at 0, so the number comes from the length.
	__u32 payload = skb->len - at - UDP, step = skb->gso_size ? skb->gso_size : payload;
	_Bool wrong = skb->len - link_header != total || bpf_ntohs(udp.length) != payload + UDP;
	count->frames++;
	for (__u32 i = 0, from = 0; i < SEGMENTS_MAX && from < payload; i++, from += step) {
		__u32 bytes = payload - from < step ? payload - from : step;
		if (i && bpf_skb_load_bytes(skb, at + UDP + from, &mark, sizeof mark)) {
			count->wrong_length++;
			break;
		}
		if (mark.tag != bpf_htons(GENERATED_TAG) || bpf_ntohs(mark.length) != inner + UDP + bytes)
			wrong = 1;
		count->packets++;
		count->bytes += inner + UDP + bytes;
		count->wrong_length += wrong;
		order(count, &mark);
	}
	return TC_ACT_SHOT;
}

SEC("tc")
int sink(struct __sk_buff *skb)
{
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		__u8 ip[IPV4];
		if (bpf_skb_load_bytes(skb, link_header, ip, sizeof ip) || ip[0] != 0x45 || ip[9] != IPPROTO_UDP)
			return TC_ACT_UNSPEC;
		return account(skb, link_header + IPV4, IPV4, ip[2] << 8 | ip[3]);
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		__u8 ip[8];
		if (bpf_skb_load_bytes(skb, link_header, ip, sizeof ip) || ip[6] != IPPROTO_UDP)
			return TC_ACT_UNSPEC;
		return account(skb, link_header + IPV6, IPV6, IPV6 + (ip[4] << 8 | ip[5]));
	}
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
