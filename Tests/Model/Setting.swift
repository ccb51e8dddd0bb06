// What the model and shuck are both told: a policy, routes and links, and a frame as it came in.

import Forwarding
import Routing

public struct Setting: Sendable {
    public var policy: Policy
    /// nil: the reverse path is not checked.
    public var routes: [RouteEntry]?
    public var interfaces: [InterfaceState]

    public init(policy: Policy, routes: [RouteEntry]?, interfaces: [InterfaceState]) {
        self.policy = policy
        self.routes = routes
        self.interfaces = interfaces
    }

    public func makeWorld() -> World {
        World(
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
    // Of an injected packet only.
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
    public init(_ verdict: Verdict, of frame: Frame) {
        kind = verdict.kind
        reason = verdict.reason
        tunnel = verdict.tunnel == Verdict.noIndex ? nil : Int(verdict.tunnel)
        mode = tunnel == nil ? nil : verdict.mode
        ecnCell = verdict.ecnCell == Verdict.noCell ? nil : verdict.ecnCell
        guard kind == .inject else { return }
        device = Int(verdict.device)
        destination = verdict.destination == Verdict.noIndex ? nil : Int(verdict.destination)
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
}
