# With dscp and ttl uniform the outer header's DSCP and the smaller TTL reach the inner packet.
def inner(tos, ttl):
    return IP(src=CLIENT, dst=POD, tos=tos, ttl=ttl) / UDP(sport=1000, dport=443) / b"uniform"


frame(outer(inner(0x28, 64), tos=0xb8, ttl=9), inject("ipip"), inner(0xb8, 9))
frame(outer(inner(0x28, 7), tos=0xb8, ttl=9), inject("ipip"), inner(0xb8, 7))
