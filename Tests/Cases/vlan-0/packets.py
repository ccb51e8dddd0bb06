# A tag of VLAN 0 holds a priority alone and is stepped over.
inner = IP(src=CLIENT, dst=POD) / UDP(sport=1000, dport=443) / b"priority"
ether = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01", type=0x8100)
frame(outer(inner), inject("ipip"), inner, link=ether / Dot1Q(prio=5, vlan=0, type=0x0800))
frame(outer(inner), inject("ipip"), inner, link=ether / Dot1Q(vlan=0, type=0x8100) / Dot1Q(vlan=0, type=0x0800))
frame(outer(inner), PASS, link=ether / Dot1Q(vlan=0, type=0x8100) / Dot1Q(vlan=7, type=0x0800))
