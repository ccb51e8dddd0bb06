# A health probe from a link-local address, in a tunnel and without one, gets a source that can be forwarded.
FROM, TO = "fe80::1234:5678:9abc", "2603:1062:0:1:fe80:1234:5678:9abc"


def probe(source):
    return IPv6(src=source, dst=POD6) / TCP(sport=1000, dport=443, flags="A", seq=7)


frame(probe(FROM), inject("native"), probe(TO))
frame(outer(probe(FROM), 6), inject("ip6ip6"), probe(TO))
# Neighbour discovery stays on its link.
frame(IPv6(src=FROM, dst=POD6, hlim=255) / ICMPv6ND_NS(tgt=POD6), PASS)
frame(probe("fe80::1"), PASS)
