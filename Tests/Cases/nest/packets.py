# One layer is stripped, never two.
inner = IP(src=CLIENT, dst=POD) / UDP(sport=1000, dport=443) / b"nest"
frame(outer(IP(src=CLIENT, dst=POD, proto=4) / Raw(bytes(inner))), drop("tunnel_nested"))
frame(outer(IP(src=CLIENT, dst=POD, proto=47) / b"GRE header"), drop("tunnel_nested"))
frame(outer(IPv6(src=CLIENT6, dst=POD6, nh=41) / Raw(bytes(40)), 6), drop("tunnel_nested", "ip6ip6"))
