# An outer datagram in fragments, in any order; one that comes twice; one whose rest never comes.
inner = IP(src=CLIENT, dst=POD) / UDP(sport=1000, dport=443) / bytes(range(100))


def piece(number, first, last, more):
    return IP(src=BALANCER, dst=NODE, proto=4, id=number, flags="MF" if more else 0, frag=first // 8) / Raw(
        bytes(inner)[first:last])


frame(piece(1, 0, 64, True), HOLD)
frame(piece(1, 64, 128, False), inject("ipip"), inner)
frame(piece(2, 64, 128, False), HOLD)
frame(piece(2, 64, 128, False), drop("dup_frag"))
frame(piece(2, 0, 64, True), inject("ipip"), inner)
frame(piece(3, 0, 64, True), HOLD)
