# Only the balancers may encapsulate; a destination that is not listed is not reached.
inner = IP(src=CLIENT, dst=POD) / UDP(sport=1000, dport=443) / b"refused"
frame(outer(inner, src="203.0.113.9"), drop("remote_not_allowed"))
frame(outer(inner, 6, src="2001:db8:77::1"), drop("remote_not_allowed", "ipip6"))
frame(outer(IP(src=CLIENT, dst="10.2.1.10") / UDP(sport=1000, dport=443)), drop("destination_not_allowed"))
