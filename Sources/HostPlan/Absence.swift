// Why a part could not be opened, and when shuck tries again.

/// What caused a plan. It decides what a failure to open a part means.
public enum Occasion: Sendable {
    case start, reload
    /// The host changed.
    case follow
}

/// Why a part is not there.
public struct Absence: Sendable, Equatable, Codable {
    public let reason: String
    /// The ifindex of the name at the last attempt. Under another index shuck tries again at once.
    public private(set) var index: Int32 = 0
    /// Failed attempts in a row. 0: not tried, because shuck waits for something that the part needs.
    public private(set) var failures = 0
    /// CLOCK_MONOTONIC in ns; `max`: not before something changes.
    public private(set) var notBeforeNanoseconds: UInt64 = 0
    public private(set) var isPermission = false

    public var isAwaited: Bool { failures == 0 }

    /// The part waits for something that a notice announces, such as a namespace.
    public init(awaiting reason: String) { self.reason = reason }

    /// - Parameter isFinal: only another configuration can change it.
    public init(
        _ reason: String, index: Int32, isPermission: Bool, isFinal: Bool, after old: Absence?, now: UInt64
    ) {
        self.reason = reason
        self.index = index
        self.isPermission = isPermission
        failures = (old.flatMap { $0.index == index ? $0.failures : nil } ?? 0) + 1
        notBeforeNanoseconds = isFinal ? .max : now + Backoff.nanoseconds(failures: failures)
    }
}

extension Part {
    /// Whether a part that fails keeps the daemon from starting, or a configuration from being applied.
    /// - Parameters:
    ///   - isTaken: another shuck has the interface.
    ///   - wasAbsent: it was absent before, for the same reason or another one.
    public func refuses(
        _ occasion: Occasion, isPermission: Bool, isTaken: Bool, wasAbsent: Bool
    ) -> Bool {
        switch (occasion, self) {
        case (.follow, _), (_, .claim): false
        case (.reload, _): !wasAbsent
        // A retry does not bring a missing permission; other causes may pass.
        case (.start, .interface): isPermission || isTaken
        case (.start, .device), (.start, .answers): isPermission
        // The operator asked for these: a failure ends the start, before anything runs.
        case (.start, .claims), (.start, .replyTable), (.start, .errors): true
        }
    }
}
