// What the model and shuck are both told: a policy, routes and links, and a frame as it came in.

import Forwarding
import IP
import Routing

public struct Setting: Sendable {
    public var policy: Policy
    /// nil: the reverse path is not checked.
    public var routes: [RouteEntry]?
    public var interfaces: [InterfaceState]
    /// Nanoseconds; nil: outer fragments are refused.
    public var fragmentTimeout: UInt64?
    /// Cells of 256 bytes that fragments may take; nil: as many as they need.
    public var fragmentCells: Int?

    public init(policy: Policy, routes: [RouteEntry]?, interfaces: [InterfaceState]) {
        self.policy = policy
        self.routes = routes
        self.interfaces = interfaces
    }

    public func makeWorld() -> ForwardingTables {
        ForwardingTables(
            policy: PolicyTables(policy), routes: routes.map { RouteTable($0) },
            interfaces: interfaces)
    }
}

public struct Arrival: Sendable {
    /// From the network header on.
    public var bytes: [UInt8] = []
    /// Bytes that the capture lost.
    public var cut = 0
    public var linkLength = 14
    public var etherType: UInt16 = 0x0800
    public var interface = 0
    public var isForUs = true
    public var vnet = VirtioHeader()

    public init() {}
}

/// All that can be seen of a verdict.
public struct Answer: Equatable, Sendable {
    public var kind: Verdict.Kind
    public var reason = DropReason.none
    public var tunnel: Int?
    public var mode: Mode?
    public var ecnCell: UInt8?
    // Of an injected packet only, or of a reply.
    public var device: Int?
    public var destination: Int?
    public var bytes: [UInt8] = []
    public var vnet = VirtioHeader()
    public var clampedMSS = false
    public var unclampedMSS = false

    static let pass = Answer(kind: .pass)

    init(kind: Verdict.Kind) { self.kind = kind }

    init(refusal: DropReason, tunnel: Int? = nil, mode: Mode? = nil, ecnCell: UInt8? = nil) {
        kind = .drop
        reason = refusal
        self.tunnel = tunnel
        self.mode = mode
        self.ecnCell = ecnCell
    }

    /// What shuck said of a frame.
    public init(_ verdict: Verdict, of frame: Frame, _ policy: Policy) {
        kind = verdict.kind
        reason = verdict.reason
        tunnel = verdict.tunnel == Verdict.noIndex ? nil : Int(verdict.tunnel)
        mode = tunnel == nil ? nil : verdict.mode
        ecnCell = verdict.ecnCell == Verdict.noCell ? nil : verdict.ecnCell
        guard kind == .inject || kind == .reply else { return }
        device = Int(verdict.device)
        destination = verdict.destination == Verdict.noIndex ? nil : Int(verdict.destination)
        if kind == .reply {
            bytes = Self.reply(verdict, of: frame, policy)
            return
        }
        let head = Int(verdict.headLength)
        let length = Int(verdict.length)
        precondition(head <= length && Int(verdict.offset) + length <= frame.length)
        bytes.reserveCapacity(length)
        bytes.append(contentsOf: UnsafeRawBufferPointer(start: frame.head, count: head))
        bytes.append(
            contentsOf: UnsafeRawBufferPointer(
                start: frame.network + Int(verdict.offset) + head, count: length - head))
        vnet = verdict.vnet
        clampedMSS = verdict.clampedMSS
        unclampedMSS = verdict.unclampedMSS
    }

    /// Where replies come from, in the model and out of it.
    static let ownIPv4: [UInt8] = [192, 0, 2, 1]
    static let ownIPv6: [UInt8] = [0x20, 1, 13, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]

    private static func reply(_ verdict: Verdict, of frame: Frame, _ policy: Policy) -> [UInt8] {
        let isIPv4 = verdict.mode.innerIsIPv4
        let packet = frame.network + Int(verdict.offset)
        let quoted = ICMPErrorMessage.write(
            to: frame.head, frame, verdict, mtu: policy.devices[Int(verdict.device)].mtu)
        let rest = UnsafeRawBufferPointer(start: packet, count: quoted)
        let headers = [UInt8](unsafeUninitializedCapacity: ICMPErrorMessage.headersMax) {
            $1 = ICMPErrorMessage.writePacket(
                to: UnsafeMutableRawPointer($0.baseAddress!), frame.head, quoted: rest,
                source: Address(bytes: isIPv4 ? ownIPv4 : ownIPv6)!,
                target: UnsafeRawBufferPointer(
                    start: packet + (isIPv4 ? 12 : 8), count: isIPv4 ? 4 : 16))
        }
        return headers + rest
    }
}
