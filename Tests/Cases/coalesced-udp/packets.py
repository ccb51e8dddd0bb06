# Datagrams of one flow over IPv4 and over IPv6, the last one shorter; one with a wrong checksum stays as it is.
for number in range(8):
    data = UDP(sport=1000, dport=443, chksum=0xbad if number == 5 else None) / bytes([number] * (90 if number == 7 else 200))
    packet = IP(src=CLIENT, dst=POD, id=number) / data
    packet6 = IPv6(src=CLIENT6, dst=POD6) / data
    frame(outer(packet), inject("ipip"), packet)
    frame(outer(packet6, 6), inject("ip6ip6"), packet6)
