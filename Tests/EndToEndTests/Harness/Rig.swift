// The lab's network for one test: client, balancer, node and pod, made before and removed after it.

import Foundation
import Testing

enum Place: String { case client, balancer, node, pod }

/// As `tools/lab/rig up --offloads` has them.
enum Offloads: String, CaseIterable, Sendable { case on, gro, off }

final class Rig {
    // As tools/lab/rig has them.
    static let node4 = "192.0.2.2"
    static let node6 = "2001:db8:1::2"
    static let balancer4 = "192.0.2.1"
    static let balancer6 = "2001:db8:1::1"
    static let pod4 = "10.2.1.9"
    static let pod6 = "2001:db8:2::9"
    static let client4 = "198.51.100.2"
    static let client6 = "2001:db8:c::2"

    let name: String
    /// For everything that a test writes.
    let directory: String
    private var commands = 0
    private var background: [RunningCommand] = []

    private init(name: String) throws {
        self.name = name
        directory = NSTemporaryDirectory() + name
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
    }

    /// Runs a test on a rig of its own. Nothing of it is left, whatever happens.
    static func with(offloads: Offloads = .gro, _ body: (Rig) throws -> Void) throws {
        try withoutStale.get()
        let rig = try Rig(name: "shucktest\(getpid())")
        defer { rig.remove() }
        try rig.script("up", "--offloads", offloads.rawValue)
        // Every refused frame is answered, so that silence proves something.
        try rig.set(.node, "net.ipv4.icmp_ratelimit", "0")
        try rig.set(.node, "net.ipv6.icmp.ratelimit", "0")
        try eventually("the carrier of all links") {
            let states = try [Place.client, .balancer, .node, .pod].map {
                try rig.run($0, "ip", "-brief", "link", "show")
            }
            return states.joined().components(separatedBy: " UP ").count == 1 + 6
        }
        try body(rig)
    }

    private func remove() {
        for command in background.reversed() { command.end() }
        _ = try? script("down")
        try? FileManager.default.removeItem(atPath: directory)
    }

    private static let withoutStale = Result { try removeStale() }

    /// Removes rigs of test processes that were killed.
    private static func removeStale() throws {
        guard FileManager.default.fileExists(atPath: "/run/netns") else { return }
        let listed = try FileManager.default.contentsOfDirectory(atPath: "/run/netns")
        let names = Set(listed.compactMap { $0.split(separator: "-").first.map(String.init) })
        for name in names where name.hasPrefix("shucktest") {
            guard let owner = pid_t(name.dropFirst("shucktest".count)),
                kill(owner, 0) != 0 && errno == ESRCH
            else { continue }
            let rig = try Rig(name: name)
            for more in listed where more.hasPrefix(name + "-extra") {
                try rig.launch(["ip", "netns", "delete", more]).wait()
            }
            rig.remove()
        }
    }

    @discardableResult
    private func script(_ verb: String, _ options: String...) throws -> String {
        setenv("LAB", Tools.lab, 1)
        let command = [Tools.root + "/tools/lab/rig", verb, name] + options
        return try launch(command).wait(seconds: 120).get()
    }

    /// Starts a command outside of the rig.
    func launch(_ arguments: [String]) throws -> RunningCommand {
        commands += 1
        return try RunningCommand(arguments, directory: "\(directory)/command\(commands)")
    }

    func arguments(_ place: Place, _ arguments: [String]) -> [String] {
        ["ip", "netns", "exec", "\(name)-\(place)"] + arguments
    }

    /// Runs a command in one of the namespaces: its output. That it fails is an error.
    @discardableResult
    func run(_ place: Place, _ arguments: String..., seconds: Double = 60) throws -> String {
        try launch(self.arguments(place, arguments)).wait(seconds: seconds).get()
    }

    /// Runs a command in one of the namespaces, however it ends.
    func attempt(_ place: Place, _ arguments: [String], seconds: Double = 60) throws
        -> CommandResult
    {
        try launch(self.arguments(place, arguments)).wait(seconds: seconds)
    }

    /// Starts a command that is killed when the test ends.
    func start(_ place: Place, _ arguments: [String]) throws -> RunningCommand {
        let command = try launch(self.arguments(place, arguments))
        background.append(command)
        return command
    }

    /// Starts a server of the lab and waits until it listens.
    @discardableResult
    func serve(_ place: Place, _ arguments: String...) throws -> RunningCommand {
        let server = try start(place, [Tools.lab] + arguments)
        try eventually("\(arguments[0]) to listen") {
            guard server.isRunning else { throw Failure("\(arguments[0]): \(server.errors)") }
            return server.output.hasSuffix("\n")
        }
        return server
    }

    /// Numbered packets of all modes from the balancer to the pod while `body` runs.
    func stream(_ body: () throws -> Void) throws -> Answer {
        let stream = try launch([
            Tools.lab, "stream", "\(name)-balancer", "back", "\(name)-pod", "--rate", "20000", "--seconds",
            "60",
        ])
        defer { stream.end() }
        try eventually("the first packet") { !stream.output.isEmpty }
        usleep(200_000)
        try body()
        usleep(200_000)
        stream.signal(SIGINT)
        return try Answer(stream.wait().get())
    }

    /// Runs a verb of the lab: the numbers and texts that it prints.
    @discardableResult
    func lab(_ place: Place, _ arguments: String...) throws -> Answer {
        try Answer(launch(self.arguments(place, [Tools.lab] + arguments)).wait().get())
    }

    func set(_ place: Place, _ setting: String, _ value: String) throws {
        try run(place, "sysctl", "-qw", "\(setting)=\(value)")
    }

    func get(_ place: Place, _ setting: String) throws -> String {
        try run(place, "sysctl", "-n", setting).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Waits until the pod's echo answers the client.
    func waitForAnswer(_ target: String, _ when: String) throws {
        let once = [Tools.lab, "pingpong", target, "7", "--count", "1", "--timeout-ms", "200"]
        try eventually("an answer \(when)") { try attempt(.client, once).status == 0 }
    }

    /// Sends echo requests of so many bytes of data, each when the one before is answered. Behind the last
    /// of several ping(8) waits for two round trips and no longer, which on a busy host differ more.
    func expectEchoes(
        _ place: Place, _ target: String, count: Int = 3, bytes: Int = 56, options: [String] = [],
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        for number in 1...count {
            let command = ["ping", "-n", "-c", "1", "-W", "5", "-s", "\(bytes)"] + options + [target]
            let result = try attempt(place, command)
            #expect(
                result.output.contains(" 1 received"), "\(number) of \(count): \(result)",
                sourceLocation: sourceLocation)
        }
    }

    /// Runs lines of ip(8) in one of the namespaces.
    func ip(_ place: Place, _ lines: String) throws {
        let path = "\(directory)/batch"
        try lines.write(toFile: path, atomically: false, encoding: .utf8)
        try run(place, "ip", "-batch", path)
    }

    /// Loads rules of nft(8) on the node.
    func nft(_ rules: String) throws {
        let path = directory + "/rules"
        try rules.write(toFile: path, atomically: false, encoding: .utf8)
        try run(.node, "nft", "-f", path)
    }

    func hasLink(_ place: Place, _ link: String) throws -> Bool {
        try attempt(place, ["ip", "link", "show", link]).status == 0
    }

    /// Waits until a device is gone: the kernel closes the files of an io_uring a moment after the ring.
    func waitForEnd(of link: String, _ place: Place) throws {
        try eventually("\(link) to go") { try !hasLink(place, link) }
    }
}

/// One JSON object of the lab.
struct Answer: CustomStringConvertible {
    let description: String
    private let values: [String: Any]

    init(_ text: String) throws {
        description = text
        guard !text.isEmpty else {
            values = [:]
            return
        }
        let object = try JSONSerialization.jsonObject(with: Data(text.utf8))
        guard let values = object as? [String: Any] else { throw Failure("not JSON: \(text)") }
        self.values = values
    }

    /// -1 when there is none.
    subscript(_ name: String) -> Int { (values[name] as? NSNumber)?.intValue ?? -1 }
    func text(_ name: String) -> String { values[name] as? String ?? "" }
}
