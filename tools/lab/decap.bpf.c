// The in-kernel peers. A tc ingress program strips the outer header and lets the kernel route the packet, or redirects
// it directly into the pod. An XDP program strips before the kernel makes a socket buffer. They check as little as usual
// programs of this kind, so they are the fastest fair comparison.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "wire.h"

// Linux 6.3; absent from Debian 12's headers. Only these flags change skb->protocol when the families differ.
#define DECAP_L3_IPV4 (1 << 7)
#define DECAP_L3_IPV6 (1 << 8)

const volatile __u32 pod_interface = 0;   // 0: the kernel routes on

SEC("tc")
int decap(struct __sk_buff *skb)
{
	__u8 head[IPV6 + 1], inner = 0;
	__u32 strip;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, ETHERNET, head, IPV4))
			return TC_ACT_OK;
		strip = (head[0] & 15) * 4;
		inner = head[9];
		if (strip < IPV4 || (head[6] & 0x3f) | head[7])   // a fragment is the stack's business
			return TC_ACT_OK;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (bpf_skb_load_bytes(skb, ETHERNET, head, IPV6))
			return TC_ACT_OK;
		strip = IPV6;
		inner = head[6];
	} else {
		return TC_ACT_OK;
	}
	if (inner != IPPROTO_IPIP && inner != IPPROTO_IPV6)
		return TC_ACT_OK;
	_Bool four = inner == IPPROTO_IPIP;
	__be16 type = four ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	_Bool cross = type != skb->protocol;
	// FIXED_GSO: without it a shrinking header raises gso_size above what the pod's MTU takes.
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | (four ? DECAP_L3_IPV4 : DECAP_L3_IPV6);
	if (bpf_skb_adjust_room(skb, -(__s32)strip, BPF_ADJ_ROOM_MAC, flags))
		return TC_ACT_SHOT;
	if (cross && bpf_skb_store_bytes(skb, 12, &type, 2, 0))
		return TC_ACT_SHOT;
	// The frame was addressed to this host, so the pod takes it without a new Ethernet header.
	return pod_interface ? bpf_redirect_peer(pod_interface, 0) : TC_ACT_OK;
}

// With fragments of a frame (xdp.frags), or a veth of an MTU above 3,500 would refuse it.
SEC("xdp.frags")
int decap_xdp(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct ethhdr link, *at = data;
	__u8 *ip = data + ETHERNET;
	__u32 strip;
	__u8 inner;
	if ((void *)(ip + IPV4) > end)
		return XDP_PASS;
	link = *at;
	if (link.h_proto == bpf_htons(ETH_P_IP)) {
		strip = (ip[0] & 15) * 4;
		inner = ip[9];
		if (strip < IPV4 || (ip[6] & 0x3f) | ip[7])
			return XDP_PASS;
	} else if (link.h_proto == bpf_htons(ETH_P_IPV6)) {
		strip = IPV6;
		inner = ip[6];
	} else {
		return XDP_PASS;
	}
	if (inner != IPPROTO_IPIP && inner != IPPROTO_IPV6)
		return XDP_PASS;
	link.h_proto = inner == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	if (bpf_xdp_adjust_head(context, strip))
		return XDP_DROP;
	data = (void *)(long)context->data, end = (void *)(long)context->data_end;
	if (data + sizeof link > end)
		return XDP_DROP;
	*(struct ethhdr *)data = link;
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
