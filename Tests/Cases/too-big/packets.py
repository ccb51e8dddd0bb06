# A device in a pod's namespace takes 1300 bytes: the sender is told, at a rate, unless it may not be.
big = UDP(sport=1000, dport=443) / bytes(1400)
inner = IP(src=CLIENT, dst=POD, flags="DF") / big
inner6 = IPv6(src=CLIENT6, dst=POD6) / big
fits = IP(src=CLIENT, dst=POD, flags="DF") / UDP(sport=1000, dport=443) / bytes(1272)
frame(outer(fits), inject("ipip"), fits)
frame(outer(inner), reply("pkt_too_big"),
      answer=IP(src=NODE, dst=CLIENT, tos=0xc0, id=0, ttl=64) / ICMP(type=3, code=4, nexthopmtu=1300)
      / Raw(bytes(inner)[:548]))
frame(outer(inner6, 6), reply("pkt_too_big", "ip6ip6"),
      answer=IPv6(src=NODE6, dst=CLIENT6, hlim=64) / ICMPv6PacketTooBig(mtu=1300) / Raw(bytes(inner6)[:1232]))
# No token is left.
frame(outer(inner), drop("pkt_too_big"))
frame(outer(IP(src=CLIENT, dst=POD) / big), drop("pkt_too_big"))
