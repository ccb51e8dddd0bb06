// What an engine has been given so far, by number.

import HostPlan
import LinuxIO
import Settings

/// A value: what is not taken is let go of.
struct TakenParts {
    private var parts: [Int: Plumbing.Held] = [:]
    private var files: [Int: Descriptor] = [:]
    private var counters: [Int: CounterBlock] = [:]
    private var copies: [Int: NamedMemory] = [:]
    private var texts: [HandOver.File] = []
    private(set) var configuration: Configuration?
    private var plumbing = Plumbing()

    /// The provision that a document describes.
    /// - Parameters:
    ///   - descriptors: of what is new, in the document's order; none when they could not be had.
    ///   - isPartly: new parts that cannot be had are left out.
    /// - Returns: with what is had once it is taken, and the numbers of parts that were left out.
    /// - Throws: when they do not fit each other, or the document does not fit what is had.
    func provision(
        _ document: ProvisionDocument, _ descriptors: [Descriptor], isPartly: Bool
    ) throws -> (provision: Provision, next: TakenParts, missing: [Int]) {
        var next = TakenParts()
        (next.texts, next.configuration) = (texts, configuration)
        if let texts = document.files {
            let (configuration, problems) = Configuration.load(files: texts.map { ($0.name, $0.text) })
            guard let configuration else { throw HostProblem(problems.map(\.description)) }
            (next.texts, next.configuration) = (texts, configuration)
        }
        guard let configuration = next.configuration else { throw Self.misfit }
        var left = descriptors[...]
        var new: [(number: Int, piece: HandOver.Piece, own: [Descriptor])] = []
        for part in document.new {
            new.append((part.number, part.piece, Array(left.prefix(max(part.piece.descriptors, 0)))))
            left = left.dropFirst(max(part.piece.descriptors, 0))
        }
        let needed = document.new.reduce(document.newFiles.count) { $0 + $1.piece.descriptors }
        guard needed == descriptors.count || descriptors.isEmpty else { throw Self.misfit }
        guard isPartly || needed == descriptors.count else { throw Self.shortage }
        var files = self.files
        for (number, file) in zip(document.newFiles, left) { files[number] = file }

        var held: [Int: Plumbing.Held] = [:]
        for number in document.known {
            guard let one = parts[number] else { throw Self.misfit }
            held[number] = one
        }
        next.parts = held
        let failures: [Resource.Key: any Error]
        (next.plumbing, failures) = Plumbing.provided(
            held: Array(held.values), new: new.map { ($0.piece, $0.own) }, absences: document.absences,
            socketInterfaces: document.socketInterfaces, configuration, limits: plumbing.limits)
        if !isPartly, let failure = failures.first { throw failure.value }
        for (number, piece, _) in new { next.parts[number] = next.plumbing.held[piece.resource.key] }
        let missing = new.filter { failures[$0.piece.resource.key] != nil }.map(\.number)

        func file(_ number: Int) throws -> Descriptor {
            guard let file = files[number] else { throw Self.misfit }
            next.files[number] = file
            return file
        }
        func memory(_ number: Int) throws -> NamedMemory {
            let found =
                try copies[number]
                ?? NamedMemory(adopting: file(number), byteCount: FrameCopies.byteCount)
            (next.copies[number], next.files[number]) = (found, found.file)
            return found
        }
        let shape = CounterBlock.Shape(configuration.policy)
        guard document.counters.count == document.copies.count else { throw Self.misfit }
        let memories = try zip(document.counters, document.copies).map { number, copies in
            let own = try counters[number] ?? CounterBlock(adopting: file(number), shape: shape)
            (next.counters[number], next.files[number]) = (own, own.file)
            return WorkerMemory(counters: own, copies: try memory(copies))
        }
        let provision = Provision(
            cpus: document.cpus, files: next.texts, configuration: configuration, plumbing: next.plumbing,
            memories: memories, left: try document.left.map(memory),
            adminSocket: try document.adminSocket.map(file), adminPort: try document.adminPort.map(file),
            netlink: try document.netlink.count == 2
                ? (file(document.netlink[0]), file(document.netlink[1])) : nil, report: document.report,
            count: document.count)
        return (provision, next, missing)
    }

    private static let shortage = HostProblem(
        description: """
            the engine may not have all descriptors of it: raise the limit of open files (LimitNOFILE= in \
            the unit)
            """)

    private static let misfit = HostProblem(
        description: "what the supervisor provides does not fit what it has provided before")
}
