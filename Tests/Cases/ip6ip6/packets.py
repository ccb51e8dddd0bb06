# IPv6 in IPv6: a datagram, a segment, an echo request, and nothing but a header.
for data in [UDP(sport=1000, dport=443) / b"datagram", TCP(sport=1000, dport=443, flags="PA", seq=7) / b"segment",
             ICMPv6EchoRequest(id=7) / b"echo"]:
    inner = IPv6(src=CLIENT6, dst=POD6) / data
    frame(outer(inner, 6), inject("ip6ip6"), inner)
inner = IPv6(src=CLIENT6, dst=POD6, nh=59)
frame(outer(inner, 6), inject("ip6ip6"), inner)
