// ICMPReport, an ICMP error about a probe.

import IP

/// An ICMP error about a probe, or about its inner packet.
public struct ICMPReport: Hashable, Sendable {
    public var sender: Address
    public var type: UInt8
    public var code: UInt8
    /// The next link's, of an error that tells it. Of the packet that is quoted.
    public var mtu: Int?
    /// Whether it quotes the outer packet: it was refused on the way to the node.
    public var isAboutOuter: Bool

    public init(sender: Address, type: UInt8, code: UInt8, mtu: Int? = nil, isAboutOuter: Bool) {
        self.sender = sender
        self.type = type
        self.code = code
        self.mtu = mtu
        self.isAboutOuter = isAboutOuter
    }

    /// The packet was too big: IPv4 says it as a kind of unreachable (RFC 1191 §4).
    public var isTooBig: Bool { sender.isIPv4 ? type == 3 && code == 4 : type == 2 }

    /// Only the destination sends it: nobody listens at the port.
    public var isPortUnreachable: Bool { sender.isIPv4 ? type == 3 && code == 3 : type == 1 && code == 4 }
}
