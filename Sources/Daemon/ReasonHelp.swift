// ReasonHelp, what an operator should know of a reason for a drop. `shuck explain` and the table in
// docs/counters.md come from it.

import Forwarding

public struct ReasonHelp: Sendable {
    public struct Command: Sendable {
        /// Capital words stand for what the reader puts there.
        public let text: String
        /// What it shows.
        public let shows: String
    }

    public let reason: DropReason
    /// One phrase.
    public let meaning: String
    /// Most likely first.
    public let causes: [String]
    public let commands: [Command]
    /// In the language of pcap-filter(7), for Ethernet: frames that may have been dropped for the reason.
    public let filter: String

    private static let frames = ("tcpdump -ni IF 'FILTER'", "frames that may have been dropped so")

    /// - Parameter commands: what to type, and what it shows; `FILTER` stands for the filter.
    init(
        _ reason: DropReason, _ meaning: String, causes: [String], commands: [(String, String)] = [],
        filter: String = FrameFilter.encapsulated
    ) {
        self.reason = reason
        self.meaning = meaning
        self.causes = causes
        let own = commands.contains { $0.0.contains("FILTER") } ? commands : commands + [Self.frames]
        let shown = own + [("shuck capture --reason \(reason.name)", "the frames that are dropped so, live")]
        self.commands = shown.map { Command(text: $0.0.replacing("FILTER", with: filter), shows: $0.1) }
        self.filter = filter
    }
}
