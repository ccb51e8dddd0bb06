# Headers that lie or are cut short.
inner = IP(src=CLIENT, dst=POD) / UDP(sport=1000, dport=443) / b"damaged"
frame(outer(inner, chksum=0x1234), drop("ip_csum"))
frame(outer(IP(src=CLIENT, dst=POD, chksum=1) / UDP(sport=1000, dport=443)), drop("ip_csum"))
frame(outer(IP(src=CLIENT, dst=POD, ttl=0) / UDP(sport=1000, dport=443)), drop("ip_ttl"))
frame(outer(IP(src=CLIENT, dst=POD, len=200) / UDP(sport=1000, dport=443)), drop("pkt_too_small"))
frame(outer(IP(src=CLIENT, dst=POD, version=5) / UDP(sport=1000, dport=443), proto=4), drop("ip_inhdr"))
