# Sources that no packet from outside may have, and a destination that none may have.
data = UDP(sport=1000, dport=443) / b"martian"
for source in ["127.0.0.1", "0.1.2.3", "169.254.1.1", "224.0.0.1", "255.255.255.255"]:
    frame(outer(IP(src=source, dst=POD) / data), drop("ip_invalid_source"))
for source in ["::1", "ff02::1", "fe80::1"]:
    frame(outer(IPv6(src=source, dst=POD6) / data), drop("ip_invalid_source", "ip6ip"))
frame(outer(IP(src=CLIENT, dst="127.0.0.1") / data), drop("ip_invalid_dest"))
