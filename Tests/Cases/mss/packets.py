# The MSS of a SYN is lowered to what fits the link beside the outer header, and never raised.
def syn(mss):
    return IP(src=CLIENT, dst=POD) / TCP(sport=1000, dport=443, flags="S", seq=7, options=[("NOP", None), ("MSS", mss)])


def syn6(mss):
    return IPv6(src=CLIENT6, dst=POD6) / TCP(sport=1000, dport=443, flags="S", seq=7, options=[("MSS", mss)])


frame(outer(syn(1460)), inject("ipip"), syn(1440))
frame(outer(syn(1400)), inject("ipip"), syn(1400))
frame(outer(syn(1460), 6), inject("ipip6"), syn(1420))
frame(outer(syn6(1440), 6), inject("ip6ip6"), syn6(1400))
