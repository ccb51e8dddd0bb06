# What the kernel keeps: another address, another protocol, a VLAN, ARP, another network's fragments.
inner = IP(src=CLIENT, dst=POD) / UDP(sport=1000, dport=443) / b"not ours"
frame(outer(inner, dst="192.0.2.3"), PASS)
frame(IP(src=CLIENT, dst=NODE) / TCP(sport=1000, dport=22, flags="S"), PASS)
frame(outer(inner), PASS, link=Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01", type=0x8100)
      / Dot1Q(vlan=5, type=0x0800))
frame(ARP(psrc=CLIENT, pdst=NODE), PASS, link=Ether(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:02", type=0x0806))
frame(outer(inner, dst="192.0.2.3", flags="MF"), PASS)
