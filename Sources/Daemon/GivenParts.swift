// What the supervisor has given its engine so far: each thing crosses once.

import HostPlan
import LinuxIO

/// A value: what an engine did not take is not given.
struct GivenParts {
    private var parts: [Resource.Key: (number: Int, held: Plumbing.Held)] = [:]
    // Held, so that no other one gets its identity.
    private var files: [ObjectIdentifier: (number: Int, file: Descriptor)] = [:]
    private var texts: [HandOver.File] = []
    private var last = 0
    private(set) var sequence: UInt64 = 0

    /// This again, behind a provision that was not taken: neither numbers nor sequences are used twice.
    func again(behind refused: GivenParts) -> GivenParts {
        var again = self
        (again.last, again.sequence) = (refused.last, refused.sequence)
        return again
    }

    /// The engine has not got these.
    mutating func forget(_ numbers: [Int]) {
        parts = parts.filter { !numbers.contains($0.value.number) }
    }

    /// What is to be said of a provision.
    /// - Returns: with what is given once the engine has taken it.
    func document(
        _ provision: Provision
    ) -> (document: ProvisionDocument, descriptors: [Descriptor], next: GivenParts) {
        var next = self
        next.sequence += 1
        (next.parts, next.files, next.texts) = ([:], [:], provision.files)
        var descriptors: [Descriptor] = []
        var (known, new): ([Int], [ProvisionDocument.NewPart]) = ([], [])
        for one in provision.plumbing.ordered {
            if let given = parts[one.resource.key], given.held.handle === one.handle,
                given.held.resource == one.resource
            {
                next.parts[one.resource.key] = given
                known.append(given.number)
            } else if let (piece, own) = Plumbing.piece(one) {
                descriptors += own
                next.last += 1
                next.parts[one.resource.key] = (next.last, one)
                new.append(ProvisionDocument.NewPart(number: next.last, piece: piece))
            }
        }
        var newFiles: [Int] = []
        func number(_ file: Descriptor) -> Int {
            let id = ObjectIdentifier(file)
            if let given = next.files[id] ?? files[id] {
                next.files[id] = given
                return given.number
            }
            descriptors.append(file)
            next.last += 1
            newFiles.append(next.last)
            next.files[id] = (next.last, file)
            return next.last
        }
        let document = ProvisionDocument(
            sequence: next.sequence, cpus: provision.cpus,
            files: provision.files == texts ? nil : provision.files, known: known, new: new,
            absences: provision.plumbing.absences, socketInterfaces: provision.plumbing.socketInterfaces,
            counters: provision.memories.map { number($0.counters.file) },
            copies: provision.memories.map { number($0.copies.file) },
            left: provision.left.map { number($0.file) },
            adminSocket: provision.adminSocket.map { number($0) },
            adminPort: provision.adminPort.map { number($0) },
            netlink: provision.netlink.map { [number($0.notices), number($0.questions)] } ?? [],
            newFiles: newFiles,
            report: provision.report, count: provision.count)
        return (document, descriptors, next)
    }
}
