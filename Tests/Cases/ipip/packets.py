# IPv4 in IPv4: a datagram, a segment, an echo request, and nothing but a header.
for data in [UDP(sport=1000, dport=443) / b"datagram", TCP(sport=1000, dport=443, flags="PA", seq=7) / b"segment",
             ICMP(id=7) / b"echo"]:
    inner = IP(src=CLIENT, dst=POD) / data
    frame(outer(inner, 4), inject("ipip"), inner)
inner = IP(src=CLIENT, dst=POD, proto=17)
frame(outer(inner, 4), inject("ipip"), inner)
