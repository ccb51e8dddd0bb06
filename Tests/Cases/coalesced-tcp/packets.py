# Segments that follow each other, between them another flow and a FIN: what is joined is cut to the same bytes again.
def segment(number, port=1000, flags="A", size=400):
    return IP(src=CLIENT, dst=POD, id=100 + number) / TCP(
        sport=port, dport=443, flags=flags, seq=1000 + number * 400, ack=77) / bytes([number] * size)


for number in range(12):
    packet = segment(number, flags="PA" if number == 5 else "FA" if number == 11 else "A",
                     size=100 if number == 10 else 400)
    frame(outer(packet), inject("ipip"), packet)
    if number == 3:
        other = segment(0, port=2000)
        frame(outer(other), inject("ipip"), other)
