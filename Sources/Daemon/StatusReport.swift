// One screen of facts, which `shuck status` shows and /status serves.

import Forwarding
import Routing
import Settings

/// One screen of facts, also `shuck status --json`. Times in seconds.
public struct StatusReport: Codable, Sendable {
    public struct Interface: Codable, Sendable {
        public enum State: String, Codable, Sendable { case receiving, down, absent }
        /// What keeps the kernel from answering for our frames.
        public enum Claim: String, Codable, Sendable { case tcx, clsact, socket, none }

        public var name: String
        public var state: State
        public var mtu: Int
        public var reversePath: String
        /// What `consume` asks for, and what holds.
        public var claimAsked: Configuration.Consume
        public var claimActive: Claim
        public var ringSlots: Int
        public var slotBytes: Int
        /// NUMA nodes of the hardware that it stands on; empty for a virtual one.
        public var nodes: [Int]?
    }
    public struct Device: Codable, Sendable {
        public enum State: String, Codable, Sendable { case up, down, absent }

        public var name: String
        public var state: State
        /// Path of the namespace that it stands in; nil: the daemon's own.
        public var netns: String?
        public var mtu: Int
        public var queues: Int
        public var offloads: [String]
        /// Protocols whose segments are joined for it.
        public var joins: [String]
    }
    /// The clamp of what pods answer.
    public struct Replies: Codable, Sendable {
        /// `stale`: nft with the rules of before a change.
        public enum Active: String, Codable, Sendable { case off, nft, stale }

        /// What `mss.replies` asks for, and what holds.
        public var asked: Configuration.MSS.Replies
        public var active: Active
        /// Name of the table of family inet.
        public var table: String?
    }
    public struct WorkerReport: Codable, Sendable {
        public var worker: Int
        public var cpu: Int
        public var node: Int?
        public var state: String
        public var received: UInt64
        public var ringDropped: UInt64
        public var cpuSeconds: Double
        /// Of its rings' and buffers' pages, those on another NUMA node than its CPU; nil where
        /// the host has one node only.
        public var pagesElsewhere: Int?
    }
    public struct Packets: Codable, Sendable {
        public var received: UInt64
        public var injected: UInt64
        public var passed: UInt64
        public var held: UInt64
        public var dropped: UInt64
        public var replied: UInt64
        public var injectedBytes: UInt64
        public var writes: UInt64
        public var ringDropped: UInt64
        public var mssClamped: UInt64
    }
    public struct Drop: Codable, Sendable {
        /// Seconds since it came.
        public var age: Double
        public var interface: String
        /// Addresses, ports and protocols, outer header first.
        public var packet: String
        /// Its headers in hexadecimal, from the network header on; nil: of an earlier version.
        public var head: String?
    }
    public var version: String
    /// Whether it forwards as asked, and where it does not; what `/readyz` says.
    public var ready: Bool
    public var notReady: [String]
    public var processID: Int32
    /// Of the process that forwards.
    public var engineProcessID: Int32?
    public var uptime: Double
    public var mode: Configuration.RunMode
    public var configurationFile: String
    /// Configurations accepted since the start.
    public var generation: UInt64
    /// Changes of policy, routes, links or devices that the workers were handed.
    public var publications: UInt64?
    /// How often one process took over from another since the start.
    public var handOvers: UInt64
    /// How often the process that forwards was started again since the start, and how it ended last.
    public var engineRestarts: UInt64?
    public var lastEngineEnd: String?
    public var lastReloadSuccessful: Bool
    public var lastReloadProblems: [String]
    public var engine: String
    public var joining: String
    public var interfaces: [Interface]
    public var devices: [Device]
    public var mssReplies: Replies
    public var tunnels: [String]
    public var workers: [WorkerReport]
    public var routesIPv4: Int
    public var routesIPv6: Int
    public var rules: Int
    /// Seconds since the mirror was the kernel's; 0: it is.
    public var routesAge: Double
    /// Dumps after the first, by why: lost, links, nexthops or unlike.
    public var routesResyncs: [String: UInt64]
    public var packets: Packets
    public var dropsByReason: [String: UInt64]
    /// The last frame that was refused, by reason.
    public var lastDrops: [String: Drop]?
    public var injectedByMode: [String: UInt64]
    /// Where what is active falls short of what was asked for.
    public var notes: [String]
    /// What slows the workers where they stand: interrupts, NUMA nodes, frequency governors.
    public var placement: [String]?
}

extension StatusReport.Interface {
    /// - Parameters:
    ///   - link: nil: there is none of the name.
    ///   - ring: nil: it is not received from.
    init(
        _ interface: Policy.Interface, link: Link?, ring: (slots: Int, slotBytes: Int)?,
        claimAsked: Configuration.Consume, claimActive: Claim
    ) {
        let state: State = link == nil || ring == nil ? .absent : link?.isUp == true ? .receiving : .down
        self.init(
            name: interface.name, state: state, mtu: link?.mtu ?? 0,
            reversePath: "\(interface.reversePath)", claimAsked: claimAsked, claimActive: claimActive,
            ringSlots: ring?.slots ?? 0, slotBytes: ring?.slotBytes ?? 0)
    }
}

extension StatusReport.Device {
    /// - Parameters:
    ///   - link: of the name, in the daemon's own namespace.
    ///   - queues: 0: it is absent.
    init(_ settings: Configuration.Device, link: Link?, queues: Int, offloads: [String], joins: [String]) {
        // In a pod it was set up when it was opened, and no link of this namespace is it.
        let isPod = settings.netns != nil
        let isUp = isPod ? queues > 0 : link?.isUp == true
        let isThere = isPod ? queues > 0 : link != nil
        self.init(
            name: settings.name, state: isUp ? .up : isThere ? .down : .absent, netns: settings.netns,
            mtu: isPod ? settings.mtu : link?.mtu ?? settings.mtu, queues: queues, offloads: offloads,
            joins: joins)
    }
}
