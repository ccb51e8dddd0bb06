# Nobody outside has the node's or a pod's address.
data = UDP(sport=1000, dport=443) / b"own"
frame(outer(IP(src=NODE, dst=POD) / data), drop("ip_local_source"))
frame(outer(IPv6(src="2001:db8:2::77", dst=POD6) / data), drop("ip_local_source", "ip6ip"))
