// The balancer: a tc egress program that wraps packets to a known VIP in an outer IPv4 or IPv6 header.
// adjust_room with an ENCAP flag marks the frame as tunnelled (inner offsets, SKB_GSO_IPXIP4/6), so that a TSO
// super-frame stays one frame across the veth; FIXED_GSO, because the pod's MSS already leaves room for the header.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "wire.h"

struct address { __u8 bytes[16]; };   // IPv4 as ::ffff:a.b.c.d

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, VIPS_MAX);
	__type(key, struct address);
	__type(value, struct outer);
} encap_vips SEC(".maps");

static __always_inline int wrap4(struct __sk_buff *skb, const struct outer *outer, __u8 protocol, __u8 ecn)
{
	__u32 length = skb->len - ETHERNET + IPV4;
	if (length > 0xffff || bpf_skb_adjust_room(skb, IPV4, BPF_ADJ_ROOM_MAC,
			BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_FIXED_GSO))
		return TC_ACT_SHOT;
	struct iphdr ip = { .version = 4, .ihl = 5, .tos = ecn, .tot_len = bpf_htons(length), .frag_off = bpf_htons(0x4000),
		.ttl = outer->ttl, .protocol = protocol };
	__builtin_memcpy(&ip.saddr, outer->local, 4);
	__builtin_memcpy(&ip.daddr, outer->remote, 4);
	__u64 sum = (__u32)bpf_csum_diff(0, 0, (__be32 *)&ip, sizeof ip, 0);
	sum = (sum & 0xffff) + (sum >> 16);
	ip.check = ~((sum & 0xffff) + (sum >> 16));
	__be16 type = bpf_htons(ETH_P_IP);
	if (bpf_skb_store_bytes(skb, ETHERNET, &ip, sizeof ip, 0) || bpf_skb_store_bytes(skb, 12, &type, 2, 0))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

static __always_inline int wrap6(struct __sk_buff *skb, const struct outer *outer, __u8 protocol, __u8 ecn)
{
	__u32 length = skb->len - ETHERNET;
	if (length > 0xffff || bpf_skb_adjust_room(skb, IPV6, BPF_ADJ_ROOM_MAC,
			BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_FIXED_GSO))
		return TC_ACT_SHOT;
	struct ipv6hdr ip = { .version = 6, .payload_len = bpf_htons(length), .nexthdr = protocol, .hop_limit = outer->ttl };
	ip.flow_lbl[0] = ecn << 4;   // traffic class: its low half opens the second byte
	__builtin_memcpy(&ip.saddr, outer->local, 16);
	__builtin_memcpy(&ip.daddr, outer->remote, 16);
	__be16 type = bpf_htons(ETH_P_IPV6);
	if (bpf_skb_store_bytes(skb, ETHERNET, &ip, sizeof ip, 0) || bpf_skb_store_bytes(skb, 12, &type, 2, 0))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

SEC("tc")
int encap(struct __sk_buff *skb)
{
	struct address to = {};
	__u8 start[2], protocol, ecn;
	if (bpf_skb_load_bytes(skb, ETHERNET, start, sizeof start))
		return TC_ACT_OK;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		to.bytes[10] = to.bytes[11] = 0xff;
		if (bpf_skb_load_bytes(skb, ETHERNET + 16, to.bytes + 12, 4))
			return TC_ACT_OK;
		protocol = IPPROTO_IPIP;
		ecn = start[1] & 3;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (bpf_skb_load_bytes(skb, ETHERNET + 24, to.bytes, 16))
			return TC_ACT_OK;
		protocol = IPPROTO_IPV6;
		ecn = start[1] >> 4 & 3;
	} else {
		return TC_ACT_OK;
	}
	const struct outer *outer = bpf_map_lookup_elem(&encap_vips, &to);
	if (!outer)
		return TC_ACT_OK;
	if (outer->ecn != 0xff)
		ecn = outer->ecn & 3;
	return outer->family == 4 ? wrap4(skb, outer, protocol, ecn) : wrap6(skb, outer, protocol, ecn);
}

char _license[] SEC("license") = "GPL";
