// Part of Batch (Batch.swift): packets over the limits become drops.

import IP

extension Batch {
    /// Turns into drops what is over the limits.
    @inline(never)
    func apply(_ limits: PacketLimits, _ count: Int, _ times: ArrivalTimes) {
        for index in 0..<count where verdicts[index].kind == .inject {
            let verdict = verdicts + index
            let vnet = verdict.pointee.vnet
            let segments =
                vnet.gsoType == VirtioHeader.gsoNone || vnet.gsoSize == 0
                ? 1 : (Int(verdict.pointee.length) + Int(vnet.gsoSize) - 1) / Int(vnet.gsoSize)
            let isTaken = limits.take(
                segments, from: verdict.pointee.mode == .native ? nil : remote(of: frames[index]),
                now: times.of(frames + index))
            if !isTaken { verdict.pointee.refuse(.rateLimit) }
        }
    }

    /// The outer source. Every frame with a verdict to inject has its outer header.
    private func remote(of frame: Frame) -> Address {
        let packet = Bytes(frame.network, count: frame.length)
        return packet.u8(0) >> 4 == 4 ? Address(ipv4: packet.ipv4.source) : packet.ipv6.source
    }
}
