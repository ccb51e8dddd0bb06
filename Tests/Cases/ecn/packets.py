# RFC 6040 section 4.2: congestion on the way of the outer header is told to the inner one, which must understand it.
def inner(mark):
    return IP(src=CLIENT, dst=POD, tos=mark) / UDP(sport=1000, dport=443) / b"mark"


NOT, ECT1, ECT0, CE = range(4)
frame(outer(inner(ECT0), tos=CE), inject("ipip"), inner(CE))
frame(outer(inner(ECT0), tos=ECT1), inject("ipip"), inner(ECT1))
frame(outer(inner(ECT1), tos=ECT0), inject("ipip"), inner(ECT1))
frame(outer(inner(NOT), tos=ECT0), inject("ipip"), inner(NOT))
frame(outer(inner(NOT), tos=CE), drop("ip_tunnel_ecn"))
inner6 = IPv6(src=CLIENT6, dst=POD6, tc=ECT0) / UDP(sport=1000, dport=443) / b"mark"
marked6 = IPv6(src=CLIENT6, dst=POD6, tc=CE) / UDP(sport=1000, dport=443) / b"mark"
frame(outer(inner6, 6, tc=CE), inject("ip6ip6"), marked6)
